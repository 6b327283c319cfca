"""Figures from synthetic arrays: what they show, what they say on hovering, and what they refuse."""

import numpy as np
import pytest
import xarray as xr
from plotly import graph_objects as go

from superpose.plot import features_in_plane, gram_matrix, norm_and_interference, phase_diagram

pytestmark = pytest.mark.x64

GRID = ("density", "importance")
PENTAGON = np.stack([np.cos(0.4 * np.pi * np.arange(5)), np.sin(0.4 * np.pi * np.arange(5))])


def exact_boundary(p):
    """Roughly the exact one for n=2, m=1: I_sp, lowered below p = .52."""
    c = p / 2 + 2 * (1 - p) ** 2
    B = np.where(p < 1, (-c + np.sqrt(c**2 + (1 - p) * p**3)) / np.where(p < 1, 2 * (1 - p) * p, 1), p / 2)
    f = p * ((B - p / 2) ** 2 / 4 + p / 3 - p**2 / 4) + (1 - p) * ((1 - p) * B**2 + p * B**3 / 3)
    return f / (p / 3 - p**2 / 4) * np.where(p < 0.52, 1 - 0.52 * (1 - p / 0.52), 1)


def published_boundaries(p, *, n):
    """The published theory's lower curve, `2p/(4-5p)` below p = 4/7, and upper one; above 4/7, 1 and nan."""
    shared = p < 4 / 7
    low = np.where(shared, 2 * p / np.where(shared, 4 - 5 * p, 1), 1)
    return low, np.where(shared, 1 / low if n == 2 else 1.0, np.nan)


def between(importance, low, high):
    """Labels: ignored below `low`, else stored alone above `high`, else superposed."""
    label = np.where(importance > high[:, None], 1, 2)
    return np.where(importance < low[:, None], 0, label).astype(np.int8)


def saved(*, n=2, m=1, cells=12, restarts=3, theory=True, seed=0):
    """What a figure needs of a saved phase diagram: random numbers but for its labels and boundaries."""
    p, importance = np.logspace(0, -2, cells), np.logspace(-1, 1, cells + 1)
    low, high = published_boundaries(p, n=n)
    grid = between(importance, low, np.nan_to_num(high))
    data = xr.Dataset(coords={"density": p, "importance": importance}, attrs={"n": n, "m": m})
    rng, shape = np.random.default_rng(seed), (len(p), len(importance), restarts)
    each = (*GRID, "restart")
    data["W"] = (*each, "hidden", "feature"), rng.normal(size=(*shape, m, n))
    data["b"] = (*each, "feature"), rng.normal(size=(*shape, n))
    data["loss"] = each, rng.uniform(size=shape)
    data["gradient_norm"] = each, 1e-13 * rng.uniform(1, 9, size=shape)
    data["converged"] = each, np.ones(shape, np.int8)
    data["best"] = GRID, data["loss"].values.argmin(-1).astype(np.int32)
    label = np.stack([np.ones_like(grid)] * (n - 1) + [grid], axis=-1)
    label[..., 0] = np.where(grid == 2, 2, np.where(grid == 1, 0, 1))
    data["label"] = (*GRID, "feature"), label
    if theory:
        data["published_label"] = GRID, grid
    if theory and n == 2:
        data["published_boundary_lower"] = "density", np.where(np.isnan(high), np.nan, low)
        data["published_boundary_upper"] = "density", high
        data["exact_boundary"] = "density", exact_boundary(p)
        data["exact_order"] = "density", np.where((p > 0.5202) & (p < 0.8373), 2, 1).astype(np.int8)
        data["label"][..., -1] = between(importance, exact_boundary(p), 1 / exact_boundary(p))
    return data


