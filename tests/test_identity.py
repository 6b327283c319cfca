"""What a result is of: digests that differ where programs or points do, are the same everywhere else, and name the difference."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from superpose import expected_loss, features, results, sweep
from superpose.sweep import devices, identity, source
from superpose.toy_model import Params
from tests.conftest import X64

pytestmark = pytest.mark.x64

LAWS = (features.SparseUniform, features.SparseSymmetric, features.SparseExponential)
NODES = (32, 64)
POINTS = {"density": np.array([0.5, 0.1])}


@dataclass(frozen=True)
class Settings:
    """Of a sweep."""

    a: int = 1


def loss(law, nodes):
    """Of 40 features: a function whose law and nodes only parameters of a primitive know."""

    def at(point):
        W = jnp.linspace(-1, 1, 3 * 40).reshape(3, 40)
        return expected_loss.relu_output(Params(W=W, b=jnp.zeros(40)), law(point["density"]), nodes=nodes)

    return at


def program(function, points=POINTS):
    return identity.program_digest(devices.lowered(function, sweep.sweep._checked(points, None)))


# --- digests


@pytest.fixture(scope="module")
def digests():
    return {f"{law.__name__} {nodes}": program(loss(law, nodes)) for law in LAWS for nodes in NODES}


def test_laws_and_nodes_have_programs_of_their_own(digests):
    assert len(set(digests.values())) == len(LAWS) * len(NODES)
    name, digest = next(iter(digests.items()))
    assert program(loss(LAWS[0], NODES[0])) == digest, name


SCRIPT = """
import jax
jax.config.update("jax_enable_x64", {x64})
from tests import test_identity
print(test_identity.program(test_identity.loss(test_identity.LAWS[0], test_identity.NODES[0])))
"""


def test_programs_are_the_same_in_another_process(digests):
    environment = os.environ | {"PYTHONHASHSEED": "7", "SUPERPOSE_TEST_X64": str(int(X64))}
    line = [sys.executable, "-c", SCRIPT.format(x64=X64)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == next(iter(digests.values())), done.stderr


@pytest.mark.parametrize("passed", [False, True])
def test_constants_are_in_the_program(passed):
    """However large, and wherever they are: in a loop, in a function compiled by itself, or passed beside the program."""
    numbers = np.random.default_rng(0).random((60, 60))
    other = numbers.copy()
    other[-1, -1] += 1e-3

    def inside(constant):
        inner = jax.jit(lambda x: x * jnp.asarray(constant))
        return lambda point: jax.lax.fori_loop(0, 3, lambda _, x: inner(x) @ constant, point["density"] + constant).sum()

    jax.config.update("jax_use_simplified_jaxpr_constants", passed)
    try:
        first, second, third = (program(inside(x)) for x in (numbers, numbers.copy(), other))
    finally:
        jax.config.update("jax_use_simplified_jaxpr_constants", False)
    assert first == second
    assert first != third


def test_points_differ_by_name_dtype_shape_and_number():
    all_points = (
        {"a": np.arange(6.0)},
        {"b": np.arange(6.0)},
        {"a": np.arange(6.0, dtype=np.float32)},
        {"a": np.arange(6.0).reshape(3, 2)},
        {"a": np.arange(5.0)},
        {"a": np.arange(6.0), "b": np.arange(6.0)},
        {"a": np.arange(6.0)[::-1]},
        np.arange(6.0),
    )
    assert len({identity.points_digest(points) for points in all_points}) == len(all_points)
    assert identity.points_digest({"a": np.arange(12.0)[::2]}) == identity.points_digest({"a": np.arange(6.0) * 2})


# --- a finished result


def double(point):
    return {"y": 2 * point["x"]}


def hundredfold(point):
    return {"y": 100 * point["x"]}


def compute(path, function=double, x=(1.0, 2.0, 3.0), settings=Settings(), **options):
    axes = {"x": np.array(x)}
    points, labelled = sweep.grid(axes), partial(sweep.label, axes=axes)
    return sweep.result(path, function, points, labelled, settings=settings, **options)


def again(path, **attrs):
    """The same result with other attributes, as somebody else would have written it."""
    dataset = results.load(path)
    with pytest.MonkeyPatch.context() as patch:
        made = {name: attrs.get(name, value) for name, value in results.provenance().items()}
        patch.setattr(results, "provenance", lambda: made)
        results.save(path, dataset.assign_attrs(attrs), Settings(), seconds=1.0)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"function": hundredfold}, "another program"),
        ({"x": (1.0, 2.0, 3.0, 4.0, 5.0)}, "other points"),
        ({"x": (1.0, 2.0, 4.0)}, "other points"),
        ({"settings": Settings(2)}, "other settings"),
    ],
)
def test_result_of_something_else_is_refused_by_name(tmp_path, other, what):
    path = tmp_path / "a.nc"
    compute(path)
    before = path.read_bytes()
    message = rf"a\.nc: holds a result of {what}; name another folder, or move it away to compute it again$"
    with pytest.raises(results.ResultError, match=message):
        compute(path, **other)
    assert path.read_bytes() == before


def test_result_does_not_depend_on_the_width_it_was_computed_with(tmp_path):
    dataset = compute(tmp_path / "a.nc", width=2)
    for width in (1, 3, None):
        xr.testing.assert_identical(compute(tmp_path / "a.nc", width=width), dataset)


def test_result_without_digests_is_read_by_its_settings(tmp_path):
    """As the version before wrote it."""
    path = tmp_path / "a.nc"
    dataset = compute(path)
    made = {name: x for name, x in dataset.attrs.items() if not name.endswith("_sha256")} | {"format": "superpose results 1"}
    dataset.drop_attrs(deep=False).assign_attrs(made).to_netcdf(path, engine="scipy")
    assert compute(path, hundredfold)["y"].values.tolist() == [2, 4, 6]
    with pytest.raises(results.ResultError, match="other settings"):
        compute(path, settings=Settings(2))


def test_version_that_made_another_program_is_told(tmp_path):
    path = tmp_path / "a.nc"
    compute(path)
    versions = json.loads(results.provenance()["versions"]) | {"jax": "0.1", "jaxlib": "0.2"}
    again(path, versions=json.dumps(versions))
    assert compute(path)["y"].values.tolist() == [2, 4, 6]  # the same program, whatever made it
    here = jax.__version__
    with pytest.raises(results.ResultError, match=rf"another program \(made with jax 0\.1, here {here}; jaxlib 0\.2, here"):
        compute(path, hundredfold)


def test_result_of_another_platform_is_compared_as_it_would_be_there(tmp_path):
    path, points = tmp_path / "a.nc", {"x": np.array([1.0, 2.0, 3.0])}
    compute(path)
    there = identity.program_digest(devices.lowered(double, sweep.sweep._checked(points, None), platform="cuda"))
    again(path, platform="cuda", program_sha256=there)
    assert compute(path)["y"].values.tolist() == [2, 4, 6]
    with pytest.raises(results.ResultError, match="another program"):
        compute(path, hundredfold)


def test_code_that_is_known_is_not_traced_again(tmp_path):
    path = tmp_path / "a.nc"
    compute(path, code="first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "lowered", None)
        assert compute(path, code="first")["y"].values.tolist() == [2, 4, 6]
    assert compute(path, code="second")["y"].values.tolist() == [2, 4, 6]  # the program is the same
    with pytest.raises(results.ResultError, match="another program"):
        compute(path, hundredfold, code="second")


# --- source code

MODULE = """
import os
from math import pi as circle
LIMIT, OTHER = 3, 4
class Config:
    size: int = LIMIT
def helper(x):
    return circle * x
def compute(config: Config):
    return helper(config.size)
def findings(dataset):
    return OTHER
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("OTHER\n", "LIMIT\n", True),
        ("import os", "import sys", True),
        ("circle * x", "circle *  x  # a comment", True),
        ("def helper(x):\n", 'def helper(x):\n    """What it does."""\n', True),
        ("circle * x", "circle + x", False),
        ("LIMIT, OTHER = 3", "LIMIT, OTHER = 2", False),
        ("import pi", "import tau", False),
        ("helper(config.size)", "helper(config.size + 1)", False),
        ("size: int", "more: int = 1\n    size: int", False),
    ],
)
def test_code_reached_from_a_function(old, new, same):
    changed = MODULE.replace(old, new)
    assert changed != MODULE
    assert (source.reached(MODULE, "compute") == source.reached(changed, "compute")) is same


def test_library_has_one_digest():
    assert len(source.library()) == 64
    assert source.library.__wrapped__() == source.library()
