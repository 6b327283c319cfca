"""Results on disk: rows come back bit by bit or not at all, a file is old or new, and a bad one is named."""

import json
import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

import jax
import numpy as np
import pytest
import xarray as xr

from superpose import results
from superpose.settings import Diagram

SETTINGS = Diagram(densities=2)
ROW = {
    "loss": np.array([0.1, -0.0, np.nan, np.inf, 5e-324]),
    "label": np.array([[0, 1], [2, -1]], np.int8),
    "steps": np.arange(3, dtype=np.int32),
}


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


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def row_file(folder):
    return next(folder.glob(".rows-*/row-00003.npz"))


def test_row_comes_back_bit_by_bit(tmp_path):
    results.save_row(tmp_path, SETTINGS, 3, ROW)
    known = results.load_row(tmp_path, SETTINGS, 3)
    assert list(known) == list(ROW)
    assert all(same_bits(known[name], ROW[name]) for name in ROW)


def test_rows_belong_to_their_number_and_settings(tmp_path):
    results.save_row(tmp_path, SETTINGS, 3, ROW)
    assert results.load_row(tmp_path, SETTINGS, 2) is None
    assert results.load_row(tmp_path, replace(SETTINGS, seed=1), 3) is None
    results.clear_rows(tmp_path, replace(SETTINGS, seed=1))
    assert results.load_row(tmp_path, SETTINGS, 3) is not None
    results.clear_rows(tmp_path, SETTINGS)
    assert results.load_row(tmp_path, SETTINGS, 3) is None
    assert list(tmp_path.iterdir()) == []


def test_row_cut_short_anywhere_counts_as_missing(tmp_path):
    results.save_row(tmp_path, SETTINGS, 3, ROW)
    path = row_file(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 23):
        path.write_bytes(whole[:length])
        assert results.load_row(tmp_path, SETTINGS, 3) is None, f"{length} of {len(whole)} bytes"


def test_row_with_a_wrong_byte_is_never_wrong(tmp_path):
    """Each byte in turn: the row is missing, lacks a name (`phase.run` looks), or says what was saved."""
    results.save_row(tmp_path, SETTINGS, 3, ROW)
    path = row_file(tmp_path)
    whole = path.read_bytes()
    missing = 0
    for k in range(len(whole)):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :])
        known = results.load_row(tmp_path, SETTINGS, 3)
        lost = known is None or known.keys() != ROW.keys()
        missing += lost
        assert lost or all(same_bits(known[name], ROW[name]) for name in ROW), f"byte {k}"
    assert missing > len(whole) / 2


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
    with pytest.raises(results.ResultError, match=r"phase\.nc: format .*, needs 'superpose results 1'"):
        results.load(path)


def test_hash_changes_with_every_setting():
    other = dict(n=3, m=2, densities=3, importances=3, restarts=3, density_min=0.02, density_max=0.5, importance_min=0.2)
    other |= dict(importance_max=5.0, nodes=128, steps=100, tolerance=0.02, seed=1)
    assert set(other) == {field.name for field in fields(Diagram)}
    hashes = [results.settings_hash(Diagram())]
    hashes += [results.settings_hash(replace(Diagram(n=3, m=1), **{name: value})) for name, value in other.items()]
    assert len(set(hashes)) == len(hashes)
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in hashes)
    assert results.settings_hash(Diagram()) == results.settings_hash(Diagram(n=2))


def test_settings_are_canonical_json():
    assert results.settings_text(Settings()) == '{"a":1,"b":0.5}'
    assert results.settings_text(Settings(b=1e-7)) == '{"a":1,"b":1e-07}'


@pytest.mark.parametrize("below", ["", "below"])
def test_folder_that_cannot_be_written_is_named(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(results.ResultError, match=r"out = .*file.*: needs a folder that can be written \(.+\)"):
        results.check_writable(file / below)
    assert file.read_text() == "mine"


def test_checking_a_folder_leaves_it_as_it_was(tmp_path):
    (tmp_path / "writable").write_text("mine")
    results.check_writable(tmp_path)
    results.check_writable(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "writable"]
    assert (tmp_path / "writable").read_text() == "mine"
