"""The paper's numbers: written from committed results only, and a build without them fails and says what to run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from paper import collect, numbers
from superpose import results
from superpose.reproduction import runs
from tests.tiny_experiments import command_here, tiny_package  # noqa: F401 the fixtures

pytestmark = pytest.mark.x64
COMMITTED = ("phase-n2-m1", "phase-n3-m2", "boundary")


@pytest.fixture
def here(tmp_path, tiny, command):  # noqa: ARG001 it needs the experiments
    """A folder of collected results: those that are committed, and two tiny experiments."""
    command("reproduce")
    folder = tmp_path / "paper" / "results"
    folder.mkdir(parents=True)
    for name in COMMITTED:
        (folder / f"{name}.json").write_text((collect.HERE / f"{name}.json").read_text())
    for name, module in runs.experiments().items():
        (folder / f"{name}.json").write_text(json.dumps(collect.experiment(Path("results/reproduce"), module)))
    return folder


def test_every_macro_of_the_text_is_written(here):
    numbers.main(here)
    made = set(re.findall(r"newcommand\{\\(\w+)\}", (here.parent / "numbers.tex").read_text()))
    words = set(re.findall(r"\\([A-Za-z]+)", (collect.HERE.parent / "main.tex").read_text()))
    used = {w for w in words if re.search("(Two|Three|Tenth|Half|Sparse|First|Second)$", w)}
    assert used | {"experiments", "findings", "holding", "failing", "commit"} <= made
    assert "\\newcommand{\\findings}{4}" in (here.parent / "numbers.tex").read_text()
    table = (here.parent / "findings.tex").read_text()
    assert "other & largest square & 25 \\ensuremath{\\pm} 0.5 & 25 & yes \\\\" in table
    assert " & not a number of JSON & at least 3 & inf; in words & yes \\\\" in table


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("other", None, "missing; `superpose reproduce other && python -m paper.collect` makes it"),
        ("boundary", None, "missing; `python -m paper.collect` makes it"),
        ("phase-n2-m1", {"settings": "{}"}, "of other settings; `superpose phase && python -m paper.collect` makes it"),
        (
            "other",
            {"versions": '{"superpose": "0.0.1"}'},
            "of superpose 0.0.1; `superpose reproduce other --again && python",
        ),
        ("other", {"versions": "?"}, "damaged; `superpose reproduce other && python -m paper.collect` makes it"),
    ],
)
def test_missing_or_stale_result_fails_and_names_the_command(here, name, damage, message):
    path = here / f"{name}.json"
    changed = json.loads(path.read_text()) | (damage or {})
    path.unlink() if damage is None else path.write_text(json.dumps(changed))
    with pytest.raises(SystemExit) as stopped:
        numbers.main(here)
    assert message in stopped.value.code
    assert not (here.parent / "numbers.tex").exists()


def test_committed_results_are_those_of_today():
    for name in COMMITTED:
        wanted = numbers.settings({})[name]
        assert numbers.load(collect.HERE, name, wanted)["commit"]


def test_missing_diagram_is_named(tmp_path):
    with pytest.raises(results.ResultError, match=r"n2-m1/phase.nc: missing; `superpose phase --out"):
        collect.phase(tmp_path, "phase-n2-m1")


def test_restarts_of_a_known_diagram():
    """One cell: three random starts end at losses 1, 1 and 4, the last without the feature; a fourth start did not converge."""
    axes = ("density", "importance", "restart")
    one = (1, 1, 4)
    dataset = xr.Dataset(
        {
            "loss": (axes, np.array([1.0, 1, 4, 9]).reshape(one)),
            "converged": (axes, np.array([1, 1, 1, 0]).reshape(one)),
            "basin": (axes, np.array([0, 0, 1, -1]).reshape(one)),
            "W": ((*axes, "hidden", "feature"), np.array([1.0, 1, 0, 1]).reshape(*one, 1, 1)),
        },
        attrs={"settings": '{"restarts": 4}'},
    )
    assert collect.basins(dataset) == {
        "cells_with_several_minima": 1,
        "most_minima": 2,
        "cells_whose_restarts_disagree": 1,
        "worst_minimum_above_lowest": 3,
        "average_above_lowest": 0,  # the worst is dropped
        "cells_missed_by_random_starts": 0,
    }


def test_text_becomes_latex():
    assert numbers.tex("50 % of Σ D_i ≤ λ²") == (
        "50 \\% of \\ensuremath{\\Sigma} D\\_i \\ensuremath{\\le} \\ensuremath{\\lambda}\\ensuremath{^2}"
    )
    with pytest.raises(ValueError, match="needs an entry in SIGNS"):
        numbers.tex("☃")


def test_every_work_that_is_cited_is_listed():
    text = (collect.HERE.parent / "main.tex").read_text()
    cited = {key for keys in re.findall(r"\\cite\{([^}]+)\}", text) for key in keys.split(",")}
    listed = set(re.findall(r"^@\w+\{(\w+),", (collect.HERE.parent / "references.bib").read_text(), re.MULTILINE))
    assert cited == listed
