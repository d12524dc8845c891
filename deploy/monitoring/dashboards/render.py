"""The JSON of a dashboard, as Grafana 11.6 reads it."""

import json
from collections.abc import Iterator
from typing import Any, Final

from deploy.monitoring.dashboards.panels import Dashboard, Panel

SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
"""As grafana/provisioning/datasources/ names it."""

COLUMNS: Final = 24
HEIGHT: Final = 8


def rendered(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    return {
        "uid": f"fashion-mnist-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["fashion-mnist"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "title": "Fashion-MNIST",
                "type": "dashboards",
                "tags": ["fashion-mnist"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "",
                "tooltip": "",
            }
        ],
        "templating": {"list": [_servers()]},
        "annotations": {"list": [_alerts()]},
        "panels": list(_panels(dashboard)),
    }


def text(dashboard: Dashboard) -> str:
    """The file of a dashboard."""
    return json.dumps(rendered(dashboard), indent=1) + "\n"


def _servers() -> dict[str, Any]:
    return {
        "name": "server",
        "label": "Server",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(serving_ready, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": SOURCE,
        "expr": 'ALERTS{alertstate="firing"}',
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    ids = iter(range(1, 1000))
    y = 0
    for title, panels in dashboard.rows.items():
        yield {
            "id": next(ids),
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }
        y += 1
        x = 0
        for panel in panels:
            height = HEIGHT // 2 if panel.kind == "stat" else HEIGHT
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            yield _panel(panel, next(ids), {"x": x, "y": y, "w": panel.width, "h": height})
            x += panel.width
        y += height


def _panel(panel: Panel, id: int, position: dict[str, int]) -> dict[str, Any]:
    options, custom = _looks(panel)
    defaults: dict[str, Any] = {"unit": panel.unit, "custom": custom}
    if panel.kind == "heatmap":
        del defaults["unit"]  # of a heat map the axis has it, see `_looks`
    return {
        "id": id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": position,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query.replace("SERVER", 'instance=~"$server"'),
                "legendFormat": legend,
                "format": "heatmap" if panel.kind == "heatmap" else "time_series",
                "range": True,
                "instant": False,
            }
            for place, (query, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def _looks(panel: Panel) -> tuple[dict[str, Any], dict[str, Any]]:
    """A panel's options, and those of its fields."""
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {
                "mode": "scheme",
                "scheme": "Oranges",
                "steps": 64,
                "exponent": 0.5,
                "fill": "dark-orange",
                "reverse": False,
            },
            "filterValues": {"le": 1e-9},
            "yAxis": {"unit": panel.unit, "axisPlacement": "left", "reverse": False},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "yHistogram": True},
            "legend": {"show": True},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
        }, {}
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
            "graphMode": "area",
            "colorMode": "value",
            "justifyMode": "auto",
            "textMode": "auto",
            "wideLayout": True,
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
            "orientation": "auto",
        }, {}
    stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }, {"fillOpacity": 20 if panel.stacked else 0, "stacking": stacking}
