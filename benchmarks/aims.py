"""What a run aims at: each figure is a ratio within the run, or a time, and its bound."""

from typing import Any, Final

AT: Final = 64
"""Connections at which rates are compared."""


def reached(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Each figure with its aim and whether it was reached."""
    singles = {(row["server"], row["body"], row["connections"]): row for row in results["single"]}

    def rate(server: str, body: str) -> float:
        return float(singles[server, body, AT]["per_second"])

    def p50(server: str, body: str) -> float:
        return float(singles[server, body, 1]["p50_ms"])

    front, embedded, alone = "gateway + TorchServe", "gateway, embedded", "TorchServe, tuned"
    # Of others, the better of the two: what is gained is not threads that get out of each other's way.
    stock = max(rate("stock", "png"), rate("stock, one thread", "png"))
    fastapi = max(rate("FastAPI", "raw"), rate("FastAPI, tuned", "raw"))
    packed, photographs = results["packed"], results["photographs"]
    per_cpu_s = {row["server"]: row["images_per_cpu_s"] for row in results["cores"]}
    growth = max(after / before - 1 for name, (before, after) in results["memory"]["mb"].items() if name != "JVM")
    at_least = [
        ("through TorchServe, PNG, against the better stock TorchServe's PNG", rate(front, "png") / stock, 3.0),
        ("through TorchServe, raw, against the better stock TorchServe's PNG", rate(front, "raw") / stock, 4.0),
        ("through TorchServe, raw, against TorchServe as shipped, PNG", rate(front, "raw") / rate("stock", "png"), 8.0),
        ("through TorchServe, raw, against the better FastAPI", rate(front, "raw") / fastapi, 5.0),
        ("through TorchServe, raw, against tuned TorchServe alone", rate(front, "raw") / rate(alone, "raw"), 1.3),
        ("through TorchServe, raw, against the embedded engine", rate(front, "raw") / rate(embedded, "raw"), 0.6),
        ("through TorchServe, PNG, against raw", rate(front, "png") / rate(front, "raw"), 0.6),
        ("embedded, raw, against the better FastAPI", rate(embedded, "raw") / fastapi, 8.0),
        ("embedded, PNG, against raw", rate(embedded, "png") / rate(embedded, "raw"), 0.6),
    ]
    by_hand = max(photographs["FastAPI"], photographs["FastAPI, tuned"])
    at_least.append(
        (
            "photographs a second of processor time, embedded, against the better FastAPI",
            photographs["gateway, embedded"] / by_hand,
            3.0,
        )
    )
    at_least += [
        (f"bodies of 1,024 images, {name}, against ONNX Runtime alone", packed[name] / packed["ONNX Runtime"], 0.9)
        for name in (f"{front}, binary", f"{embedded}, binary")
    ]
    at_least += [
        (f"images a second of processor time, two {what} against one", per_cpu_s[two] / per_cpu_s[one], 0.9)
        for what, one, two in (
            ("gateways", "embedded, 1", "embedded, 2"),
            ("TorchServe workers", "torchserve, 1", "torchserve, 2"),
        )
    ]
    at_most = [
        (
            "one connection, p50, embedded, against the better FastAPI",
            p50(embedded, "raw") / min(p50("FastAPI", "raw"), p50("FastAPI, tuned", "raw")),
            1.0,
            "x",
        ),
        (
            "one connection, p50, through TorchServe, above its own at batchSize 1",
            p50(front, "raw") - p50("TorchServe, batch 1", "raw"),
            0.4,
            "ms",
        ),
        ("decoding a PNG", results["png_decode_us"], 15, "us"),
        (f"growth of gateway and worker over {results['memory']['requests']:,} requests", 100 * growth, 5, "%"),
    ]
    return [_row(figure, value, aim, "x", value >= aim, ">=") for figure, value, aim in at_least] + [
        _row(figure, value, aim, unit, value <= aim, "<=") for figure, value, aim, unit in at_most
    ]


def _row(figure: str, value: float, aim: float, unit: str, reached: bool, sign: str) -> dict[str, Any]:
    return {"figure": figure, "value": round(value, 2), "aim": f"{sign} {aim:g}", "unit": unit, "reached": reached}
