"""Experiments run by name: what is saved and printed, that nothing is lost or computed twice, and how the command says no.

The experiments are those of `tests.tiny_experiments`. The float type is the command's own matter, so all run once, with float64.
"""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from superpose import results
from superpose.reproduction import catalogue, runs
from superpose.sweep import chunks
from tests.tiny_experiments import FAILS, command_here, tiny_package, write_package  # noqa: F401 the fixtures

pytestmark = pytest.mark.x64

LAUNCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from superpose.reproduction import catalogue
catalogue.PACKAGE = "tiny"
from superpose.cli import main
main()
"""


def strict(text):
    """Parse JSON, without the NaN that Python would let through."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def only(folder, pattern="result.nc"):
    (path,) = Path(folder).rglob(pattern)
    return path


def said(error):
    """What the command said, without the lines of progress."""
    return [line for line in error.splitlines() if not re.match(r"\d+ of \d+: ", line)]


# --- what a run leaves and prints


@pytest.mark.usefixtures("tiny")
def test_run_saves_scores_and_draws(command):
    code, output, error = command("reproduce")
    assert code == 0
    assert said(error) == []
    assert "1 of 2: five-squares: 2 of 2 hold" in error
    for word in ("five-squares", "other", "largest square", "25", "yes", "4 of 4 findings hold"):
        assert word in output
    for name in ("five-squares", "other"):
        folder = only(f"results/reproduce/{name}").parent
        assert re.fullmatch(r"full-[0-9a-f]{8}", folder.name)
        assert files(folder) == ["figure.html", "findings.json", "result.nc"]
        assert strict((folder / "findings.json").read_text())[0]["found"] == 25
        saved = results.load(folder / "result.nc")
        assert json.loads(saved.attrs["settings"]) == {"points": 6}
        assert saved.attrs["experiment"] == name
        assert {"versions", "commit", "seconds", "machine", "created"} <= set(saved.attrs)


@pytest.mark.usefixtures("tiny")
def test_json_has_exactly_the_names_of_a_check(command):
    code, output, _ = command("reproduce", "other", "--quick", "--json")
    assert code == 0  # a finding that does not hold changes nothing
    first, second = strict(output)
    assert first == {
        "experiment": "other",
        "claim": "largest square",
        "source": "Figure 1",
        "expected": 25,
        "found": 4,
        "rtol": 0,
        "atol": 0.5,
        "note": "",
        "tolerance": "± 0.5",
        "holds": False,
    }
    assert second["expected"] == [3, None]
    assert second["found"] is None
    assert second["note"] == "in words"
    assert second["holds"] is True


@pytest.mark.usefixtures("tiny")
def test_finding_that_does_not_hold_is_told_in_words(command):
    code, output, error = command("reproduce", "other", "--quick")
    assert code == 0
    assert "1 of 2 findings hold" in output
    assert "1 of 1: other: 1 of 2 hold" in error


# --- nothing is computed twice or overwritten


def test_finished_experiment_is_read_and_scored_anew(command, tiny):
    command("reproduce", "other")
    before = only("results").stat().st_mtime_ns
    tiny(other={"compute": FAILS})  # it would fail, were it computed
    code, output, _ = command("reproduce", "other", "--json")
    assert code == 0
    assert strict(output)[0]["found"] == 25
    assert only("results").stat().st_mtime_ns == before


@pytest.mark.parametrize("changed", ["compute", "figure"])
def test_result_of_an_earlier_computation_is_told(command, tiny, caplog, changed):
    command("reproduce", "other")
    path = only("results")
    tiny(other={changed: "pass"})
    for arguments in (("reproduce", "other"), ("figures", "other")):
        caplog.clear()
        assert command(*arguments)[0] == 0
        line = f"{path}: made before `compute` was changed; `superpose reproduce other --again --out results/reproduce`"
        assert caplog.messages == [f"{line} computes it anew"] * (changed == "compute")


