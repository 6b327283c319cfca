"""The figure of `python -m benchmarks.growth`: results/growth.json to results/growth.html, and nothing measured again."""

import json
from pathlib import Path

from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose.plot.template import BLUE, TEMPLATE, VERMILION

AXES = ("n", "m", "cells", "nodes", "devices")
UNITS = {"seconds": ("ms a step", 1e3), "bytes": ("MB a device", 1e-6)}


def growth(report: dict) -> go.Figure:
    """Time above memory, against each axis with the others at the base; filled marks were fitted, open ones were not."""
    figure = make_subplots(rows=2, cols=len(AXES), shared_xaxes=True, horizontal_spacing=0.04, vertical_spacing=0.06)
    for column, axis in enumerate(AXES, 1):
        others = {name: value for name, value in report["base"].items() if name != axis}
        rows = sorted((r for r in report["rows"] if others.items() <= r.items()), key=lambda r: r[axis])
        for row, (quantity, (unit, scale)) in enumerate(UNITS.items(), 1):
            for trace in traces(rows, axis, quantity, scale, legend=row == column == 1):
                figure.add_trace(trace, row=row, col=column)
            figure.update_yaxes(title_text=unit if column == 1 else None, type="log", row=row, col=column)
            figure.update_xaxes(type="log", row=row, col=column)
        figure.update_xaxes(title_text=axis, row=2, col=column)
    figure.update_layout(template=TEMPLATE, width=1200, height=560)
    return figure


def traces(rows: list[dict], axis: str, quantity: str, scale: float, *, legend: bool) -> list[go.Scatter]:
    """The model's line, and a mark for each measurement."""
    x = [row[axis] for row in rows]
    model = [row[f"{quantity} predicted"] * scale for row in rows]
    line = go.Scatter(x=x, y=model, mode="lines", name="model", line={"color": VERMILION}, showlegend=legend)
    colours = [BLUE if row["fitted"] else "white" for row in rows]
    mark = {"color": colours, "size": 8, "line": {"color": BLUE, "width": 1.5}}
    y = [row[quantity] * scale for row in rows]
    return [line, go.Scatter(x=x, y=y, mode="markers", name="measured", marker=mark, showlegend=legend)]


def main() -> None:
    """Draw results/growth.html."""
    growth(json.loads(Path("results/growth.json").read_text())).write_html("results/growth.html", include_plotlyjs="cdn")
    print("results/growth.html")


if __name__ == "__main__":
    main()
