"""The shape of the library: which way data flows, who may import what, docstrings and file sizes."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.x64

ROOT = Path(__file__).parent.parent / "superpose"

ALLOWED = {
    # features
    "magnitudes": set(),
    "random_bits": set(),
    "features": {"magnitudes", "random_bits"},
    "ladder": {"magnitudes"},
    "sets": {"features", "ladder"},
    "shares": {"magnitudes", "sets"},
    "own_feature": {"magnitudes", "sets"},
    "few_active": {"ladder", "magnitudes", "own_feature", "sets", "shares"},
    "chebyshev": set(),
    "logarithms": set(),
    "period": {"few_active", "ladder", "magnitudes", "sets"},
    "models_last": set(),
    "binary_states": {"magnitudes", "sets"},
    "box_averages": {"magnitudes", "sets"},
    "fourier_series": {"few_active", "ladder", "magnitudes", "own_feature", "period", "sets", "shares"},
    "many_inputs": {"few_active", "fourier_series", "ladder", "magnitudes", "own_feature", "period", "sets", "shares"},
    "compressed_series": {
        "chebyshev",
        "fourier_series",
        "ladder",
        "logarithms",
        "magnitudes",
        "many_inputs",
        "models_last",
        "own_feature",
        "period",
        "sets",
        "shares",
    },
    "series_error": {"fourier_series", "ladder", "magnitudes", "own_feature", "period", "sets", "shares"},
    # the model and its exact loss
    "toy_model": set(),
    "hidden_layer": {"toy_model"},
    "frames": set(),
    "one_by_one": set(),
    "weights": set(),
    "many_features.blocks": {"weights"},
    "many_features.tiles": {"many_features.blocks"},
    "many_features.dimensionality": {"many_features.blocks", "weights"},
    "many_features.pairs": {"many_features.blocks", "many_features.tiles"},
    "many_features.histograms": {"many_features.blocks", "many_features.tiles"},
    "many_features.partners": {"many_features.blocks", "many_features.tiles", "weights"},
    "many_features": {
        "many_features.blocks",
        "many_features.dimensionality",
        "many_features.histograms",
        "many_features.pairs",
        "many_features.partners",
    },
    "interference.dense": {"one_by_one", "weights"},
    "interference.description": {"frames", "many_features", "many_features.blocks", "many_features.tiles", "weights"},
    "interference": {"interference.dense", "interference.description"},
    "expected_loss": {
        "binary_states",
        "box_averages",
        "compressed_series",
        "features",
        "fourier_series",
        "magnitudes",
        "models_last",
        "series_error",
        "sets",
        "toy_model",
    },
    # the geometry of a solution
    "shapes": {"frames", "weights"},
    "geometry": {"shapes", "weights"},
    # what single neurons do
    "neurons": {"weights"},
    # what becomes of each feature
    "labels": set(),
    # train | solve
    "train": {"features"},
    "solve.solution": set(),
    "solve.basins": set(),
    "solve.certificate": {"solve.solution"},
    "solve.inputs": set(),
    "solve.programs": {"solve.inputs"},
    "solve.lanes": set(),
    "solve.quasi_newton": set(),
    "solve.newton": {"one_by_one", "solve.certificate", "solve.quasi_newton"},
    "solve.probe": {"solve.certificate", "solve.quasi_newton"},
    "solve.dense": {
        "solve.certificate",
        "solve.lanes",
        "solve.newton",
        "solve.probe",
        "solve.programs",
        "solve.quasi_newton",
        "solve.solution",
    },
    "solve.krylov": {"one_by_one"},
    "solve.rotations": {"one_by_one"},
    "solve.large": {
        "solve.certificate",
        "solve.krylov",
        "solve.programs",
        "solve.quasi_newton",
        "solve.solution",
    },
    "solve.toy": {
        "expected_loss",
        "features",
        "labels",
        "solve.basins",
        "solve.dense",
        "solve.large",
        "solve.rotations",
        "solve.solution",
        "toy_model",
    },
    "solve": {"solve.basins", "solve.dense", "solve.large", "solve.rotations", "solve.solution", "solve.toy"},
    # what hurts a model
    "adversarial": {"features", "one_by_one", "toy_model"},
    # training in time, and what the loss is made of
    "dynamics": {"features", "interference", "train"},
    "activity": {"features", "few_active", "sets", "shares", "toy_model"},
    # results know nothing of what they hold; settings nothing at all
    "settings": set(),
    "findings": set(),
    "results": set(),
    "source": {"results"},
    # sweeps: how every long computation runs
    "processes": {"settings"},
    "chunks": {"results"},
    "devices": set(),
    "identity": {"devices", "results"},
    "sweep": {"chunks", "devices", "identity", "processes", "results"},
    # phase
    "phase.scores": set(),
    "phase.candidates": {"labels", "toy_model"},
    "phase.boundary": {"expected_loss", "features", "solve", "toy_model"},
    "phase.diagram": {"expected_loss", "features", "phase.candidates", "labels", "settings", "solve", "toy_model"},
    "phase.run": {
        "phase.boundary",
        "phase.candidates",
        "phase.diagram",
        "labels",
        "phase.scores",
        "settings",
        "source",
        "sweep",
    },
    "phase.sampled": {"chunks", "features", "processes", "settings", "sweep", "toy_model", "train"},
    "phase": {"phase.boundary", "phase.candidates", "phase.diagram", "labels", "phase.scores", "settings"},
    # plot draws saved results only
    "plot.template": set(),
    "plot.export": {"plot.template", "results"},
    "plot.places": set(),
    "plot.label_regions": {"plot.places", "plot.template"},
    "plot.boundaries": {"plot.template"},
    "plot.bars": {"plot.template"},
    "plot.gram": {"plot.template"},
    "plot.plane": {"plot.template"},
    "plot.neurons": {"plot.template"},
    "plot.phase": {"plot.boundaries", "plot.label_regions", "plot.template"},
    "plot": {
        "plot.bars",
        "plot.gram",
        "plot.label_regions",
        "plot.neurons",
        "plot.phase",
        "plot.plane",
        "plot.template",
    },
    # experiments, which the library finds by name
    "catalogue": set(),
    "reproduction": {"catalogue", "chunks", "findings", "results", "source"},
    # the commands, and what calls them; nothing imports it
    "commands": set(),
    "commands.run": {"processes", "results", "settings"},
    "commands.parsing": set(),
    "commands.phase_report": set(),
    "commands.phase": {
        "commands.phase_report",
        "commands.run",
        "phase.run",
        "phase.sampled",
        "plot",
        "processes",
        "results",
        "settings",
    },
    "commands.reproduce": {"catalogue", "commands.run", "reproduction", "results", "settings"},
    "commands.figures": {
        "commands.phase",
        "commands.run",
        "plot",
        "plot.export",
        "plot.template",
        "reproduction",
        "results",
        "settings",
    },
    "cli": {
        "commands.figures",
        "commands.parsing",
        "commands.phase",
        "commands.reproduce",
        "commands.run",
        "processes",
    },
    "": set(),
}
"""Every module, below all that it may import from the library: the order is the direction of the arrows."""

ONLY = {
    "plotly": lambda module: module.split(".")[0] == "plot",
    "optax": lambda module: module in ("train", "phase.sampled", "solve.large") or module.split(".")[0] == "sae",
    "tyro": lambda module: module == "cli" or module.split(".")[0] == "commands",
    "rich": lambda module: module.split(".")[0] == "commands",
    "torch": lambda _: False,
}
"""Outside packages and the modules that may import them."""

NAMES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in NAMES.items()}
every_module = pytest.mark.parametrize("module", sorted(TREES), ids=lambda name: name or "superpose")


def imported(nodes):
    """Full names of everything imported by some nodes; `from a import b` gives `a.b`, which may be more than a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name):
    """The module of the library that the full name `superpose...` lies in: the longest that exists."""
    parts = name.split(".")[1:]
    return next(".".join(parts[:k]) for k in range(len(parts), -1, -1) if ".".join(parts[:k]) in TREES)