@pytest.mark.usefixtures("tiny")
def test_finished_result_is_read_where_nothing_can_be_written(command, monkeypatch):
    command("reproduce", "other")

    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(chunks, "_locked", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    code, output, error = command("reproduce", "other")
    assert code == 1
    assert "2 of 2 findings hold" in output
    assert said(error) == [f"superpose: other: {only('results').with_name('findings.json')}: Read-only file system"]


@pytest.mark.usefixtures("tiny")
def test_again_computes_anew(command):
    command("reproduce", "other")
    before = only("results").stat().st_mtime_ns
    assert command("reproduce", "other", "--again")[0] == 0
    assert only("results").stat().st_mtime_ns != before


def test_settings_are_kept_apart(command, tiny):
    command("reproduce", "other")
    command("reproduce", "other", "--quick")
    package = tiny(other={})
    module = package / "other.py"
    module.write_text(module.read_text().replace("points: int = 6", "points: int = 4"))
    command("reproduce", "other")
    saved = {path.parent.name: results.load(path).sizes["x"] for path in Path("results").rglob("result.nc")}
    assert sorted(saved.values()) == [3, 4, 6]
    assert sorted(name.split("-")[0] for name in saved) == ["full", "full", "quick"]


@pytest.mark.usefixtures("tiny")
def test_result_put_where_another_belongs_is_refused(command):
    command("reproduce", "other")
    command("reproduce", "other", "--quick")
    full, quick = sorted(Path("results").rglob("result.nc"))
    quick.write_bytes(full.read_bytes())
    code, _, error = command("reproduce", "other", "--quick")
    assert code == 1
    assert "holds a result of other settings" in said(error)[0]


# --- faults


def test_failure_loses_no_other(command, tiny):
    tiny(bad={"compute": FAILS}, worse={"name": '" not Python'}, undrawn={"figure": FAILS}, other={})
    code, output, error = command("reproduce", "--json")
    assert code == 1
    assert [row["experiment"] for row in strict(output)] == ["undrawn", "undrawn", "other", "other"]
    first, second, third = said(error)
    file = only("results/reproduce/bad", "error.txt")
    assert first == f"superpose: bad: RuntimeError: broken (traceback in {file})"
    assert "in compute" in file.read_text()
    assert second.startswith("superpose: worse: SyntaxError")
    assert third.startswith("superpose: undrawn: RuntimeError: broken")
    tiny(bad={})
    assert command("reproduce", "bad")[0] == 0
    assert not file.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-20],
        lambda _: b"",
        lambda whole: b"hello" + whole,
        lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
    ],
)
@pytest.mark.usefixtures("tiny")
def test_damaged_result_is_named_and_computed_on_request(command, damage):
    command("reproduce", "other")
    path = only("results")
    path.write_bytes(damage(path.read_bytes()))
    code, _, error = command("reproduce", "other")
    assert code == 1
    (line,) = said(error)
    assert line.startswith(f"superpose: other: {path}: damaged or not a results file")
    assert line.endswith("so does `superpose reproduce other --again --out results/reproduce`")
    assert command("reproduce", "other", "--again")[0] == 0
    assert results.load(path).sizes["x"] == 6


@pytest.mark.usefixtures("tiny")
def test_full_disk_is_told_and_chunks_are_kept(command, monkeypatch):
    count = iter(range(100))

    def full(_):
        if next(count) >= 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, output, error = command("reproduce", "other")
    assert (code, output) == (1, "")
    (line,) = said(error)
    assert "cannot be written (No space left on device); finished chunks are kept" in line
    assert len(list(Path("results").rglob("*-*.npz"))) == 3  # after the manifest
    assert command("reproduce", "other")[0] == 0
    assert files(only("results").parent) == ["figure.html", "findings.json", "result.nc"]


@pytest.mark.usefixtures("tiny")
def test_full_disk_at_the_last_file_is_told(command, monkeypatch):
    command("reproduce", "other")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, output, error = command("reproduce", "other")
    assert code == 1
    assert "2 of 2 findings hold" in output
    assert said(error) == [f"superpose: other: {only('results', 'findings.json')}: No space left on device"]


