"""Regions of a label over two axes of a sweep, and one call that gives any figure another look."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import phase, plot, sweep
from superpose.plot import places, template

pytestmark = pytest.mark.x64

LENGTH, DEGREES = np.geomspace(1, 0.02, 9), np.linspace(0, 180, 13)
NAMES = dict(enumerate(phase.LABELS))


@pytest.fixture(scope="module")
def swept():
    """Labels of 4 features in a plane: the first along an axis, two of no length, the last of a length and an angle to it."""

    def one(point):
        angle = jnp.deg2rad(point["degrees"])
        last = point["length"] * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return {"label": phase.label(jnp.stack([jnp.array([1.0, 0]), *jnp.zeros((2, 2)), last], axis=1))}

    axes = {"length": LENGTH, "degrees": DEGREES}
    return sweep.label(sweep.run(one, sweep.grid(axes)), axes, {"label": ["feature"]})


def grid(values, x=(1.0, 2.0, 3.0), y=(1.0, 2.0), **attrs):
    """A variable `kind` over ascending y, rows, and x."""
    return xr.Dataset({"kind": (("y", "x"), np.array(values), attrs)}, {"x": list(x), "y": list(y)})


def symbols(figure):
    """The traces that carry the legend, one a label."""
    return [trace for trace in figure.select_traces({"type": "scatter", "mode": "markers"})]


def drawn(figure):
    """The label of each cell by what the legend calls it, rows in ascending order of y."""
    return np.array([trace.name for trace in symbols(figure)])[figure.data[0].z]


def test_cells_of_a_sweep_show_their_labels(swept):
    """By construction: ignored up to length 0.1; stored at a right angle to the first; else superposed."""
    data = swept.isel(feature=3)
    data["degrees"].attrs["units"] = "°"
    figure = plot.regions(data, x="length", y="degrees", names=NAMES)
    length, degrees = np.meshgrid(LENGTH[::-1], DEGREES)
    expected = np.where(length <= 0.1, "ignored", np.where(degrees == 90, "stored", "superposed"))
    np.testing.assert_array_equal(drawn(figure), expected)
    across, up = figure.layout.xaxis, figure.layout.yaxis
    assert (across.type, up.type) == ("log", None)
    assert (across.title.text, up.title.text) == ("length, log scale", "degrees (°)")
    np.testing.assert_allclose(10.0 ** np.array(across.range), (LENGTH[[0, -1]] * (LENGTH[0] / LENGTH[1]) ** [0.5, -0.5]))
    np.testing.assert_allclose(up.range, [-7.5, 187.5])  # 15 degrees a cell
    assert figure.layout.legend.title.text == "label:"
    assert {"<b>ignored</b>", "<b>superposed</b>"} <= {note.text for note in figure.layout.annotations}
    assert figure.data[0].hovertext[0][-1] == "length 1<br>degrees (°) 0<br>superposed"


def test_symbols_lie_in_their_regions(swept):
    data = swept.isel(feature=3)
    figure = plot.regions(data, x="length", y="degrees", names=NAMES)
    for k, name in NAMES.items():
        (trace,) = figure.select_traces({"name": name})
        if trace.x[0] is None:  # no room but for its name
            assert f"<b>{name}</b>" in [note.text for note in figure.layout.annotations]
            continue
        x, y = (xr.DataArray(np.array(at, float), dims="place") for at in (trace.x, trace.y))
        assert np.all(data["label"].sel(length=x, degrees=y, method="nearest") == k), name


def test_boundaries_are_lines_between_different_cells():
    figure = plot.regions(grid([["a", "a", "b"], ["a", "b", "b"]]), label="kind", x="x", y="y")
    (lines,) = figure.select_traces({"mode": "lines"})
    ends = {tuple(zip(lines.x[k : k + 2], lines.y[k : k + 2], strict=True)) for k in range(0, len(lines.x), 3)}
    upright = {((1.5, 1.5), (1.5, 2.5)), ((2.5, 0.5), (2.5, 1.5))}
    assert ends == upright | {((1.5, 1.5), (2.5, 1.5))}
    assert np.isnan(lines.x[2::3]).all()
    assert np.isnan(lines.y[2::3]).all()


def test_straight_boundary_is_one_line():
    codes = np.repeat([[0, 0, 1, 1]], 6, axis=0)
    x, y = places.boundary_lines(codes, np.arange(5.0), np.arange(7.0))
    np.testing.assert_array_equal(x, [2, 2, np.nan])
    np.testing.assert_array_equal(y, [0, 6, np.nan])


@pytest.mark.parametrize(
    ("values", "names", "legend"),
    [
        ([[3, 3, 0], [7, 0, 0]], None, ["0", "3", "7"]),
        ([[3, 3, 0], [7, 0, 0]], {7: "seven", 5: "five"}, ["seven", "five", "0", "3"]),
        ([[True, False, True]] * 2, None, ["False", "True"]),
        ([[True, False, True]] * 2, {True: "shared", False: "alone"}, ["shared", "alone"]),
        ([["pair & one", "none", "none"]] * 2, None, ["none", "pair &amp; one"]),
        (np.array([["b", "a", "a"]] * 2, object), None, ["a", "b"]),
    ],
)
def test_labels_of_any_kind(values, names, legend):
    figure = plot.regions(grid(values, long_name="what it is"), label="kind", x="x", y="y", names=names)
    assert [trace.name for trace in symbols(figure)] == legend
    called = (names or {}).get
    expected = [[str(called(value, value)).replace("&", "&amp;") for value in row] for row in np.array(values).tolist()]
    np.testing.assert_array_equal(drawn(figure), expected)
    assert figure.layout.legend.title.text == "what it is:"


def test_many_labels_differ_in_colour_or_symbol():
    values = np.arange(20).reshape(4, 5)
    figure = plot.regions(grid(values, range(5), range(4)), label="kind", x="x", y="y")
    looks = {(trace.marker.color, trace.marker.symbol) for trace in symbols(figure)}
    assert len(looks) == 20
    colours = [colour for _, colour in figure.data[0].colorscale[::2]]
    assert colours == [trace.marker.color for trace in symbols(figure)]


@pytest.mark.parametrize(
    ("x", "stated", "log"),
    [
        (np.geomspace(1, 0.01, 5), None, True),
        (np.linspace(0.1, 10, 5), None, False),
        ([0.01, 1.0], None, True),
        ([1.0, 2.0, 4.0], None, False),  # less than ten times
        (np.geomspace(1, 0.01, 5), "linear", False),
        (np.linspace(0.1, 10, 5), "log", True),
        ([-1.0, 0, 1], None, False),
        ([5], None, False),
        (np.geomspace(1e-20, 1, 5), None, True),
    ],
)
def test_scale_is_detected_or_stated(x, stated, log):
    figure = plot.regions(grid([np.arange(len(x)) % 2] * 2, x), label="kind", x="x", y="y", x_scale=stated)
    assert (figure.layout.xaxis.type == "log") == log
    assert ("log scale" in figure.layout.xaxis.title.text) == log
    edges = np.array(figure.data[0].x)
    ascending = np.sort(np.array(x, float))
    assert np.all(edges[:-1] < ascending)
    assert np.all(ascending < edges[1:])
    assert (figure.layout.xaxis.range[0] < figure.layout.xaxis.range[1]) == (len(x) == 1 or x[0] < x[-1])


PLAIN = grid([[0, 1, 0], [1, 1, 0]])


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (PLAIN, {"x": "z"}, "x = z: needs a dimension of the dataset, one of "),
        (PLAIN, {"y": "x"}, "x = x, y = x: needs two different dimensions of the dataset"),
        (PLAIN, {"label": "what"}, "label = what: needs a variable of the dataset, one of kind"),
        (PLAIN.expand_dims(run=2), {}, "label = kind: has further dimensions; needs a selection, say dataset.isel(run=0)"),
        (PLAIN.isel(x=0).expand_dims(z=[1, 2]).assign_coords(x=[1, 2, 3]), {}, "needs a selection, say dataset.isel(z=0)"),
        (PLAIN.assign(kind=PLAIN["kind"].isel(x=0)), {}, "label = kind: lies over (y), needs x and y"),
        (
            PLAIN.assign_coords(x=[1, 3, 2]),
            {},
            "x = x: needs an ascending or descending coordinate; dataset.sortby('x') makes one",
        ),
        (PLAIN.assign_coords(x=["a", "b", "c"]), {}, "x = x: has a coordinate of <U1, needs finite numbers"),
        (PLAIN.assign_coords(y=[1, np.nan]), {}, "y = y: has a coordinate of float64, needs finite numbers"),
        (
            PLAIN.assign_coords(y=[0, 1.0]),
            {"y_scale": "log"},
            "y_scale = log: needs a positive coordinate, y goes down to 0",
        ),
        (PLAIN.assign(kind=PLAIN["kind"] / 2), {}, "label = kind: holds float64, needs integers, booleans or text"),
        (grid(np.arange(65)[None], range(65), [0]), {}, "label = kind: has 65 values, needs at most 64"),
    ],
)
def test_mistakes_are_named_in_one_line(data, arguments, message):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        plot.regions(data, **({"x": "x", "y": "y", "label": "kind"} | arguments))
    assert message in str(caught.value)


# --- another look


def sizes(figure):
    """All font sizes that a figure states, where they stand."""

    def found(part, place=()):
        if isinstance(part, dict):
            for name, item in part.items():
                if name.endswith("font") and "size" in item:
                    yield (*place, name), np.asarray(item["size"], float)
                yield from found(item, (*place, name))
        elif isinstance(part, list | tuple):
            for k, item in enumerate(part):
                yield from found(item, (*place, k))

    return dict(found({"layout": figure.layout.to_plotly_json(), "data": [x.to_plotly_json() for x in figure.data]}))


def busy():
    """Text of every kind: titles of panels, notes, bars' texts, a colour bar, a legend."""
    figure = make_subplots(cols=2, subplot_titles=("one", "other")).update_layout(template=template.TEMPLATE)
    figure.add_trace(go.Bar(x=[1, 2], y=[1, 2], text=["a", "b"], textfont={"size": [10, 11]}), row=1, col=1)
    figure.add_trace(go.Heatmap(z=[[1, 2]], colorbar={"title": {"text": "z", "font": {"size": 15}}}), row=1, col=2)
    return figure.add_annotation(x=1, y=1, text="note", font_size=14).add_annotation(x=1, y=2, text="plain")


