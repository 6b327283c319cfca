"""Sweeps in one process: what they compute, that nothing but the width touches a bit, and what they do with a bad folder."""

import errno
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from superpose import results, sweep
from superpose.sweep import chunks, devices
from superpose.toy_model import Params
from tests import sweep_job
from tests.checks import RTOL
from tests.sweep_job import AXES, CHUNKS, WIDTH, Settings, descend

pytestmark = pytest.mark.x64

POINTS, SETTINGS = sweep.grid(AXES), Settings()


def same_bits(a, b):
    return a.keys() == b.keys() and all(
        x.dtype == b[n].dtype and x.shape == b[n].shape and x.tobytes() == b[n].tobytes() for n, x in a.items()
    )


@pytest.fixture(scope="module")
def whole():
    """The sweep, undisturbed and in memory."""
    return sweep.run(descend, POINTS, width=WIDTH)


def keep(folder, function=descend, points=POINTS, settings=SETTINGS, width=WIDTH, **options):
    return sweep.run(function, points, settings=settings, folder=folder, width=width, **options)


def files(folder):
    return sorted(folder.glob("*-*.npz"))


# --- what is computed


def test_a_random_key_may_be_a_constant_of_the_function(tmp_path):
    key = jax.random.key(3)

    def draw(point, key=key):
        return jax.random.normal(jax.random.fold_in(key, point["k"]))

    points = {"k": np.arange(3)}
    first = keep(tmp_path / "a", function=draw, points=points, width=2)["value"]
    np.testing.assert_array_equal(first, [jax.random.normal(jax.random.fold_in(key, k)) for k in range(3)])
    other = partial(draw, key=jax.random.key(4))
    with pytest.raises(results.ResultError):  # another key is another program
        keep(tmp_path / "a", function=other, points=points, width=2)


def test_grid_and_label_are_inverse():
    axes = {"a": [1.0, 2.0], "b": np.arange(3), "c": [5]}
    points = sweep.grid(axes)
    assert points["a"].tolist() == [1, 1, 1, 2, 2, 2]
    assert points["b"].tolist() == [0, 1, 2, 0, 1, 2]
    pair = np.stack([points["a"], points["b"]], 1)
    dataset = sweep.label({"sum": points["a"] + points["b"], "pair": pair, "other": pair}, axes, {"pair": ["which"]})
    assert dataset["sum"].dims == ("a", "b", "c")
    assert dataset["pair"].dims == ("a", "b", "c", "which")
    assert dataset["other"].dims == ("a", "b", "c", "other_0")
    for a in axes["a"]:
        for b in axes["b"]:
            assert dataset["sum"].sel(a=a, b=b, c=5) == a + b
            assert dataset["pair"].sel(a=a, b=b, c=5).values.tolist() == [a, b]


def test_over_is_grid_run_and_label(tmp_path):
    axes, dims = {"target": [0.0, 1.0, 3.0], "curvature": [0.5, 1.0]}, {"w": ["feature"], "gradient_at_one": ["feature"]}
    done = []
    found = sweep.over(descend, axes, dims=dims, settings=SETTINGS, folder=tmp_path, width=4, advance=done.append)
    xr.testing.assert_identical(found, sweep.label(sweep.run(descend, sweep.grid(axes), width=4), axes, dims))
    assert found["w"].dims == ("target", "curvature", "feature")
    assert found["steps"].sel(target=3, curvature=0.5) == descend({"target": 3.0, "curvature": 0.5})["steps"]
    assert sorted(done) == [2, 4]
    assert len(files(tmp_path)) == 2
    with pytest.raises(ValueError, match="width = 0"):
        sweep.over(descend, axes, width=0)


def test_sweep_computes_the_function_of_each_point(whole):
    """Gradients too: of parameters born as constants, and not summed over what runs side by side."""
    one = jax.jit(descend)
    for k in range(len(POINTS["target"])):
        target, curvature = (POINTS[name][k] for name in ("target", "curvature"))
        expected = 2 * curvature * (1 - target) - np.sin(1)
        np.testing.assert_allclose(whole["gradient_at_one"][k], expected, rtol=RTOL, atol=RTOL)
        value = one({name: x[k] for name, x in POINTS.items()})
        np.testing.assert_allclose(whole["w"][k], value["w"], rtol=100 * RTOL, atol=RTOL)


