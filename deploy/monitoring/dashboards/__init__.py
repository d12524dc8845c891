"""Grafana's dashboards, as a table of panels and the JSON that is made of it.

`make dashboards` writes that. It is kept in git, so that nothing need be built for a start, and a test compares it with
the table. By hand it would be some three thousand lines, most of which say the same for each panel.
"""

from pathlib import Path
from typing import Final

from deploy.monitoring.dashboards.model import MODEL
from deploy.monitoring.dashboards.resources import RESOURCES
from deploy.monitoring.dashboards.service import SERVICE

ALL: Final = (SERVICE, RESOURCES, MODEL)

FOLDER: Final = Path(__file__).parents[1] / "grafana" / "dashboards"
"""Where Grafana finds them."""