def test_restyle_scales_all_text():
    figure = busy()
    before, base = sizes(figure), template.TEMPLATE.layout.font.size
    after = sizes(plot.restyle(figure, font_size=2 * base))
    assert {("layout", "annotations", 0, "font"), ("layout", "annotations", 2, "font"), ("data", 0, "textfont")} <= set(
        before
    )
    assert ("layout", "template", "layout", "xaxis", "title", "font") in before
    for place, size in before.items():
        np.testing.assert_allclose(after[place], 2 * size, err_msg=str(place))
    assert set(after) - set(before) == {("layout", "font")}
    assert after["layout", "font"] == 2 * base
    for place, size in sizes(figure).items():
        np.testing.assert_array_equal(size, before[place])


def test_restyle_takes_a_template_and_keeps_the_rest():
    figure = plot.restyle(busy(), template="plotly_dark")
    assert figure.layout.template.layout.paper_bgcolor == "rgb(17,17,17)"
    assert len(figure.layout.annotations) == 4
    assert figure.layout.annotations[2].font.size == 14
    figure.update_xaxes(title_text="still two panels", row=1, col=2)
    assert figure.layout.xaxis2.title.text == "still two panels"
    assert plot.restyle(go.Figure(), font_size=9).layout.font.size == 9
    with pytest.raises(ValueError, match="font_size = 0: needs to be positive"):
        plot.restyle(figure, font_size=0)


def test_names_in_regions_take_the_figures_font(swept):
    figure = plot.regions(swept.isel(feature=3), x="length", y="degrees", names=NAMES)
    for drawing in (figure, plot.features_in_plane(np.zeros((2, 1)))):
        assert drawing.layout.annotations
        assert all(note.font.size is None for note in drawing.layout.annotations)