@pytest.mark.parametrize("width", [1, 7, 100, 1000])
def test_widths_agree_to_rounding(whole, width):
    other = sweep.run(descend, POINTS, width=width)
    assert other["steps"].dtype == np.int32
    np.testing.assert_allclose(other["w"], whole["w"], rtol=100 * RTOL, atol=RTOL)
    np.testing.assert_allclose(other["gradient_at_one"], whole["gradient_at_one"], rtol=RTOL, atol=RTOL)


def test_function_of_any_shape_names_its_leaves():
    assert sweep.run(lambda x: 2 * x, np.arange(3.0))["value"].tolist() == [0, 2, 4]
    found = sweep.run(lambda x: (Params(W=x["a"] * jnp.ones((1, 2)), b=jnp.zeros(2)), {"k": 1}), {"a": np.arange(3)})
    assert {name: x.shape for name, x in found.items()} == {"0.W": (3, 1, 2), "0.b": (3, 2), "1.k": (3,)}


def test_chunk_of_one_is_the_function_itself():
    points, seen = {"x": np.arange(4.0)}, []
    sweep.run(lambda point: seen.append(point["x"].shape) or point["x"], points, width=1)
    assert set(seen) == {()}


def test_width_follows_from_memory(caplog):
    def wide(x):
        square = x * jnp.ones((50, 50)) + jnp.eye(50)
        return jnp.linalg.svd(square, compute_uv=False)

    points = np.arange(1000.0)
    plans = [devices.plan(wide, points, width=None, memory=memory) for memory in (2**17, 2**18, 2**30)]
    assert all(plan.memory <= memory for plan, memory in zip(plans, (2**17, 2**18, 2**30), strict=True))
    assert plans[0].width < plans[1].width < plans[2].width == -(-1000 // devices.PARTS)
    assert plans[1].memory > 2**17  # the budget is used
    with pytest.raises(ValueError, match=r"memory = 1000: needs at least \d+ bytes, what one point takes"):
        sweep.run(wide, points, memory=1000)
    with caplog.at_level(logging.INFO, "superpose.sweep"):
        sweep.run(lambda x: x, points, width=8)
    assert "8 points a chunk, 0.0 MiB, on 1 device" in caplog.text


@pytest.mark.parametrize(
    ("points", "width", "message"),
    [
        (
            {"a": np.zeros(3), "b": np.zeros(4)},
            None,
            r"points = arrays of shapes \{'a': \(3,\), 'b': \(4,\)\}: needs one leading",
        ),
        ({"a": np.zeros(0)}, None, r"points = .*: needs one leading axis of length 1 or more"),
        ({"a": 1.0}, None, r"points = .*: needs one leading axis"),
        ({}, None, r"points = .*: needs one leading axis"),
        (np.zeros(3), 0, r"width = 0: needs at least 1"),
    ],
)
def test_points_that_are_none_are_refused(points, width, message):
    with pytest.raises(ValueError, match=message):
        sweep.run(lambda x: x, points, width=width)


def test_dtype_that_files_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="value = array of bfloat16: needs a dtype that NumPy has"):
        keep(tmp_path, lambda x: x.astype(jnp.bfloat16), np.zeros(3), width=3)


def test_advance_counts_every_point_once(tmp_path):
    for folder in (None, tmp_path, tmp_path):
        seen = []
        sweep.run(descend, POINTS, settings=SETTINGS, folder=folder, width=WIDTH, advance=seen.append)
        assert sum(seen) == 100
        assert len(seen) == CHUNKS


# --- bits


def test_order_of_chunks_and_number_of_workers_touch_no_bit(whole, monkeypatch):
    order = np.random.default_rng(0).permutation(CHUNKS).tolist()
    for at_once in (1, 5):
        monkeypatch.setattr(devices, "_at_once", lambda at_once=at_once: at_once)
        done = {}
        plan = devices.plan(descend, POINTS, width=WIDTH, memory=0)
        assert sorted(devices.compute(plan, POINTS, order, done.__setitem__)) == list(range(CHUNKS))
        assert same_bits({name: np.concatenate([done[k][name] for k in range(CHUNKS)]) for name in whole}, whole)


def test_a_point_does_not_depend_on_its_neighbours(whole):
    few = sweep.run(descend, {name: x[5 * WIDTH : 7 * WIDTH] for name, x in POINTS.items()}, width=WIDTH)
    assert same_bits(few, {name: x[5 * WIDTH : 7 * WIDTH] for name, x in whole.items()})


def test_missing_chunks_are_computed_and_no_others(whole, tmp_path):
    assert same_bits(keep(tmp_path), whole)
    lost = files(tmp_path)[3::7]
    before = {file: file.stat().st_mtime_ns for file in files(tmp_path) if file not in lost}
    content = [file.read_bytes() for file in lost]
    for file in lost:
        file.unlink()
    assert same_bits(keep(tmp_path), whole)
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert content == [file.read_bytes() for file in lost]
    chunks.clear(tmp_path)
    assert not tmp_path.exists()


