"""Regions of a label over two axes of a sweep: where one thing happens, and where another.

Each cell of the grid shows its label. Regions differ by colour, by a symbol and by their name, so that the figure reads
without colour, and lines mark where they meet.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from plotly import graph_objects as go

from superpose.plot import places
from superpose.plot.template import BLACK, ORANGE, PALE, PURPLE, SKY, TEMPLATE, log_axis

Scale = Literal["linear", "log"]

COLOURS = (PALE, SKY, ORANGE, "#5CC3A0", PURPLE, "#F0E442", "#E88D5F", "#B9A48A")
SYMBOLS = ("circle", "square", "x", "diamond", "triangle-up", "cross", "star", "pentagon")
"""One of each a label; from the ninth label on the same colours with other symbols."""
MOST = len(COLOURS) * len(SYMBOLS)
SYMBOLS_ALONG = 8
MOST_TICKS = 9


class Axis(NamedTuple):
    """An axis of the figure: what it shows, ascending centres of its cells, whether it is logarithmic and runs backwards."""

    name: str
    centres: Float[np.ndarray, " cells"]
    log: bool
    backwards: bool

    @property
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Edges of the cells, half way (on a logarithmic axis in the logarithm) to their neighbours."""
        u = np.log10(self.centres) if self.log else self.centres
        half = np.diff(u) / 2 if len(u) > 1 else np.array([0.1 if self.log else 0.5])
        edges = np.concatenate([[u[0] - half[0]], u[:-1] + np.diff(u) / 2, [u[-1] + half[-1]]])
        return 10.0**edges if self.log else edges


def regions(
    dataset: xr.Dataset,
    *,
    x: str,
    y: str,
    label: str = "label",
    names: Mapping[Any, str] | None = None,
    x_scale: Scale | None = None,
    y_scale: Scale | None = None,
) -> go.Figure:
    """Regions of equal `label` over the axes `x` and `y`, with their boundaries, their names and a legend.

    Each axis runs as its coordinate does, rising or falling. Its title is the coordinate's attribute `long_name`, or its name,
    with its attribute `units`; the legend's title is that of the label.

    Args:
        dataset: what `sweep.label` or `sweep.result` returned, or any other with labelled axes.
        x: the dimension that runs to the right; its coordinate is numbers, ascending or descending.
        y: the dimension that runs upwards, likewise.
        label: the variable whose regions to show: integers, booleans or text, over `x` and `y` alone.
        names: what to call each value of the label, in the legend's order; other values follow, in ascending order, as they are.
        x_scale: "linear" or "log"; None takes "log" where the coordinate spans ten times or more, more evenly in its logarithm.
        y_scale: the same for `y`.

    Raises:
        ValueError: no such axis or variable; further dimensions; a coordinate that is not numbers, not finite, or neither
            ascending nor descending; a logarithmic scale of numbers that are not positive; a label of another type, or of more
            than 64 values.
    """
    if x == y:
        raise ValueError(f"x = {x}, y = {y}: needs two different dimensions of the dataset")
    across, up = _axis(dataset, "x", x, x_scale), _axis(dataset, "y", y, y_scale)
    values = _values(dataset, label, x, y)
    values = values[:: -1 if up.backwards else 1, :: -1 if across.backwards else 1]
    shown = list(names or {})
    shown += [value for value in np.unique(values).tolist() if value not in shown]
    if len(shown) > MOST:
        raise ValueError(f"label = {label}: has {len(shown)} values, needs at most {MOST}")
    codes = np.zeros(values.shape, int)
    for k, value in enumerate(shown):
        codes[values == value] = k
    figure = draw(codes, [str((names or {}).get(value, value)) for value in shown], across, up)
    figure.add_trace(_boundaries(codes, across, up))
    return figure.update_layout(legend_title={"text": _title(dataset[label]) + ":", "side": "top"})


