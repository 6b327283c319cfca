"""The shape of the library: which way data flows, who may import what, docstrings and file sizes."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.x64

ROOT = Path(__file__).parent.parent / "superpose"

ROOMS = {
    "_jax": set(),
    # features and models
    "features": {"_jax"},
    "toy_model": set(),
    "hidden_layer": {"toy_model"},
    "autoencoder": set(),
    # the exact loss
    "expected_loss": {"_jax", "autoencoder", "features", "toy_model"},
    # what is in a matrix of directions
    "weights": set(),
    "frames": set(),
    "geometry": {"frames", "weights"},
    "neurons": {"weights"},
    "many_features": {"weights"},
    "interference": {"_jax", "frames", "many_features", "weights"},
    "labels": set(),
    # solved exactly, or trained
    "solve": {"_jax", "expected_loss", "features", "labels", "toy_model"},
    "editing": {"expected_loss", "features", "toy_model", "weights"},
    "synthetic": {"_jax", "features", "frames"},
    "train": {"features"},
    "dynamics": {"features", "interference", "train"},
    "adversarial": {"_jax", "features", "toy_model"},
    # files, processes, sweeps: they know nothing of what they hold
    "settings": set(),
    "processes": {"settings"},
    "results": set(),
    "sweep": {"processes", "results"},
    "sae": {"autoencoder", "expected_loss", "features", "solve", "sweep", "weights"},
    "phase": {
        "expected_loss",
        "features",
        "labels",
        "processes",
        "settings",
        "solve",
        "sweep",
        "toy_model",
        "train",
    },
    "unmix": {
        "editing",
        "expected_loss",
        "features",
        "frames",
        "results",
        "sae",
        "settings",
        "solve",
        "sweep",
        "synthetic",
        "toy_model",
        "train",
    },
    "plot": {"results"},
    "reproduction": {"results", "sweep"},
    # the command, which nothing imports
    "commands": {"phase", "plot", "processes", "reproduction", "results", "settings", "unmix"},
    "cli": {"commands", "processes"},
    "": set(),
}
"""Every room, a folder or a single file, below all that it may import: the order is the direction of the arrows."""

SIDE_DOORS = {
    "_jax": "has no door: each module is a tool of its own",
    "commands": "each command imports what it runs only when it runs",
    "features.characteristic": "the series takes powers from it, which no user needs",
    "features.forest": "the exact loss climbs it",
    "many_features.blocks": "interference.describe reads blocks as many_features does",
    "many_features.tiles": "and tiles",
    "phase.run": "for the command; the door is quick to import",
    "phase.sampled": "for the command",
    "plot.export": "for the command; it starts a browser",
    "plot.template": "experiments style figures of their own with it",
    "reproduction.catalogue": "for the command, before jax is imported",
    "reproduction.runs": "for the command, once jax is imported",
    "sweep.source": "digests of code, which no user needs",
}
"""Modules of a room that others import past its door, the names in `__init__`, and why."""

ONLY = {
    "plotly": lambda module: module.split(".")[0] == "plot",
    "optax": lambda module: (
        module in ("train", "phase.sampled", "solve.large", "synthetic.directions", "unmix.toy")
        or module.split(".")[0] == "sae"
    ),
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


def room(module):
    return module.split(".")[0]


def arrows(module):
    """The modules of the library that one imports."""
    return {inside(name) for name in imported(ast.walk(TREES[module])) if name.split(".")[0] == "superpose"}


@every_module
def test_imports_stay_within_the_allowed_arrows(module):
    assert room(module) in ROOMS, f"superpose.{room(module)} is new: say in ROOMS what it may import"
    others = {room(target) for target in arrows(module)} - {room(module)}
    assert others <= ROOMS[room(module)], f"superpose.{module} may not import {sorted(others - ROOMS[room(module)])}"


@every_module
def test_other_rooms_are_entered_by_their_doors(module):
    past = {target for target in arrows(module) if "." in target and room(target) != room(module)}
    undeclared = {target for target in past if target not in SIDE_DOORS and room(target) not in SIDE_DOORS}
    assert not undeclared, f"superpose.{module} imports {sorted(undeclared)}: take it from the room's __init__"


def test_allowed_arrows_go_one_way_and_none_is_left_over():
    above = set()
    for name, targets in ROOMS.items():
        assert targets <= above, f"{name} stands above {sorted(targets - above)}, which it may import"
        above.add(name)
    assert set(ROOMS) == {room(module) for module in TREES}
    assert not any("cli" in targets for targets in ROOMS.values())
    used = {name: {room(target) for module in TREES if room(module) == name for target in arrows(module)} for name in ROOMS}
    unused = {name: targets - used[name] for name, targets in ROOMS.items() if targets - used[name]}
    assert not unused


def test_no_circle_within_a_room():
    def visit(module, path):
        assert module not in path, f"a circle: {' -> '.join([*path, module])}"
        if module not in done:
            for target in arrows(module) - {module}:
                if room(target) == room(module) and target != room(module):
                    visit(target, [*path, module])
            done.add(module)

    done = set()
    for module in TREES:
        visit(module, [])


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
    "reproduction",
    "reproduction.catalogue",
    "reproduction.checks",
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