def test_result_is_labelled_and_leaves_no_chunks(whole, tmp_path):
    seen = []
    (tmp_path / ".sweep.nc.123").write_text("left by one that was killed")
    dataset = sweep_job.compute(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.nc"]
    assert dataset["w"].dims == ("target", "curvature", "w_0")
    assert dataset["w"].values.tobytes() == whole["w"].tobytes()
    assert dataset.attrs["settings"] == '{"work":1}'
    assert dataset.attrs["seconds"] > 0
    assert "jax" in dataset.attrs["versions"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "compute", None)  # read, not computed
        xr.testing.assert_identical(sweep_job.compute(tmp_path, SETTINGS, advance=seen.append), dataset)
    assert seen == [100]
    with chunks.lock(tmp_path / ".sweep.chunks"):
        pass  # left by one that was killed before it had cleared up
    sweep_job.compute(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.nc"]
    with pytest.raises(results.ResultError, match=r"sweep\.nc: holds a result of other settings; name another folder, or"):
        sweep_job.compute(tmp_path, Settings(2))


# --- a bad folder


def test_wrong_byte_anywhere_is_found(tmp_path):
    arrays = {"a": np.array([0.1, -0.0, np.nan, 5e-324]), "b": np.zeros((2, 0), np.int8), "file": np.float32(3)}
    path = tmp_path / "x-000001.npz"
    chunks.write(path, arrays)
    assert same_bits(chunks.read(path), arrays)
    with np.load(path) as data:  # readable by anything
        assert same_bits(dict(data), arrays)
    good = path.read_bytes()
    for k in range(len(good)):
        path.write_bytes(good[:k] + bytes([good[k] ^ (1 << k % 8)]) + good[k + 1 :])
        with pytest.raises(results.ResultError, match=r"x-000001\.npz: damaged"):
            chunks.read(path)
    for k in range(0, len(good), 7):
        path.write_bytes(good[:k])
        with pytest.raises(results.ResultError, match="damaged"):
            chunks.read(path)
    (tmp_path / "x-000002.npz").write_bytes(good)  # another chunk's content
    with pytest.raises(results.ResultError, match="damaged"):
        chunks.read(tmp_path / "x-000002.npz")


def test_damaged_chunk_is_named_and_computed_again(whole, tmp_path, caplog):
    keep(tmp_path)
    short, wrong, *_ = files(tmp_path)
    for file, damage in ((short, lambda x: x[:-100]), (wrong, lambda x: x[:80] + bytes([x[80] ^ 1]) + x[81:])):
        file.write_bytes(damage(file.read_bytes()))
    assert same_bits(keep(tmp_path), whole)
    assert caplog.messages == [f"{file}: damaged; computed again" for file in (short, wrong)]
    caplog.clear()
    keep(tmp_path)
    assert caplog.messages == []


def test_anything_in_the_place_of_a_chunk_is_computed_again(whole, tmp_path, caplog):
    keep(tmp_path)
    there = files(tmp_path)[:5]
    loop, dangling = (lambda x: x.symlink_to(x)), (lambda x: x.symlink_to("gone"))
    for path, put in zip(there[:4], (Path.mkdir, loop, dangling, os.mkfifo), strict=True):
        path.unlink()
        put(path)
    (there[0] / "below").mkdir()
    there[4].unlink()
    (tmp_path / f".{there[4].name}.{os.getpid()}" / "below").mkdir(parents=True)  # where it would be written first
    assert same_bits(keep(tmp_path), whole)
    assert [message.rsplit(" (")[0] for message in caplog.messages] == [f"{there[k]}: damaged" for k in (0, 1, 3)]
    assert all(path.is_file() and not path.is_symlink() for path in there)


@pytest.mark.parametrize("put", [lambda x: x.symlink_to(x), lambda x: x.symlink_to("gone"), Path.mkdir, os.mkfifo])
def test_what_is_in_the_place_of_a_result_stays(tmp_path, put):
    put(tmp_path / "sweep.nc")
    with pytest.raises(results.ResultError, match=r"sweep\.nc: damaged or not a results file \(.+\); move it away"):
        sweep_job.compute(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.nc"]
    assert not (tmp_path / "sweep.nc").is_file()


def test_folder_named_like_a_temporary_file_loses_no_result(whole, tmp_path):
    names = (f".sweep.nc.{os.getpid()}", ".sweep.nc.1")
    for name in names:
        (tmp_path / name).mkdir()
    assert sweep_job.compute(tmp_path, SETTINGS)["w"].values.tobytes() == whole["w"].tobytes()
    assert {path.name for path in tmp_path.iterdir()} == {*names, "sweep.nc"}


def test_paths_may_be_text_and_settings_are_a_dataclass(whole, tmp_path):
    assert same_bits(keep(str(tmp_path / "chunks")), whole)
    for settings in ({"work": 1}, None, Settings):
        with pytest.raises(ValueError, match=r"settings = .+: needs an instance of a dataclass$"):
            keep(tmp_path / "other", settings=settings)
        with pytest.raises(ValueError, match=r"settings = .+: needs an instance of a dataclass$"):
            sweep.result(tmp_path / "other" / "a.nc", descend, POINTS, sweep.label, settings=settings)
    assert not (tmp_path / "other").exists()


def test_second_run_in_a_folder_is_told(whole, tmp_path):
    told = rf"{tmp_path}: another run is at work here; wait for it, or name another folder"
    with chunks.lock(tmp_path), pytest.raises(results.ResultError, match=told):
        keep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert same_bits(keep(tmp_path), whole)


def test_lock_of_a_removed_folder_holds_nobody(tmp_path):
    with chunks.lock(tmp_path / "a"):
        chunks.clear(tmp_path / "a")
        with (
            chunks.lock(tmp_path / "a"),
            pytest.raises(results.ResultError, match="another run"),
            chunks.lock(tmp_path / "a"),
        ):
            pass


@dataclass(frozen=True)
class Other:
    """Other settings."""

    work: int = 1
    more: str = "x"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("settings", dict(settings=Settings(2))),
        ("settings", dict(settings=Other())),
        ("points", dict(points=POINTS | {"target": POINTS["target"] + 1e-3})),
        ("program", dict(function=lambda point: descend(point) | {"steps": 1})),
        ("program", dict(function=partial(descend, work=2))),
        ("width", dict(width=WIDTH + 1)),
    ],
)
def test_chunks_of_something_else_are_told(tmp_path, name, other):
    ours = {"x": np.zeros(WIDTH)} | {n: x[:WIDTH] for n, x in POINTS.items()}
    keep(tmp_path, points=ours)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    other = {"points": ours} | other
    with pytest.raises(results.ResultError, match=rf"{tmp_path}: holds unfinished chunks of another {name}") as told:
        keep(tmp_path, **other)
    assert "\n" not in str(told.value)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["format", "superpose", "jax", "device"])