def texts(value):
    """Every string in a figure's dictionary, its hover texts and template among them."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, np.ndarray):
        return texts(value.tolist())
    if isinstance(value, list | tuple):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def traces(figure, name):
    return [trace for trace in figure.data if trace.name == name]


FIGURES = {
    "two features": lambda: phase_diagram(saved()),
    "three features": lambda: phase_diagram(saved(n=3, m=2)),
    "no theory": lambda: phase_diagram(saved(theory=False), feature=0),
    "one cell": lambda: phase_diagram(saved().isel(density=[0], importance=[3])),
    "Gram and bias": lambda: gram_matrix(PENTAGON, np.linspace(-1, 1, 5)),
    "Gram of zeros": lambda: gram_matrix(np.zeros((2, 40))),
    "plane, importance": lambda: features_in_plane(PENTAGON, 0.9 ** np.arange(5)),
    "plane, zeros": lambda: features_in_plane(np.zeros((2, 12)), np.ones(12)),
    "bars": lambda: norm_and_interference(PENTAGON),
}


@pytest.mark.parametrize("build", FIGURES.values(), ids=FIGURES)
def test_every_figure_has_titled_axes_and_no_latex(build):
    """A dollar sign would start LaTeX. `bars` has two panels over one title of the x axis."""
    figure = build()
    assert isinstance(figure, go.Figure)
    assert figure.layout.template.layout.font.family
    assert not [text for text in texts(figure.to_dict()) if "$" in text]
    assert figure.layout.xaxis.title.text or figure.layout.xaxis2.title.text
    assert figure.layout.yaxis.title.text


def test_phase_diagram_cells():
    """Cells carry the last feature's labels, over ascending edges; the legend has all three labels."""
    data = saved()
    figure = phase_diagram(data)
    cells = figure.data[0]
    np.testing.assert_array_equal(cells.z, data["label"][..., -1].values.T[:, ::-1])
    assert len(cells.x) == data.sizes["density"] + 1
    assert np.all(cells.x[:-1] < data["density"].values[::-1])
    assert np.all(cells.x[1:] > data["density"].values[::-1])
    symbols = [traces(figure, name)[0].marker.symbol for name in ("ignored", "stored alone", "superposed")]
    assert len(set(symbols)) == 3
    assert {"<b>ignored</b>", "<b>superposed</b>"} <= {note.text for note in figure.layout.annotations}
    assert "feature 2 of n = 2, m = 1" in figure.layout.legend.title.text
    assert "density" in figure.layout.xaxis.title.text
    assert figure.layout.xaxis.range[0] > figure.layout.xaxis.range[1]  # sparser to the right
    assert [figure.layout.xaxis.type, figure.layout.yaxis.type] == ["log", "log"]


def test_phase_diagram_symbols_lie_in_their_regions():
    data = saved(cells=50).sortby(["density", "importance"])
    figure = phase_diagram(data)
    for k, name in enumerate(("ignored", "stored alone", "superposed")):
        (trace,) = traces(figure, name)
        chosen = data["label"][..., -1].sel(density=xr.DataArray(trace.x), importance=xr.DataArray(trace.y))
        assert chosen.size >= 3
        assert np.all(chosen == k)


def test_phase_diagram_hover_tells_the_best_restart():
    data = saved(n=3, m=2)
    data["converged"][0, 0] = 0  # of density 1 and importance 0.1
    cell = data.isel(density=4, importance=7)
    best = cell.isel(restart=int(cell["best"]))
    figure = phase_diagram(data)
    hover = figure.data[0].hovertext
    text = hover[7][len(hover[0]) - 1 - 4]  # densities are saved falling, drawn rising
    assert f"density {float(cell['density']):.4g}, importance {float(cell['importance']):.4g}" in text
    assert f"loss {float(best['loss']):.6g}" in text
    assert f"gradient norm {float(best['gradient_norm']):.1e} (converged)" in text
    assert f"{float(best['W'][1, 2]):.3f}".replace("-", "−") in text
    assert f"{float(best['b'][2]):.3f}".replace("-", "−") in text
    assert cell["label"].values.tolist() == [0, 1, 1]  # by the published theory, which `saved` takes
    assert "0 ignored, 1 stored alone, 2 stored alone" in text
    assert "not converged" in hover[0][len(hover[0]) - 1]
    (dots,) = traces(figure, "not converged")
    np.testing.assert_allclose([*dots.x, *dots.y], [1, 0.1])


def test_phase_diagram_boundaries():
    """With n = 2 the published lines are the dataset's, the exact ones come with their mirror image."""
    data = saved(cells=50).sortby("density")
    figure = phase_diagram(data)
    published = traces(figure, "published theory")
    np.testing.assert_array_equal(published[0].y, data["published_boundary_lower"].fillna(1))
    assert np.nanmin(published[1].y) == 1  # it joins the lower one
    assert published[0].line.dash not in (None, "solid")
    first, continuous = traces(figure, "exact, first order"), traces(figure, "exact, continuous")
    assert [first[0].line.dash, len(first), len(continuous)] == ["solid", 2, 2]
    assert continuous[0].line.dash != "solid"
    np.testing.assert_allclose(np.multiply(first[0].y, first[1].y), np.where(np.isnan(first[0].y), np.nan, 1))
    assert [trace.showlegend for trace in first] == [True, False]
    (points,) = traces(figure, "tricritical point")
    assert [text for text in first[0].text if "tricritical" in text] == ["tricritical point, to within the grid"] * 2
    step = 100 ** (1 / 49)  # from one density of the grid to the next
    for expected in (0.520247736799398, 0.837319580135034):
        assert np.sum(np.abs(np.log(np.array(points.x) / expected)) < np.log(step)) == 2


