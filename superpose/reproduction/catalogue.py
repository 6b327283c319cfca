"""Which experiments there are, by name and title. Quick to import: no experiment is imported for it."""

import ast
import importlib
from importlib.util import find_spec
from typing import Any

PACKAGE = "superpose.experiments" if find_spec("superpose.experiments") else "experiments"
"""Where experiments are: inside superpose if a wheel brought them, else in the root of the checkout. `EXPERIMENTS` lists them."""


def modules() -> tuple[str, ...]:
    """The experiments' modules, in the paper's order.

    Raises:
        ModuleNotFoundError: there is no package of experiments, or it is not that of superpose.
    """
    try:
        return importlib.import_module(PACKAGE).EXPERIMENTS
    except (ImportError, AttributeError):
        advice = "install superpose with `pip install .` in its checkout, or run from there with `pip install -e .`"
        raise ModuleNotFoundError(f"package {PACKAGE}: not found, or not that of superpose; {advice}") from None


def titles() -> dict[str, str]:
    """The title of each experiment by its name, in the paper's order, taken from the text of its module.

    Raises:
        ModuleNotFoundError: as for `modules`.
    """
    return dict(map(_title, modules()))


def _title(module: str) -> tuple[str, str]:
    """`NAME` and `TITLE` of a module; one that cannot be read has its error for a title."""
    try:
        spec: Any = find_spec(f"{PACKAGE}.{module}")
        constants = _constants(spec.loader.get_source(spec.name))
        return constants["NAME"], constants["TITLE"]
    except Exception as error:  # whatever is wrong with one, the others are listed
        return module.replace("_", "-"), f"cannot be read: {type(error).__name__}"


def _constants(source: str) -> dict[str, Any]:
    """What a module assigns literally, by name."""
    assigned = [
        node for node in ast.parse(source).body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    ]
    return {ast.unparse(target): ast.literal_eval(node.value) for node in assigned for target in node.targets}