@every_module
def test_imports_stay_within_the_allowed_arrows(module):
    internal = {inside(name) for name in imported(ast.walk(TREES[module])) if name.split(".")[0] == "superpose"}
    assert module in ALLOWED, f"superpose.{module} is new: say in ALLOWED what it may import"
    assert internal <= ALLOWED[module], f"superpose.{module} may not import {sorted(internal - ALLOWED[module])}"


def test_allowed_arrows_go_one_way_and_none_is_left_over():
    above = set()
    for module, targets in ALLOWED.items():
        assert targets <= above, f"{module} stands above {sorted(targets - above)}, which it may import"
        above.add(module)
    assert set(ALLOWED) == set(TREES)
    assert not any("cli" in targets for targets in ALLOWED.values())


@every_module
def test_outside_packages_stay_where_they_belong(module):
    packages = {name.split(".")[0] for name in imported(ast.walk(TREES[module]))}
    misplaced = {name for name in packages & set(ONLY) if not ONLY[name](module)}
    assert not misplaced, f"superpose.{module} may not import {sorted(misplaced)}"
    assert not packages & {"pickle", "experiments", "benchmarks", "tests"}


LIGHT = [
    "settings",
    "processes",
    "results",
    "catalogue",
    "",
    *(name for name in TREES if name.split(".")[0] in ("cli", "commands")),
]


@pytest.mark.parametrize("module", LIGHT)
def test_what_the_command_starts_with_imports_no_jax(module):
    packages = {name.split(".")[0] for name in imported(TREES[module].body)}
    assert not packages & {"jax", "jaxlib", "flax", "optax", "jaxtyping", "plotly", "scipy"}


@every_module
def test_module_is_documented_and_short(module):
    assert ast.get_docstring(TREES[module]), f"superpose.{module} has no docstring"
    lines = len(NAMES[module].read_text().splitlines())
    assert lines <= 400, f"superpose.{module} has {lines} lines: split it by concept"


@every_module
def test_public_names_have_docstrings(module):
    def public(body):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield node
                if isinstance(node, ast.ClassDef):
                    yield from public(node.body)

    bare = [node.name for node in public(TREES[module].body) if not ast.get_docstring(node)]
    assert not bare, f"superpose.{module}: no docstring on {bare}"