@pytest.mark.usefixtures("tiny")
def test_second_run_is_told(command):
    command("reproduce", "other")
    with chunks.lock(only("results").parent / ".chunks"):
        assert command("reproduce", "other")[0] == 0  # what is finished is read
        code, _, error = command("reproduce", "other", "--again")
    assert code == 1
    assert "another run is at work here" in said(error)[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("five-square", "name = five-square: needs the name of an experiment; perhaps five-squares"),
        ("zzz", "name = zzz: needs one of five-squares, other"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_unknown_experiment_is_told_the_nearest(command, name, message):
    code, output, error = command("reproduce", "other", name)
    assert (code, output, error) == (2, "", f"superpose: {message}\n")
    assert not Path("results").exists()


def test_no_experiments_at_all_is_told(command, monkeypatch):
    monkeypatch.setattr(catalogue, "PACKAGE", "no_such_package")
    code, _, error = command("reproduce")
    assert code == 1
    assert error.startswith("superpose: package no_such_package: not found")
    assert "pip install" in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("tiny")
def test_file_in_the_way_is_told(command, tmp_path):
    (tmp_path / "results").write_text("mine")
    code, _, error = command("reproduce", "other")
    assert code == 1
    assert "results" in said(error)[0]
    assert (tmp_path / "results").read_text() == "mine"


def test_interrupted_run_goes_on(tmp_path):
    write_package(tmp_path, other={})
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    line = [sys.executable, "-c", LAUNCH, "reproduce", "other", "--out", "out"]
    how = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(line, env=environment | {"SLOW": "2"}, **how)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/other/*/.chunks/sweep/*-*.npz")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "superpose: stopped; finished chunks are kept, the same command goes on\n"
    kept = list(tmp_path.glob("out/other/*/.chunks/sweep/*-*.npz"))
    assert kept
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 findings hold" in done.stdout
    assert not any(path.exists() for path in kept)


def test_list_has_a_line_for_each_and_runs_none(command, tiny):
    tiny(five_squares={"compute": FAILS}, worse={"name": '" not Python'}, other={})
    code, output, error = command("reproduce", "--list")
    assert (code, error) == (0, "")
    assert output == "five-squares  Squares\nworse         cannot be read: SyntaxError\nother         Squares\n"
    assert not Path("results").exists()


def test_list_without_experiments_is_told(command, monkeypatch):
    monkeypatch.setattr(catalogue, "PACKAGE", "no_such_package")
    code, output, error = command("reproduce", "--list")
    assert (code, output) == (1, "")
    assert error.startswith("superpose: package no_such_package: not found")
    assert error.count("\n") == 1


def test_list_is_that_of_the_experiments():
    known = runs.experiments()
    assert catalogue.titles() == {name: module.TITLE for name, module in known.items()}


# --- what is installed


def test_wheel_carries_the_experiments_inside_superpose():
    """Hatchling's paths, as pyproject.toml states them; and no module names the package it lies in, so that both places work."""
    root = Path(__file__).parent.parent
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["superpose", "experiments"]
    assert wheel["sources"] == {"experiments": "superpose/experiments"}
    modules = [(root / "experiments" / f"{name}.py").read_text() for name in catalogue.modules()]
    assert not any(re.search(r"^(from|import) experiments", text, re.MULTILINE) for text in modules)
    assert sum("from . import" in text for text in modules) >= 3


def test_experiments_are_found_inside_superpose_too(tmp_path):
    """As a wheel lays them: a copy of the library with the experiments in it, in a process that sees no others."""
    root = Path(__file__).parent.parent
    shutil.copytree(root / "superpose", tmp_path / "superpose", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        root / "experiments", tmp_path / "superpose" / "experiments", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = """
import sys
sys.path = [sys.argv[1], *(path for path in sys.path if path != sys.argv[2])]
from superpose.reproduction import catalogue
from superpose.reproduction import runs
known = runs.experiments()
assert catalogue.PACKAGE == "superpose.experiments" and "experiments" not in sys.modules
print(*(f"{name} {module.__name__}" for name, module in known.items()), sep="\\n")
"""
    line = [sys.executable, "-c", code, str(tmp_path), str(root)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "three-in-two superpose.experiments.phase_three_two\n" in done.stdout
    assert done.stdout.count(" superpose.experiments.") == len(catalogue.modules())
