"""The command: what it writes and prints, that it can be stopped and goes on, and how it says no.

Most tests call `main` in this process; those about processes and signals start the real command. Its float type is its own
matter, so all run once, with float64.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from command_line import TINY, one_line, start, strict

from superpose import results
from superpose.phase import sampled
from superpose.settings import Diagram, Processes
from superpose.sweep import chunks

pytestmark = pytest.mark.x64

DIAGRAM = Diagram(densities=4, importances=5, restarts=2, steps=200)
ROWS = 40
LONG = (
    *TINY,
    "--densities",
    str(ROWS),
    "--density-min",
    "0.0005",
)  # the later one counts; too sparse for the exact boundary


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory):
    """The real command, run once: its folder and what it said."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, start(environment, *TINY, "--out", folder).communicate(timeout=300)


def wait_for_a_row(process, folder):
    deadline = time.monotonic() + 300
    while not any(folder.glob(".phase.chunks/*-*.npz")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


# --- help and start


@pytest.mark.parametrize("arguments", [["--help"], ["phase", "--help"], ["--version"], ["reproduce", "--list"]])
def test_what_only_tells_needs_no_jax(arguments, environment):
    script = """
import sys
from superpose.cli import main
try:
    main()
finally:
    print("heavy:", sorted({"jax", "scipy", "plotly", "xarray", "optax"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout
    if arguments == ["--version"]:
        assert done.stdout.splitlines()[0] == f"superpose {version('superpose')}"
    if arguments[0] == "--help":
        assert "superpose --version" in " ".join(done.stdout.split())
    if arguments[0] == "reproduce":
        assert "two-in-one                Phase diagram of two features in one dimension\n" in done.stdout
    if arguments[0] == "phase":
        assert "otherwise give both" in " ".join(done.stdout.replace("│", "").split())
        fields = asdict(DIAGRAM) | asdict(Processes())
        options = [name.replace("_", "-") for name in fields] + ["out", "check", "json"]
        assert all(f"--{name}" in done.stdout for name in options)


def test_command_is_installed():
    done = subprocess.run(
        [Path(sys.executable).with_name("superpose"), "--help"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert "superpose" in done.stdout


# --- what a run leaves


def test_run_writes_three_files(finished):
    folder, (output, error) = finished
    assert sorted(path.name for path in folder.iterdir()) == ["phase.html", "phase.nc", "summary.json"]
    assert "cells with a certified minimum" in output
    assert "Traceback" not in error
    page = (folder / "phase.html").read_text()
    assert "<html" in page
    assert "cdn.plot.ly" not in page.split("<script", 1)[0]


def test_result_is_labelled_and_says_where_it_comes_from(finished):
    folder, _ = finished
    with xr.open_dataset(folder / "phase.nc", engine="scipy") as dataset:
        assert dataset["W"].dims == ("density", "importance", "restart", "hidden", "feature")
        assert dataset["W"].shape == (4, 5, 5, 1, 2)
        for name in ("b", "loss", "label", "gradient_norm", "lowest_eigenvalue", "converged", "basin", "loss_error", "best"):
            assert dataset[name].dims[:2] == ("density", "importance"), name
        np.testing.assert_allclose(dataset["density"][[0, -1]], [1, 0.01])
        np.testing.assert_allclose(dataset["importance"][[0, -1]], [0.1, 10])
        assert json.loads(dataset.attrs["settings"]) == asdict(DIAGRAM)
        assert {"superpose", "jax", "numpy", "python"} <= set(json.loads(dataset.attrs["versions"]))
        assert all(dataset.attrs[name] for name in ("format", "device", "machine", "created"))
        assert dataset["converged"].isel(restart=dataset["best"]).values.all()


def test_summary_is_json_with_its_settings(finished):
    folder, _ = finished
    numbers = strict((folder / "summary.json").read_text())
    assert numbers["settings"] == asdict(DIAGRAM)
    assert numbers["cells"] == 20
    assert numbers["cells_certified"] == 1
    assert numbers["cells_above_a_candidate"] == 0
    assert numbers["boundary"]["published"][0] is None  # p = 1 lies beyond the triple point: null, not NaN


# --- the same command again, and others in its folder


def test_same_command_reads_what_is_there(finished, command):
    folder, _ = finished
    before = (folder / "phase.nc").stat()
    code, output, error = command("phase", *TINY, "--out", folder, "--json")
    assert (code, error) == (0, "")
    assert (folder / "phase.nc").stat().st_mtime_ns == before.st_mtime_ns
    (numbers,) = strict(output)
    assert numbers == strict((folder / "summary.json").read_text())


def test_other_settings_do_not_touch_a_result(finished, command):
    folder, _ = finished
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    code, output, error = command("phase", *TINY, "--seed", 1, "--out", folder)
    assert (code, output) == (1, "")
    assert one_line(error)
    assert f"{folder / 'phase.nc'}: holds a result of other settings" in error
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-100],
        lambda _: b"",
        lambda whole: b"hello" + whole,
        lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
    ],
)
def test_damaged_result_is_named(finished, command, tmp_path, damage):
    path = tmp_path / "phase.nc"
    path.write_bytes(damage((finished[0] / "phase.nc").read_bytes()))
    code, _, error = command("phase", *TINY, "--out", tmp_path)
    assert code == 1
    assert one_line(error)
    assert f"{path}: damaged or not a results file" in error


def test_what_cannot_be_written_is_named_after_the_summary(finished, command, tmp_path):
    (tmp_path / "phase.nc").write_bytes((finished[0] / "phase.nc").read_bytes())
    (tmp_path / "phase.html" / "mine").mkdir(parents=True)
    for arguments in ((), ("--json",)):
        code, output, error = command("phase", *TINY, "--out", tmp_path, *arguments)
        assert code == 1
        assert "cells with a certified minimum" in output or strict(output)[0]["cells"] == 20
        assert error == f"superpose: {tmp_path / 'phase.html'}: Is a directory\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phase.html", "phase.nc"]


@pytest.mark.parametrize("below", ["", "below"])
def test_folder_that_cannot_be_made_is_named(command, tmp_path, below):
    file = tmp_path / "file"
    file.write_text("mine")
    code, _, error = command("phase", *TINY, "--out", file / below)
    assert code == 1
    assert one_line(error)
    assert "file" in error
    assert file.read_text() == "mine"


def test_second_run_in_a_folder_is_told(command, tmp_path):
    with chunks.lock(tmp_path / ".phase.chunks"):
        code, output, error = command("phase", *TINY, "--out", tmp_path)
    assert (code, output) == (1, "")
    assert (
        error
        == f"superpose: {tmp_path / '.phase.chunks'}: another run is at work here; wait for it, or name another folder\n"
    )


def test_full_disk_is_told(finished, command, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before = {path: path.read_bytes() for path in finished[0].iterdir()}
    code, _, error = command("phase", *TINY, "--out", finished[0])
    assert code == 1
    assert error == f"superpose: {finished[0] / 'phase.html'}: No space left on device\n"
    assert before == {path: path.read_bytes() for path in finished[0].iterdir()}


# --- checking by sampling


def test_check_trains_cells_and_reports(finished, command, monkeypatch):
    monkeypatch.setattr(sampled, "STEPS", 200)
    monkeypatch.setattr(sampled, "DRAWS", 20_000)
    folder, _ = finished
    code, output, error = command("phase", *TINY, "--out", folder, "--check", 2)
    assert (code, error) == (0, "")
    assert "trained by sampling against the certified minimum" in output
    cells = strict((folder / "summary.json").read_text())["check"]
    assert [(cell["density"], cell["importance"]) for cell in cells] == [(1.0, 0.1), (0.01, 10.0)]
    assert all(cell["below"] <= 5 and cell["sem"] > 0 for cell in cells)


def test_model_below_its_minimum_fails_the_command(finished, command, monkeypatch):
    monkeypatch.setattr(sampled, "check_cells", lambda *_: [dict.fromkeys(CHECK, 1.0) | {"below": 5.1}])
    code, output, _ = command("phase", *TINY, "--out", finished[0], "--check", 1)
    assert code == 1
    assert "5.1 standard errors below" in " ".join(output.split())


CHECK = ("density", "importance", "minimum", "trained", "sem", "excess", "below")


# --- stopping


def test_killed_run_goes_on_and_gives_the_same_bits(environment, tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    process = start(environment, *LONG, "--out", broken)
    wait_for_a_row(process, broken)
    process.kill()  # SIGKILL
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (broken / "phase.nc").exists()
    rows = {path: path.stat().st_mtime_ns for path in broken.glob(".phase.chunks/*-*.npz")}
    assert rows
    for folder in (broken, whole):
        process = start(environment, *LONG, "--out", folder, "--json")
        output, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        assert strict(output)[0]["cells"] == ROWS * 5
    one, other = results.load(broken / "phase.nc"), results.load(whole / "phase.nc")
    assert set(one.variables) == set(other.variables)
    for name in one.variables:
        assert one[name].values.tobytes() == other[name].values.tobytes(), name
    assert sorted(path.name for path in broken.iterdir()) == ["phase.html", "phase.nc", "summary.json"]


def test_interrupted_run_keeps_its_rows(environment, tmp_path):
    process = start(environment, *LONG, "--out", tmp_path)
    wait_for_a_row(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert error == "superpose: stopped; finished chunks are kept, the same command goes on\n"
    assert any(tmp_path.glob(".phase.chunks/*-*.npz"))
    assert not (tmp_path / "phase.nc").exists()


# --- several processes


@pytest.mark.slow
def test_two_processes_make_the_files_of_one(environment, finished, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = ("--coordinator", address, "--processes", "2", "--check", "2")
    two = environment | {"JAX_NUM_CPU_DEVICES": "2"}
    both = [start(two, *TINY, *shared, "--process", k, "--out", tmp_path) for k in (0, 1)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "cells with a certified minimum" in said[0][0]
    assert (said[0][1], *said[1]) == ("", "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phase.html", "phase.nc", "summary.json"]
    one, other = results.load(finished[0] / "phase.nc"), results.load(tmp_path / "phase.nc")
    for name in one.variables:
        assert one[name].values.tobytes() == other[name].values.tobytes(), name


def test_nothing_to_detect_is_told(environment, tmp_path):
    process = start(environment, *TINY, "--distributed", "--out", tmp_path)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert one_line(error)
    assert "needs a cluster that JAX detects, or --coordinator" in error


# --- both published diagrams


@pytest.mark.slow
def test_without_sizes_both_published_diagrams_are_made(command, tmp_path):
    tiny = ("--densities", 2, "--importances", 2, "--restarts", 1, "--density-min", 0.1, "--steps", 100)
    code, output, _ = command("phase", *tiny, "--out", tmp_path, "--json")
    assert code == 0
    assert [(numbers["n"], numbers["m"]) for numbers in strict(output)] == [(2, 1), (3, 2)]
    assert strict((tmp_path / "summary.json").read_text()) == strict(output)
    for name in ("n2-m1", "n3-m2"):
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["phase.html", "phase.nc", "summary.json"]
