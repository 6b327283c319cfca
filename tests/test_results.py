"""Results on disk: a file is old or new, says where it comes from, and a bad one is named."""

import errno
import json
import os
import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

from superpose import results
from superpose.settings import Diagram

pytestmark = pytest.mark.x64

SETTINGS = Diagram(densities=2)


@dataclass(frozen=True)
class Settings:
    """Any settings."""

    a: int = 1
    b: float = 0.5


@pytest.fixture
def saved(tmp_path):
    dataset = xr.Dataset(
        {"loss": (("density", "restart"), np.arange(60.0).reshape(20, 3)), "label": ("density", np.zeros(20, np.int8))},
        coords={"density": np.geomspace(1, 0.01, 20)},
    )
    path = tmp_path / "deep" / "result.nc"
    results.save(path, dataset, SETTINGS, seconds=1.5)
    return path, dataset


def test_file_is_old_or_new(tmp_path):
    path = tmp_path / "file"
    results.write_atomically(path, lambda temporary: temporary.write_text("old"))

    def half(temporary):
        temporary.write_text("ne")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        results.write_atomically(path, half)
    assert path.read_text() == "old"
    results.write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_result_comes_back_with_its_settings_and_provenance(saved):
    path, dataset = saved
    loaded = results.load(path)
    xr.testing.assert_identical(loaded.drop_attrs(), dataset)
    assert loaded["label"].dtype == np.int8
    attrs = loaded.attrs
    assert attrs["format"] == results.FORMAT
    assert Diagram(**json.loads(attrs["settings"])) == SETTINGS
    assert attrs["seconds"] == 1.5
    versions = json.loads(attrs["versions"])
    assert set(versions) == {"superpose", "jax", "jaxlib", "numpy", "python"}
    assert versions["jax"] == jax.__version__
    assert jax.devices()[0].device_kind in attrs["device"]
    assert "cores" in attrs["machine"]
    assert re.fullmatch(r"([0-9a-f]{40}\+?)?", attrs["commit"])
    age = datetime.now(UTC) - datetime.fromisoformat(attrs["created"])
    assert -1 <= age.total_seconds() < 600
    assert [p.name for p in path.parent.iterdir()] == ["result.nc"]


def test_result_is_read_into_memory(saved):
    path, dataset = saved
    loaded = results.load(path)
    path.unlink()
    np.testing.assert_array_equal(loaded["loss"], dataset["loss"])


def test_missing_result_is_named(tmp_path):
    with pytest.raises(results.ResultError, match=r"gone\.nc: no such results file"):
        results.load(tmp_path / "gone.nc")


def test_result_cut_short_is_named(saved):
    path, _ = saved
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 8, 41), len(whole) - 8]:
        path.write_bytes(whole[:length])
        with pytest.raises(results.ResultError, match=r"result\.nc"):
            results.load(path)


