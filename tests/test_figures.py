"""Figures redrawn from saved results: nothing is computed, and what is missing is named with what makes it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import plotly.io
import pytest
from plotly import graph_objects as go

from experiments import EXPERIMENTS, full_table
from superpose.plot import export, template
from superpose.reproduction import runs
from superpose.results import ResultError
from tests.tiny_experiments import FAILS, command_here, tiny_package  # noqa: F401 the fixtures

pytestmark = pytest.mark.x64
ROOT = Path(__file__).parent.parent


@pytest.mark.usefixtures("tiny")
def test_figures_come_from_what_is_saved(command):
    command("reproduce", "other", "--quick")
    code, output, error = command("figures", "other", "--quick")
    assert (code, output, error) == (0, "results/figures/other.html\n", "")
    assert "<html" in Path("results/figures/other.html").read_text()


def test_nothing_is_computed(command, tiny):
    command("reproduce", "other")
    tiny(other={"compute": FAILS})
    assert command("figures", "other")[0] == 0


@pytest.mark.usefixtures("tiny")
def test_missing_results_are_named_with_what_makes_them(command):
    command("reproduce", "other")
    code, output, error = command("figures")
    assert code == 1
    assert output == "results/figures/other.html\n"  # the others are drawn
    phase, _, experiment = error.splitlines()
    assert phase == "superpose: results/phase/n2-m1/phase.nc: missing; `superpose phase --out results/phase` makes it"
    assert experiment.endswith("missing; `superpose reproduce five-squares --out results/reproduce` makes it")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("nothing"), "a link to nothing"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: path.write_bytes(b"CDF"), ""),
    ],
    ids=["dangling link", "loop of links", "folder", "damaged"],
)
def test_what_is_no_diagram_is_not_called_missing(command, make, reason):
    path = Path("results/phase/n2-m1/phase.nc")
    path.parent.mkdir(parents=True)
    make(path)
    code, output, error = command("figures", "phase-n2-m1")
    assert (code, output) == (1, "")
    assert error.startswith(f"superpose: {path}: damaged or not a results file ({reason}")
    assert error.endswith("move it away to compute it again\n")
    assert error.count("\n") == 1


@pytest.mark.usefixtures("tiny")
def test_figure_that_fails_loses_no_other(command, tiny):
    command("reproduce", "five-squares", "other")
    tiny(five_squares={"figure": FAILS}, other={})
    code, output, error = command("figures", "five-squares", "other")
    assert (code, output) == (1, "results/figures/other.html\n")
    assert error == "superpose: five-squares: RuntimeError: broken\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["othr"], "name = othr: needs the name of an experiment; perhaps other"),
        (["phase-n2m1"], "name = phase-n2m1: needs the name of an experiment; perhaps phase-n2-m1"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_unknown_figure_is_told_the_nearest(command, arguments, message):
    assert command("figures", *arguments) == (2, "", f"superpose: {message}\n")


@pytest.mark.parametrize(
    ("lacking", "advice"),
    [("kaleido", "pip install 'superpose[figures]'"), ("browser", "install Chrome, or Debian's package chromium")],
)
@pytest.mark.usefixtures("tiny")
def test_missing_program_is_named(command, monkeypatch, lacking, advice):
    def no_browser(*_, **__):
        raise RuntimeError("\n\nKaleido requires Google Chrome to be installed.\n\nmore")

    command("reproduce", "other")
    monkeypatch.setattr(plotly.io, "write_images", no_browser)
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _: None if lacking == "kaleido" else object())
    code, output, error = command("figures", "other", "--format", "pdf")
    assert (code, output) == (1, "")
    assert error.startswith("superpose: pdf: ")
    assert advice in error
    assert error.count("\n") == 1
    assert not Path("results/figures").exists()


@pytest.mark.parametrize(("columns", "own", "size"), [(1, {}, (420, 400)), (2, {"width": 1100, "height": 440}, (860, 344))])
def test_sizes_for_columns(columns, own, size):
    figure = go.Figure().update_layout(**own)
    sized = template.sized(figure, columns)
    assert (sized.layout.width, sized.layout.height) == size
    assert figure.layout.width == own.get("width")


def test_wrong_sizes_and_formats_are_named(tmp_path):
    with pytest.raises(ValueError, match="columns = 3: needs 1 or 2"):
        template.sized(go.Figure(), 3)
    with pytest.raises(ValueError, match="needs one of html, pdf, svg, png"):
        export.write({tmp_path / "a.gif": go.Figure()})


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("chromium", "google-chrome", "chrome"))), reason="needs a browser")
def test_pictures_are_written(tmp_path):
    code = """
import sys
from pathlib import Path
from plotly import graph_objects as go
from superpose.plot import export
export.write({Path(sys.argv[1], f"a.{kind}"): go.Figure() for kind in export.FORMATS})
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=120)
    start = {"html": (b"<!doctype html>", b"<html>"), "pdf": b"%PDF", "svg": b"<svg", "png": b"\x89PNG"}
    for kind, head in start.items():
        assert (tmp_path / f"a.{kind}").read_bytes().startswith(head)


# --- the tables of experiments/README.md


def test_readme_lists_every_experiment():
    page = full_table.README.read_text()
    listed = page.split(full_table.LIST)[1].strip()
    assert listed == full_table.listing(runs.experiments()), "run `python -m experiments.full_table`"
    assert listed.count("\n") == 1 + len(EXPERIMENTS)


def test_table_of_runs_comes_from_saved_results(command, tiny):
    command("reproduce")
    known = runs.experiments()
    saved = {name: runs.saved(Path("results/reproduce"), known[name], quick=False) for name in known}
    table = full_table.full_runs(known, saved)
    assert table.startswith("4 of 4 findings of 2 experiments hold.")
    assert "| `other` | largest square | 25 ± 0.5 | 25 | yes |" in table
    assert saved["other"].attrs["created"][:10] in table
    assert json.loads(saved["other"].attrs["versions"])
    tiny(other={})
    with pytest.raises(ResultError, match=r"missing; `superpose reproduce other --out nowhere` makes it"):
        runs.saved(Path("nowhere"), runs.experiments()["other"], quick=False)


def test_table_between_marks_is_replaced():
    assert full_table.between("a <m> old <m> b", "<m>", "new") == "a <m>\n\nnew\n\n<m> b"