def test_chunks_of_another_version_are_told(tmp_path, name):
    keep(tmp_path)
    manifest = chunks.read_manifest(tmp_path)
    chunks.write_manifest(tmp_path, manifest | {name: "old"})
    message = rf"holds unfinished chunks of another {name} \(old, here {manifest[name]}\); .* delete {tmp_path}"
    with pytest.raises(results.ResultError, match=message):
        keep(tmp_path)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(results.ResultError, match=r"sweep\.json: damaged; delete .* to compute its chunks again"):
        keep(tmp_path)


def test_full_disk_is_told_and_nothing_is_lost(whole, tmp_path, monkeypatch):
    written, sync = [], os.fsync

    def full(descriptor):
        if len(written) >= 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(sync(descriptor))

    monkeypatch.setattr(os, "fsync", full)
    message = r"\.npz: cannot be written \(No space left on device\); finished chunks are kept, the same run goes on$"
    with pytest.raises(results.ResultError, match=message):
        keep(tmp_path)
    done = files(tmp_path)
    assert 9 <= len(done) < CHUNKS  # and the manifest
    assert sorted([*done, tmp_path / "lock", tmp_path / "sweep.json"]) == sorted(tmp_path.iterdir())
    before = {file: file.stat().st_mtime_ns for file in done}
    monkeypatch.setattr(os, "fsync", sync)
    assert same_bits(keep(tmp_path), whole)
    assert before == {file: file.stat().st_mtime_ns for file in done}


@pytest.mark.parametrize("below", ["", "below"])
def test_folder_that_cannot_be_written_is_named(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(results.ResultError, match=r"folder = .*file.*: needs a folder that can be written \(.+\)"):
        keep(file / below)
    assert file.read_text() == "mine"


def test_folder_is_needed_by_several_processes(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="folder = None: needs a folder that all 2 processes share"):
        sweep.run(lambda x: x, np.zeros(3))
