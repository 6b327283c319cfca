"""The figure of `python -m benchmarks.growth`: results/growth.json to results/growth.html and docs/growth.png; needs chromium."""

import json
from pathlib import Path

from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose.plot.template import BLUE, TEMPLATE, VERMILION, log_axis

AXES = ("n", "m", "cells", "nodes", "devices")
UNITS = {"seconds": ("ms a step", 1e3), "bytes": ("MB a device", 1e-6)}


def growth(report: dict) -> go.Figure:
    """Time above memory, against each axis with the others at the base."""
    figure = make_subplots(
        rows=2, cols=len(AXES), shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.02, vertical_spacing=0.06
    )
    for column, axis in enumerate(AXES, 1):
        others = {name: value for name, value in report["base"].items() if name != axis}
        rows = sorted((r for r in report["rows"] if others.items() <= r.items()), key=lambda r: r[axis])
        for row, (quantity, (unit, scale)) in enumerate(UNITS.items(), 1):
            for trace in traces(rows, axis, quantity, scale, legend=row == column == 1):
                figure.add_trace(trace, row=row, col=column)
            figure.update_yaxes(title_text=unit if column == 1 else None, **log_axis(1, 3), row=row, col=column)
            figure.update_xaxes(type="log", tickvals=[r[axis] for r in rows], row=row, col=column)
        figure.update_xaxes(title_text=axis, row=2, col=column)
    figure.update_layout(template=TEMPLATE, width=1200, height=560)
    return figure


def traces(rows: list[dict], axis: str, quantity: str, scale: float, *, legend: bool) -> list[go.Scatter]:
    """The model's line, and a mark for each measurement: filled where the model was fitted to it."""
    line = go.Scatter(
        x=[row[axis] for row in rows],
        y=[row[f"{quantity} predicted"] * scale for row in rows],
        mode="lines",
        name="model",
        line={"color": VERMILION},
        showlegend=legend,
    )
    marks = [
        go.Scatter(
            x=[row[axis] for row in rows if row["fitted"] == fitted],
            y=[row[quantity] * scale for row in rows if row["fitted"] == fitted],
            mode="markers",
            name=f"measured, {'fitted' if fitted else 'not fitted'}",
            marker={"color": BLUE if fitted else "white", "size": 8, "line": {"color": BLUE, "width": 1.5}},
            showlegend=legend,
        )
        for fitted in (True, False)
    ]
    return [line, *marks]


def main() -> None:
    """Draw both."""
    figure = growth(json.loads(Path("results/growth.json").read_text()))
    figure.write_html("results/growth.html", include_plotlyjs="cdn")
    figure.write_image("docs/growth.png")
    print("results/growth.html docs/growth.png")


if __name__ == "__main__":
    main()