def test_phase_diagram_takes_boundaries_from_labels_where_there_are_no_curves():
    """n=3, m=2: ignored up to 2p/(4-5p), superposed up to 1; found to within a cell."""
    figure = phase_diagram(saved(n=3, m=2, cells=50))
    lower, upper, direct = traces(figure, "published theory")
    shared = np.array(lower.x) < 4 / 7
    low = published_boundaries(np.array(lower.x), n=3)[0]
    seen = shared & (low > 0.11)
    step = np.log(100) / 50  # from one importance of the grid to the next
    assert np.all(np.abs(np.log(np.array(lower.y) / low)[seen]) < step)
    assert np.all(np.abs(np.log(upper.y)[shared & (low < 0.9)]) < step)
    assert np.all(np.abs(np.log(direct.y)[~shared]) < step)
    assert not traces(figure, "exact, first order")


def test_phase_diagram_without_theory_or_of_another_feature_has_no_boundaries():
    for figure in (phase_diagram(saved(theory=False)), phase_diagram(saved(), feature=0)):
        assert {trace.name for trace in figure.data} == {"label", "ignored", "stored alone", "superposed"}


def test_phase_diagram_read_from_a_file(tmp_path):
    data = saved()
    data.to_netcdf(tmp_path / "phase.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "phase.nc", engine="scipy") as read:
        figure = phase_diagram(read)
    assert figure.to_json() == phase_diagram(data).to_json()


def test_phase_diagram_errors():
    data = saved()
    with pytest.raises(ValueError, match="gradient_norm"):
        phase_diagram(data.drop_vars("gradient_norm"))
    with pytest.raises(ValueError, match="feature = 2"):
        phase_diagram(data, feature=2)
    data["label"][0, 0, 0] = 3
    with pytest.raises(ValueError, match="label holds"):
        phase_diagram(data)


def test_gram_matrix():
    b = np.array([0.1, -2.0, 0.3, 0, 0])
    figure = gram_matrix(PENTAGON, b)
    np.testing.assert_allclose(figure.data[0].z, PENTAGON.T @ PENTAGON)
    np.testing.assert_allclose(np.ravel(figure.data[1].z), b)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-2, 2)
    assert figure.layout.yaxis.scaleanchor == "x"
    assert figure.data[0].text[0][2] == "−0.81"  # cos 144 degrees
    assert figure.layout.xaxis.ticktext[-1] == "b"
    assert gram_matrix(np.ones((3, 11))).data[0].text is None
    with pytest.raises(ValueError, match="b has shape"):
        gram_matrix(PENTAGON, b[:4])


def test_features_in_plane():
    W = np.array([[1.0, -1, 0, 0.99, 0], [0, 0, 1.2, 0.01, 0.001]])
    figure = features_in_plane(W, np.array([1, 0.5, 0.25, 0.1, 0.1]))
    for i in range(5):
        (arrow,) = traces(figure, f"feature {i}")
        np.testing.assert_allclose([arrow.x, arrow.y], [[0, W[0, i]], [0, W[1, i]]])
    assert set(traces(figure, "labels")[0].text) == {
        "0, 3",
        "1",
        "2",
    }  # 0 and 3 would overlap, 4 has no arrow
    assert [note.text for note in figure.layout.annotations] == ["near 0: 4"]
    assert "importance 0.5" in traces(figure, "feature 1")[0].hovertemplate
    assert traces(figure, "importance")[0].marker.colorbar.title.text == "importance"
    assert figure.layout.yaxis.scaleanchor == "x"
    with pytest.raises(ValueError, match="m = 3"):
        features_in_plane(np.eye(3))
    with pytest.raises(ValueError, match="importance has shape"):
        features_in_plane(W, np.ones(4))


def test_norm_and_interference():
    """The pentagon: norms 1, interference `2 (cos^2 72 + cos^2 144)` = 3/2; a zero column has 0 of both."""
    figure = norm_and_interference(np.concatenate([PENTAGON, np.zeros((2, 1))], axis=1))
    norm, interference = figure.data
    np.testing.assert_allclose(norm.y, [1] * 5 + [0], rtol=1e-12)
    np.testing.assert_allclose(interference.y, [1.5] * 5 + [0], rtol=1e-12)
    np.testing.assert_array_equal(norm.marker.color, interference.y)
    assert "interference" in figure.layout.coloraxis.colorbar.title.text
    assert figure.layout.xaxis2.title.text == "feature i"
