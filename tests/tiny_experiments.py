"""A package of tiny experiments, and the command run on it in this process."""

import sys
import textwrap

import pytest

from superpose import cli
from superpose.commands import run
from superpose.reproduction import catalogue

EXPERIMENT = """
    from dataclasses import dataclass
    import os, time
    import jax.numpy as jnp
    import numpy as np
    from plotly import graph_objects as go
    from superpose import sweep
    from superpose.reproduction import Check

    NAME = "{name}"
    TITLE = "Squares"
    PAPER = "None"

    @dataclass(frozen=True)
    class Config:
        points: int = 6

    QUICK = Config(points=3)

    def compute(config, folder=None, advance=lambda _: None):
        points = {{"x": np.arange(config.points)}}
        def slow(count):
            advance(count)
            time.sleep(float(os.environ.get("SLOW", 0)))
        {compute}
        arrays = sweep.run(lambda p: {{"square": p["x"] ** 2}}, points, settings=config, folder=folder, width=1, advance=slow)
        return sweep.label(arrays, points)

    def findings(dataset):
        largest = float(dataset["square"].values.max())
        return [
            Check("largest square", "Figure 1", 25.0, largest, atol=0.5),
            Check("not a number of JSON", "Figure 2", (3.0, None), float("inf"), note="in words"),
        ]

    def figure(dataset):
        {figure}
        return go.Figure(go.Scatter(y=dataset["square"].values))
"""
FAILS = "raise RuntimeError('broken\\nin two lines')"


def write_package(folder, **modules):
    package = folder / "tiny"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text(f"EXPERIMENTS = {tuple(modules)!r}\n")
    for name, parts in modules.items():
        parts = {"name": name.replace("_", "-"), "compute": "", "figure": ""} | parts
        (package / f"{name}.py").write_text(textwrap.dedent(EXPERIMENT.format(**parts)))
    return package


@pytest.fixture(name="tiny")
def tiny_package(tmp_path, monkeypatch):
    """Write the package of experiments; called again, anew."""
    monkeypatch.setattr(catalogue, "PACKAGE", "tiny")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        for name in [name for name in sys.modules if name.split(".")[0] == "tiny"]:
            del sys.modules[name]

    def write(**modules):
        forget()
        return write_package(tmp_path, **modules)

    write(five_squares={}, other={})
    yield write
    forget()


@pytest.fixture(name="command")
def command_here(monkeypatch, capsys, tmp_path):
    """Run the command in this process in a folder of its own: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "prepare", lambda _: None)

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["superpose", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code, *capsys.readouterr()

    return called
