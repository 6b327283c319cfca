"""`superpose unmix`: from a toy model to autoencoders, scores and edits, as a command and from Python."""

import json

import numpy as np
import pytest
from command_line import one_line, strict

from superpose import plot, unmix
from superpose.settings import Unmixing

pytestmark = pytest.mark.x64

SETTINGS = Unmixing(n=4, m=3, density=0.15, variant="relu,batchtopk", values=2, starts=2, steps=400, batch=64, samples=1000)
TINY = [
    f"--{name}={getattr(SETTINGS, name)}"
    for name in ("n", "m", "density", "variant", "values", "starts", "steps", "batch", "samples")
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unmix")
    parts = []
    return unmix.compute(SETTINGS, folder, advance=parts.append), folder, parts


def test_a_run_has_models_scores_and_answers(finished):
    dataset, _, parts = finished
    assert parts == ["model", "relu", "batchtopk", "edits"]
    assert dict(dataset.sizes) == {
        "feature": 4, "hidden": 3, "latent": 4, "variant": 2, "value": 2, "start": 2, "handle": 2, "edited_along": 3
    }  # fmt: skip
    assert np.all(dataset["collapse"] == "")
    assert np.all(dataset["mcc"] <= 1 + 1e-6)
    assert np.all(dataset["mcc"] > dataset["mcc_calibrated"])
    assert np.all(dataset["fvu"] < 0.6)
    best = unmix.best(dataset)
    highest = dataset["f1_matched"].max(("value", "start"))
    np.testing.assert_array_equal(best["f1_matched"], highest)
    for name in ("read", "verified"):
        assert np.all((best[name] >= 0) & (best[name] <= 1))
    assert np.all(best["read"].mean("feature") > dataset["read_by"].sel(handle="neurons").mean("feature"))
    chosen = dataset["steering_selectivity"]
    assert np.all((chosen > 0) & (chosen <= 1 + 1e-9))


def test_the_summary_is_of_the_dataset(finished):
    dataset, _, _ = finished
    numbers = unmix.summary(dataset)
    assert [one["variant"] for one in numbers["variants"]] == ["relu", "batchtopk"]
    for k, knob in enumerate(("penalty", "k")):
        run = dataset.isel(variant=k, value=int(dataset["best_value"][k]), start=int(dataset["best_start"][k]))
        assert numbers["variants"][k][knob] == float(run["sparsity"])
        assert numbers["variants"][k]["edited"] == pytest.approx(float(run["edited"].mean()), rel=1e-12)
    assert numbers["features_per_neuron"] > 1.2 > numbers["variants"][0]["features_per_latent"]


@pytest.mark.slow
def test_a_solved_model_is_the_better_one(tmp_path):
    """Two features in one dimension: the certified minimum lies no higher than what training leaves."""
    how = {"n": 2, "m": 1, "density": 0.1, "variant": "topk", "values": 1, "starts": 1, "steps": 20, "samples": 500}
    losses = [unmix.compute(Unmixing(model=model, **how), tmp_path / model)["model_loss"] for model in ("solve", "train")]
    assert losses[0] <= losses[1] * (1 + 1e-9)
    assert losses[1] <= 1.05 * losses[0]


def test_a_stopped_run_goes_on(finished, tmp_path):
    dataset, _, _ = finished

    def stop(part):
        if part == "relu":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unmix.compute(SETTINGS, tmp_path, advance=stop)
    assert list(tmp_path.glob(".relu.chunks/*.npz"))
    again = unmix.compute(SETTINGS, tmp_path)
    for name in dataset.data_vars:
        np.testing.assert_array_equal(again[name].values, dataset[name].values, err_msg=name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unmix.nc"]


def test_the_command_draws_and_tells_and_reads_what_is_there(finished, command):
    _, folder, _ = finished
    before = (folder / "unmix.nc").read_bytes()
    code, out, err = command("unmix", *TINY, "--out", folder)
    assert (code, err) == (0, "")
    assert "latents (" in out
    assert "penalty" in out
    code, out, _ = command("unmix", *TINY, "--out", folder, "--json")
    assert code == 0
    assert strict(out) == strict((folder / "summary.json").read_text())
    assert (folder / "unmix.nc").read_bytes() == before
    page = (folder / "unmix.html").read_text()
    assert all(
        f'id="{name}"' in page for name in ("directions_found", "latents_and_features", "scores_against_l0", "answers")
    )
    assert json.loads((folder / "summary.json").read_text())["settings"]["density"] == 0.15
    code, _, err = command("unmix", *TINY, "--seed", "1", "--out", folder)
    assert code == 1
    assert one_line(err)
    assert "other settings" in err


def test_figures_show_the_best_run(finished):
    dataset, _, _ = finished
    k = int(dataset["best_variant"])
    run = unmix.best(dataset).isel(variant=k)
    heat = plot.latents_and_features(dataset).data[1].z
    assert np.mean(np.argmax(np.abs(heat), axis=1) == np.arange(4)) >= 0.75  # in the order of the match
    cosines = plot.directions_found(dataset).data[0].z
    assert np.mean(np.abs(np.diagonal(cosines))) == pytest.approx(float(run["mcc"]), abs=1e-5)
    bars = plot.answers(dataset).data
    assert [bar.name for bar in bars][:2] == ["true directions", "neurons"]
    assert len(plot.scores_against_l0(dataset).data) == 6


def test_features_per_unit():
    """One feature, equal parts of three, a fourth that never is active, and a unit that does not move."""
    x = np.random.default_rng(0).random((50_000, 4)) * [1, 1, 1, 0]
    s = np.stack([2 * x[:, 0], x[:, :3].sum(1), np.ones(len(x))], axis=1)
    found = unmix.features_per_unit(s, x)
    np.testing.assert_allclose(found[:2], [1, 3], rtol=1e-3)  # draws are correlated by 1 / sqrt(50,000)
    assert np.isnan(found[2])
    np.testing.assert_allclose(unmix.correlation(s, x)[0], [1, 0, 0, 0], atol=0.02)


REFUSED = [
    (["--variant", "relux"], "variant = relux: needs all, or of relu, relu-2023,"),
    (["--variant", "relu,relu"], "variant = relu,relu: needs all, or of relu,"),
    (["--n", "1", "--m", "1"], "n = 1: needs at least 2"),
    (["--m", "5", "--n", "4"], "m = 5: needs at most n = 4"),
    (["--density", "0"], "density = 0.0: needs a density in (0, 1]"),
    (["--samples", "30"], "samples = 30: needs at least 100"),
    (["--model", "guess"], "model = guess: needs train or solve"),
    (["--steps", "0"], "steps = 0: needs at least 1"),
    (["--rate", "-1"], "rate = -1.0: needs a positive rate"),
    (["--varant", "relu"], "perhaps --variant"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_the_command_refuses(arguments, message, command, tmp_path):
    code, out, err = command("unmix", *arguments, "--out", tmp_path / "there")
    assert (code, out) == (2, "")
    assert one_line(err)
    assert message in err
    assert not (tmp_path / "there").exists()
