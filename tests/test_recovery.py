"""The phase diagram of recovery: how starts become labels, the figure, and the command on an antipodal pair."""

import numpy as np
import pytest
from command_line import one_line, strict

from superpose import plot, results
from superpose.settings import SHAPES, Recovery
from superpose.unmix.recovery import LABELS, _labelled, directions

pytestmark = pytest.mark.x64

CASES = {  # of the truth's end: loss, reason, worst cosine; of the other start: loss, reason, worst cosine, living latents
    "the optimum": ((1.0, 0, 1.0), (1.2, 0, 0.9, 2)),
    "a minimum, but not the lowest": ((1.1, 0, 1.0), (1.0, 1, 0.9, 2)),
    "no minimum": ((1.1, 3, 1.0), (1.0, 0, 0.9, 2)),
    "not decided": ((1.0, 1, 1.0), (1.0, 1, 0.9, 2)),
    "nothing is written": ((1.1, 0, 1.0), (1.0, 0, 0.0, 0)),
}


def test_ends_of_starts_become_labels():
    """One cell of each kind, and a truth that moved away, which is no minimum."""
    cells = [*CASES.values(), ((1.0, 0, 0.95), (1.2, 0, 0.9, 2))]
    pairs = [((*truth, 2), other) for truth, other in cells]
    arrays = {
        name: np.array([[other[i], truth[i]] for truth, other in pairs])
        for i, name in enumerate(("loss", "reason", "worst_cosine", "living"))
    }
    found = _labelled(arrays, {"density": np.array([0.1, 0.2]), "penalty": np.array([0.1, 0.2, 0.3])})
    np.testing.assert_array_equal(found["label"].values.ravel(), [*(LABELS.index(name) for name in CASES), 2])
    np.testing.assert_allclose(found["excess"].values.ravel(), [0, 0.1, 0.1, 0, 0.1, 0], atol=1e-12)
    figure = plot.recovery(found)
    np.testing.assert_array_equal(figure.data[0].z, found["label"])
    np.testing.assert_allclose(figure.data[1].z.ravel(), [1.0, 0.9, 0.9, 0.9, 0.0, 0.95])
    assert len(figure.data[0].colorbar.ticktext) == len(LABELS)


@pytest.mark.parametrize("shape", SHAPES)
def test_arrangements_have_unit_columns(shape):
    W = directions(Recovery(shape=shape, angle=30.0))
    np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, rtol=1e-12)
    if shape == "pair":
        np.testing.assert_allclose(W[:, 0] @ W[:, 1], np.cos(np.pi / 6), rtol=1e-12)


REFUSED = [
    (["--recovery.shape", "heptagon"], "shape = heptagon: needs one of digon, pair,"),
    (["--recovery.angle", "0"], "angle = 0.0: needs degrees above 0, at most 180"),
    (["--recovery.penalty-min", "0"], "penalty_min = 0.0: needs a positive penalty"),
    (["--recovery.density-max", "2"], "density_max = 2.0: needs a density in [0.01, 1]"),
    (["--recovery.nodes", "4"], "nodes = 4: needs from 8 to 256"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_is_refused(arguments, message, command, tmp_path):
    code, out, err = command("unmix", "--phase", *arguments, "--out", tmp_path / "there")
    assert (code, out) == (2, "")
    assert one_line(err)
    assert message in err


@pytest.mark.slow
def test_the_truth_is_the_optimum_of_an_antipodal_pair(command, tmp_path):
    """By hand: two opposite features do not overlap after a ReLU, and each is a soft threshold."""
    small = ["--recovery.densities", "2", "--recovery.penalties", "2", "--recovery.restarts", "2"]
    code, out, err = command("unmix", "--phase", *small, "--out", tmp_path, "--json")
    assert (code, err) == (0, "")
    numbers = strict(out)
    assert numbers["truth"]["the optimum"] == 4
    assert numbers["best_certified"] == 1
    assert numbers == strict((tmp_path / "summary.json").read_text())
    found = results.load(tmp_path / "recovery.nc")
    for k, penalty in enumerate(found["penalty"].values):
        np.testing.assert_allclose(found["b_enc"].isel(start=-1, penalty=k), -penalty / 2, rtol=1e-3)
    assert 'id="recovery"' in (tmp_path / "recovery.html").read_text()
