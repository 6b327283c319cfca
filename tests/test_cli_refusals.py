"""What the command says of wrong arguments, and of what a machine or a terminal does not give: one line, and no traceback."""

import os
import subprocess
import sys

import pytest
from command_line import TINY, one_line

from superpose import sweep
from superpose.commands import parsing

pytestmark = pytest.mark.x64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--density-min", "0"], "density_min = 0.0: needs a density in (0, 1]"),
        (["--density-min", "nan"], "density_min = nan: needs a density in (0, 1]"),
        (["--density-min", "2"], "density_min = 2.0: needs a density in (0, 1]"),
        (["--density-max", "0.001"], "density_max = 0.001: needs a density in [0.01, 1]"),
        (["--importance-min", "-1"], "importance_min = -1.0: needs a positive importance"),
        (["--importance-max", "inf"], "importance_max = inf: needs at least importance_min = 0.1"),
        (["--n", "2", "--m", "3"], "m = 3: needs at most n = 2"),
        (["--m", "0"], "m = 0: needs at least 1"),
        (["--n", "6"], "m = not given: needs --m beside --n 6, the hidden dimensions, from 1 to 6"),
        (["--m=2"], "n = not given: needs --n beside --m 2, the features, at least 2"),
        (["--n", 10**21, "--m", "1"], f"n = {10**21}: needs at most 2147483647"),
        (["--densities", 10**11], f"densities = {10**11}: needs at most 2147483647"),
        (["--steps", 10**11], f"steps = {10**11}: needs at most 2147483647"),
        (["--nodes", 10**11], f"nodes = {10**11}: needs at most 65536"),
        (["--n", "0"], "n = 0: needs at least 1"),
        (["--densities", "0"], "densities = 0: needs at least 1"),
        (["--importances", "-3"], "importances = -3: needs at least 1"),
        (["--restarts", "0"], "restarts = 0: needs at least 1"),
        (["--steps", "0"], "steps = 0: needs at least 1"),
        (["--nodes", "7"], "nodes = 7: needs at least 8"),
        (["--tolerance", "1"], "tolerance = 1.0: needs a number in (0, 1)"),
        (["--seed", "-1"], "seed = -1: needs an integer in [0, 2^32)"),
        (["--check", "-1"], "check = -1: needs a number of cells, 0 or more"),
        (["--coordinator", "here"], "coordinator = here: needs HOST:PORT, the port from 1 to 65535"),
        (["--coordinator", "localhost:99999"], "coordinator = localhost:99999: needs HOST:PORT, the port from 1 to 65535"),
        (["--coordinator", "localhost:0"], "coordinator = localhost:0: needs HOST:PORT, the port from 1 to 65535"),
        (["--coordinator", ":9876"], "coordinator = :9876: needs HOST:PORT, the port from 1 to 65535"),
        (["--processes", "0"], "processes = 0: needs at least 1"),
        (["--processes", "2"], "processes = 2: needs a coordinator, HOST:PORT; or --distributed alone to detect all"),
        (["--process", "1"], "process = 1: needs a number from 0 to 0"),
        (["--patience", "0"], "patience = 0: needs at least 1 second"),
    ],
)
def test_wrong_setting_is_named_in_one_line(command, tmp_path, arguments, message):
    code, output, error = command("phase", *arguments, "--out", tmp_path / "out")
    assert (code, output, error) == (2, "", f"superpose: {message}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["phase", "--n", "10^21", "--m", "2"], ["--n", "'10^21'", "needs --n INT", "superpose phase --help"]),
        (["phase", "--densities", "many"], ["--densities", "'many'", "needs --densities INT"]),
        (["phase", "--densites", "3"], ["--densites, 3", "perhaps --densities INT", "superpose phase --help"]),
        (["phase", "--n"], ["Missing value", "--n"]),
        (["phase", "three"], ["Unrecognized", "three"]),
        (["reproduce", "--quik"], ["--quik", "perhaps --quick", "superpose reproduce --help"]),
        (["figures", "--formt", "pdf"], ["--formt, pdf", "perhaps --format {html,pdf,svg,png}", "superpose figures --help"]),
        (["figures", "--format", "gif"], ["'gif'", "--format", "('html', 'pdf', 'svg', 'png')", "superpose figures --help"]),
        (["figures", "--columns", "3"], ["'3'", "--columns"]),
        (["figures", "--out", ""], ["--out", "an empty name", "needs --out PATH"]),
        (["--verson"], ["--verson", "superpose --help"]),
        ([], ["{phase, unmix, reproduce, figures}", "superpose --help"]),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_wrong_argument_is_told_in_one_line(command, monkeypatch, arguments, message, terminal):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    code, output, error = command(*arguments)
    assert (code, output) == (2, "")
    assert one_line(error)
    assert all(part in error for part in message), error
    assert not set("\x1b│╭─") & set(error)


def test_box_without_utf8_is_read_as_well():
    rows = [
        "Unrecognized options: --densites, 3",
        "-" * 36,
        "Perhaps you meant:",
        "    --densities INT",
        "-" * 36,
        "For help",
    ]
    frame = ["+- Unrecognized options " + "-" * 14 + "+", "| " + "-" * 36 + " |", *(f"| {row:36} |" for row in rows), "+-+"]
    assert parsing.one_line("\n".join(frame)) == "Unrecognized options: --densites, 3; perhaps --densities INT"


def test_mistyped_command_is_told_the_nearest(command):
    known = "phase, unmix, reproduce, figures"
    assert command("phse", "--n", 3) == (2, "", f"superpose: command = phse: needs one of {known}; perhaps phase\n")
    assert command("xyz") == (2, "", f"superpose: command = xyz: needs one of {known}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--n", 10**6, "--m", 1],
            f"n = {10**6}: needs 7,451 GiB for the overlaps of one model, and here are 2 GiB",
        ),
        (
            ["--densities", 10**7],
            f"densities = {10**7}, importances = 50, restarts = 10: needs 149 GiB for the models, and here are 2 GiB; take fewer",
        ),
    ],
)
def test_more_than_the_memory_is_told_before_anything_starts(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**19}.__getitem__)
    code, output, error = command("phase", *arguments, "--out", tmp_path / "out")
    assert (code, output, error) == (2, "", f"superpose: {message}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "fault", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")]
)
def test_memory_that_runs_out_is_told(command, tmp_path, monkeypatch, fault):
    def fails(*_, **__):
        raise fault

    monkeypatch.setattr(sweep, "result", fails)
    code, output, error = command("phase", *TINY, "--out", tmp_path)
    assert (code, output) == (1, "")
    assert one_line(error)
    assert "memory: not enough here" in error
    assert "needs a smaller n or m" in error


@pytest.mark.parametrize("arguments", ["--help", "reproduce --list"])
def test_reader_that_leaves_early_is_no_error(environment, arguments):
    line = f"{sys.executable} -c 'from superpose.cli import main; main()' {arguments} | head -n 0"
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("name", ["phase", "reproduce", "figures"])
def test_empty_folder_is_refused(command, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, output, error = command(name, "--out", "")
    assert (code, output) == (2, "")
    assert "an empty name: needs a folder, . for this one" in error
    assert list(tmp_path.iterdir()) == []
