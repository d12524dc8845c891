"""`python -m deploy.monitoring.dashboards`: write the JSON anew."""

from deploy.monitoring.dashboards import ALL, FOLDER
from deploy.monitoring.dashboards.render import text

if __name__ == "__main__":
    for dashboard in ALL:
        (FOLDER / f"{dashboard.name}.json").write_text(text(dashboard))