def draw(codes: Int[np.ndarray, "y x"], names: Sequence[str], x: Axis, y: Axis) -> go.Figure:
    """Cells, symbols and names of regions; `codes` are indices into `names`, over ascending centres of both axes."""
    figure = go.Figure(_cells(codes, names, x, y))
    for k, name in enumerate(names):
        colour, symbol = COLOURS[k % len(COLOURS)], SYMBOLS[(k + k // len(COLOURS)) % len(SYMBOLS)]
        half = places.half_width(name)
        figure.add_trace(_symbols(codes == k, name, colour, symbol, half, x, y))
        cell = places.name_cell(codes == k, half)
        if cell is not None:
            at = zip("xy", (x, y), cell[::-1], strict=True)
            place = {side: np.log10(axis.centres[j]) if axis.log else axis.centres[j] for side, axis, j in at}
            look = {"showarrow": False, "bgcolor": colour, "borderpad": 2, "font": {"color": BLACK}}
            figure.add_annotation(place, text=f"<b>{html.escape(name)}</b>", **look)
    figure.update_xaxes(_look(x)).update_yaxes(_look(y))
    return figure.update_layout(template=TEMPLATE, legend={"traceorder": "normal"}, hoverdistance=6)


def _axis(dataset: xr.Dataset, side: str, name: str, scale: Scale | None) -> Axis:
    """The coordinate of a dimension as an axis."""
    if name not in dataset.dims:
        raise ValueError(f"{side} = {name}: needs a dimension of the dataset, one of {_listed(dataset.dims)}")
    centres = dataset[name].values
    if centres.dtype.kind not in "iuf" or not np.isfinite(centres).all():
        raise ValueError(f"{side} = {name}: has a coordinate of {centres.dtype}, needs finite numbers")
    centres, steps = centres.astype(float), np.diff(centres.astype(float))
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"{side} = {name}: needs an ascending or descending coordinate; dataset.sortby({name!r}) makes one")
    if scale not in (None, "linear", "log"):
        raise ValueError(f"{side}_scale = {scale}: needs 'linear', 'log' or None")
    positive = bool((centres > 0).all())
    if scale == "log" and not positive:
        raise ValueError(f"{side}_scale = log: needs a positive coordinate, {name} goes down to {centres.min():g}")
    backwards = bool((steps < 0).any())
    log = scale == "log" or (scale is None and positive and _logarithmic(centres))
    return Axis(_title(dataset[name]), centres[:: -1 if backwards else 1], log, backwards)


def _logarithmic(centres: Float[np.ndarray, " cells"]) -> bool:
    """Whether positive numbers span ten times or more, and their logarithms are spaced at least as evenly as they are."""

    def unevenness(u: np.ndarray) -> float:
        steps = np.abs(np.diff(u))
        return float(steps.max() / steps.min())

    wide = centres.max() >= 10 * centres.min()
    return bool(wide) and unevenness(np.log(centres)) <= unevenness(centres) * (1 + 1e-9)


def _values(dataset: xr.Dataset, label: str, x: str, y: str) -> np.ndarray:
    """The labels over (y, x): integers, booleans or text."""
    if label not in dataset:
        raise ValueError(f"label = {label}: needs a variable of the dataset, one of {_listed(dataset.data_vars)}")
    variable = dataset[label]
    further = [str(name) for name in variable.dims if name not in (x, y)]
    if further:
        select = ", ".join(f"{name}=0" for name in further)
        raise ValueError(f"label = {label}: has further dimensions; needs a selection, say dataset.isel({select})")
    if set(variable.dims) != {x, y}:
        raise ValueError(f"label = {label}: lies over ({_listed(variable.dims)}), needs {x} and {y}")
    values = variable.transpose(y, x).values
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)
    if values.dtype.kind not in "biuU":
        raise ValueError(f"label = {label}: holds {values.dtype}, needs integers, booleans or text")
    return values


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))


def _title(variable: xr.DataArray) -> str:
    """What a variable is called, with its units."""
    name = str(variable.attrs.get("long_name", variable.name))
    return f"{name} ({variable.attrs['units']})" if "units" in variable.attrs else name


def _cells(codes: np.ndarray, names: Sequence[str], x: Axis, y: Axis) -> go.Heatmap:
    """One coloured cell a grid point."""
    count = len(names)
    scale = [[(k + side) / count, COLOURS[k % len(COLOURS)]] for k in range(count) for side in (0, 1)]
    look = {"zmin": -0.5, "zmax": count - 0.5, "colorscale": scale, "showscale": False, "name": "label"}
    said = [html.escape(name) for name in names]
    text = [
        [f"{x.name} {a:.4g}<br>{y.name} {b:.4g}<br>{said[k]}" for a, k in zip(x.centres, row, strict=True)]
        for b, row in zip(y.centres, codes, strict=True)
    ]
    return go.Heatmap(z=codes, x=x.edges, y=y.edges, hovertext=text, hoverinfo="text", **look)


def _symbols(region: np.ndarray, name: str, colour: str, symbol: str, half: float, x: Axis, y: Axis) -> go.Scatter:
    """A sparse grid of symbols over a region; it carries the legend, even of no region."""
    i, j = places.symbol_cells(region, count=min(SYMBOLS_ALONG, *region.shape), half_width=half).T
    at = {"x": x.centres[j], "y": y.centres[i]} if len(i) else {"x": [None], "y": [None]}
    marker = {"symbol": symbol, "size": 7, "color": colour, "line": {"color": BLACK, "width": 1}}
    return go.Scatter(at, mode="markers", marker=marker, name=html.escape(name), hoverinfo="skip", showlegend=True)


def _boundaries(codes: np.ndarray, x: Axis, y: Axis) -> go.Scatter:
    """Lines along the edges between cells of different labels."""
    across, up = places.boundary_lines(codes, x.edges, y.edges)
    line = {"color": BLACK, "width": 1}
    return go.Scatter(x=across, y=up, mode="lines", line=line, name="boundaries", hoverinfo="skip", showlegend=False)


def _look(axis: Axis) -> dict[str, Any]:
    """Title, range and ticks: on a logarithmic axis at 1 and 3 times powers of ten, or at these alone where it spans many."""
    ends = axis.edges[[0, -1]]
    if not axis.log:
        return {"title_text": axis.name, "range": ends[:: -1 if axis.backwards else 1]}
    looks = (log_axis(*digits) for digits in ((1, 3), (1,)))
    fits = (look for look in looks if 1 < sum(ends[0] <= value <= ends[1] for value in look["tickvals"]) <= MOST_TICKS)
    range_ = np.log10(ends)[:: -1 if axis.backwards else 1]
    return next(fits, {"type": "log"}) | {"title_text": f"{axis.name}, log scale", "range": range_}