@pytest.mark.parametrize("content", [b"", b"CDF\x01", b"not a result", bytes(1000), b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_foreign_file_is_named(tmp_path, content):
    path = tmp_path / "phase.nc"
    path.write_bytes(content)
    with pytest.raises(results.ResultError, match=r"phase\.nc: damaged or not a results file") as raised:
        results.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("attrs", [{}, {"format": "superpose results 0"}, {"format": 1}])
def test_other_format_is_refused(tmp_path, attrs):
    path = tmp_path / "phase.nc"
    xr.Dataset({"loss": ("density", np.zeros(3))}, attrs=attrs).to_netcdf(path, engine="scipy")
    with pytest.raises(results.ResultError, match=r"phase\.nc: format .*, needs 'superpose results 2'"):
        results.load(path)


def test_text_changes_with_every_setting():
    other = dict(n=3, m=2, densities=3, importances=3, restarts=3, density_min=0.02, density_max=0.5, importance_min=0.2)
    other |= dict(importance_max=5.0, nodes=128, steps=100, tolerance=0.02, seed=1)
    assert set(other) == {field.name for field in fields(Diagram)}
    texts = [results.settings_text(Diagram())]
    texts += [results.settings_text(replace(Diagram(n=3, m=1), **{name: value})) for name, value in other.items()]
    assert len(set(texts)) == len(texts)
    assert results.settings_text(Diagram()) == results.settings_text(Diagram(n=2))


def test_settings_are_canonical_json():
    assert results.settings_text(Settings()) == '{"a":1,"b":0.5}'
    assert results.settings_text(Settings(b=1e-7)) == '{"a":1,"b":1e-07}'


def test_temporaries_of_one_file_are_removed(tmp_path):
    path, kept = (
        tmp_path / "result.nc",
        [tmp_path / name for name in ("result.nc", ".result.nc", "other.nc", ".other.nc.12")],
    )
    for file in [*kept, tmp_path / ".result.nc.12", tmp_path / ".result.nc.3"]:
        file.write_text("")
    results.remove_temporaries(path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_file_system_that_cannot_be_written_says_which_file(tmp_path, monkeypatch):
    """There even removing what is not there fails, and says another name."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for name in ("unlink", "write_text"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(OSError, match=r"Read-only file system: '.*/result\.nc'$"):
        results.write_atomically(tmp_path / "result.nc", lambda temporary: temporary.write_text("new"))


def test_failed_write_says_which_file(tmp_path):
    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*result\.nc'"):
        results.write_atomically(tmp_path / "result.nc", full)
    assert list(tmp_path.iterdir()) == []


def restarts(loss, **more):
    """Two densities of three restarts."""
    axes = ("density", "restart")
    W = np.arange(24.0).reshape(2, 3, 2, 2)
    data = {"loss": (axes, np.array(loss)), "W": ((*axes, "hidden", "feature"), W), "bound": ("density", [1.0, 2.0])}
    coords = {"density": [0.5, 0.1], "restart": [10, 11, 12]}
    return xr.Dataset(data | {name: (axes, np.array(x)) for name, x in more.items()}, coords)


def test_best_restart_is_that_of_least_loss():
    dataset = restarts([[3.0, 1.0, 2.0], [1.0, 2.0, 0.5]], paid=[[1.0, 2.0, 3.0], [3.0, 2.0, 3.0]])
    best = results.best(dataset)
    assert best["restart"].values.tolist() == [11, 12]
    assert best["W"].dims == ("density", "hidden", "feature")
    np.testing.assert_array_equal(best["W"], dataset["W"].values[[0, 1], [1, 2]])
    np.testing.assert_array_equal(best["bound"], dataset["bound"])
    assert results.best(dataset, by="paid")["restart"].values.tolist() == [10, 11]
    assert int(results.best(dataset.isel(density=0))["restart"]) == 11
    across = results.best(dataset, dim="density")
    assert across["density"].values.tolist() == [0.1, 0.5, 0.1]
    np.testing.assert_array_equal(across["loss"], [1.0, 1.0, 0.5])


def test_of_equal_losses_a_certified_one_is_the_best():
    equal = [[1.0, 1 - 1e-7, 1 + 1e-7], [-1.0, -1 - 1e-7, -1 + 1e-7]]
    assert results.best(restarts(equal))["restart"].values.tolist() == [11, 11]
    some = restarts(equal, converged=[[1, 0, 0], [False, False, True]])
    assert results.best(some)["restart"].values.tolist() == [10, 12]
    both = restarts(equal, converged=[[1, 0, 1], [0, 0, 0]])
    assert results.best(both)["restart"].values.tolist() == [10, 11]
    lower = restarts([[1.0, 1 - 1e-5, 2.0]] * 2, converged=[[1, 0, 1]] * 2)
    assert results.best(lower)["restart"].values.tolist() == [11, 11]
    named = restarts(equal, settled=[[1, 0, 0], [0, 0, 1]])
    assert results.best(named, certified="settled")["restart"].values.tolist() == [10, 12]


def test_losses_that_are_not_finite_are_never_the_best():
    dataset = restarts([[np.nan, 1.0, -np.inf], [np.nan, np.inf, np.nan]], converged=[[1, 0, 1], [1, 1, 1]])
    best = results.best(dataset)
    assert best["restart"].values.tolist() == [11, 10]
    assert np.isnan(best["loss"].values[1])


@pytest.mark.parametrize("how", [{"by": "price"}, {"by": "bound"}, {"dim": "start"}])
def test_best_of_what_is_not_there_is_refused(how):
    with pytest.raises(ValueError, match=r"by = \w+: needs a variable over (restart|start)"):
        results.best(restarts(np.ones((2, 3))), **how)
