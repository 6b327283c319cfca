"""The exact loss against corner sums, the Bromwich integral, sampling and closed forms."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from checks import EPS, assert_close, assert_matches_simulation
from exact_oracles import bromwich_loss, corner_sums, uniform_losses
from loss_models import (
    LAWS,
    SETS,
    almost_orthogonal,
    big_model,
    make_models,
    make_params,
    of_kind,
    outputs,
    side_by_side,
    total,
    uniform_outputs,
    zoo,
)

from superpose import expected_loss, features
from superpose.expected_loss import binary_states, box_quadrature
from superpose.toy_model import Params

# --- the oracles themselves


@pytest.mark.x64
def test_corner_sums_give_the_values_of_the_theory():
    # Integrated by hand to exact fractions, all three features active.
    found = corner_sums([0.7, -0.4, 0.25], -0.1, [1.0, 1.0, 1.0], 0)
    expected = [8057 / 38400, 370919 / 4480000, 2840843 / 18816000]
    np.testing.assert_allclose([float(x) for x in found], expected, rtol=1e-14)


@pytest.mark.x64
def test_bromwich_agrees_with_corner_sums():
    W, b = (np.asarray(x, float) for x in make_models(6, 3, 2, seed=3))
    G = oracles.gram(W[1])
    for p in (0.03, 0.3, 1.0):
        exact = uniform_losses(W[1], b[1], np.full(6, p))
        found = [bromwich_loss(G[i], b[1, i], np.full(6, p), i, nodes=16000) for i in range(6)]
        # What is cut off at 16,000 nodes falls as their square: 1e-8 seen for few visible features.
        np.testing.assert_allclose(np.array(found), exact, rtol=0, atol=1e-7 * exact.max())


# --- values


@pytest.mark.x64
@pytest.mark.parametrize(("n", "nodes", "rtol"), [(2, 64, 1e-13), (5, 64, 1e-5), (5, 512, 1e-8), (8, 512, 1e-8)])
def test_loss_is_exact_to_the_stated_error(n, nodes, rtol):
    W, b, p, truth = zoo(n)
    found = uniform_outputs(W, b, p, nodes)
    relative = np.abs(found - truth).sum(1) / truth.sum(1)
    assert relative.max() <= rtol, relative


@pytest.mark.x64
def test_two_features_almost_orthogonal_to_an_output_cost_no_accuracy():
    W, b, p = almost_orthogonal()
    truth = uniform_losses(W, b, p)
    found = uniform_outputs(jnp.asarray(W)[None], jnp.asarray(b)[None], jnp.asarray(p)[None], 512)[0]
    assert_close(found, truth, rtol=1e-8)


@pytest.mark.x64
@pytest.mark.parametrize("n", [2, 5])
def test_float32_is_enough_for_five_digits(n):
    with jax.enable_x64(False):
        W, b, p, truth = zoo(n)
        assert W.dtype == jnp.float32
        found = uniform_outputs(W, b, p, 64).astype(float)
    relative = np.abs(found - truth).sum(1) / truth.sum(1)
    assert relative.max() <= 1e-5, relative


@pytest.mark.x64
def test_loss_gives_the_values_of_the_theory():
    # Integrated piece by piece, to the digits given.
    angle = 2 * np.pi * jnp.arange(5) / 5
    pentagon = Params(W=jnp.stack([jnp.cos(angle), jnp.sin(angle)]), b=jnp.zeros(5))
    assert_close(total(pentagon, features.SparseUniform(0.1), 1.0, nodes=512), 0.0404235950410596, rtol=1e-9)
    pair = Params(W=jnp.array([[0.9, -0.7]]), b=jnp.array([0.05, -0.02]))
    assert_close(total(pair, features.SparseUniform(0.3), jnp.array([1, 0.6])), 0.0398577287635495, rtol=1e-13)


@pytest.mark.x64
@pytest.mark.parametrize("bias", [0.2, -0.1, 0.0])
def test_an_ignored_feature_costs_no_accuracy(bias):
    """A zero column: y = b whoever is active, so the loss is `p/3 - p r(b) + r(b)^2`, and the slopes are those of b."""
    params = make_params().replace(b=make_params().b.at[0].set(bias))
    params = params.replace(W=params.W.at[:, 0].set(0))
    p, positive = 0.3, max(bias, 0)
    found, slope = jax.value_and_grad(lambda params: outputs(params, features.SparseUniform(p), nodes=512)[0])(params)
    assert_close(found, p / 3 - p * positive + positive**2, rtol=1e-12)
    if bias:
        assert_close(slope.b, np.eye(5)[0] * (2 * bias - p) * (bias > 0), rtol=1e-12)
    assert np.all(np.isfinite(slope.W))


@pytest.mark.x64
def test_closed_form_for_few_features_is_what_the_series_tends_to(monkeypatch):
    W, b = make_models(3, 2, 4, seed=1)
    p = jnp.tile(jnp.array([[0.2, 0.7, 1.0]]), (4, 1))
    closed = side_by_side(W, b, p, 64)
    monkeypatch.setattr(box_quadrature, "MOST_FLAT", 0)
    series = side_by_side(W, b, p, 512)
    assert np.any(series != closed)  # two ways
    # Up to three kinked terms of three features at 512 nodes: 1e-7 allows for overlaps that are almost 0.
    assert_close(series, closed, rtol=1e-7)


@pytest.mark.parametrize("kind", ["independent", "together", "exclusive"])
def test_binary_states_are_what_the_series_tends_to(kind, monkeypatch):
    params, distribution = make_params(), of_kind("binary", 0.3, kind)
    listed = outputs(params, distribution)
    assert_close(listed, binary_by_states(params, 0.3, kind), rtol=64 * EPS)
    monkeypatch.setattr(binary_states, "MOST_STATES", 0)
    series = jax.jit(lambda p, d: expected_loss.output_losses(p, d, nodes=4096))(params, distribution)
    # Atoms: the terms fall as nodes^-2 only, so 4096 of them leave an error of about 1e-4 of a kink.
    assert_close(series, listed, rtol=1e-4)


def binary_by_states(params, p, kind):
    """A loop over all states of all sets."""
    sets = range(5) if kind == "independent" else SETS
    options = []
    for s in sorted(set(sets)):
        members = [j for j in range(5) if sets[j] == s]
        if kind == "together":
            options.append([((), 1 - p), (tuple(members), p)])
        else:
            options.append([((), 1 - p * len(members))] + [((j,), p) for j in members])
    G, b, losses = oracles.gram(params.W), np.asarray(params.b, float), np.zeros(5)
    for state in itertools.product(*options):
        x = np.zeros(5)
        for active, _ in state:
            x[list(active)] = 1
        losses += np.prod([chance for _, chance in state]) * (x - np.maximum(G @ x + b, 0)) ** 2
    return losses


def draw(rng, law, density, kind, count):
    """Inputs straight from the definitions, in plain NumPy: `(count, 5)`."""
    u = {
        "uniform": lambda: rng.random((count, 5)),
        "binary": lambda: np.ones((count, 5)),
        "symmetric": lambda: rng.uniform(-1, 1, (count, 5)),
        "exponential": lambda: rng.exponential(size=(count, 5)),
    }[law]()
    sets = np.array(SETS)
    if kind == "independent":
        return u * (rng.random((count, 5)) < density)
    v = rng.random((count, 2))[:, sets]
    if kind == "together":
        return u * (v < density)
    rank = np.array([sum(sets[:j] == sets[j]) for j in range(5)])  # place within its set
    return u * ((v >= rank * density) & (v < (rank + 1) * density))


ALWAYS = [("uniform", "together"), ("symmetric", "independent"), ("exponential", "exclusive"), ("binary", "together")]


@pytest.mark.parametrize(
    ("law", "kind"),
    [
        pytest.param(law, kind, marks=[] if (law, kind) in ALWAYS else [pytest.mark.slow, pytest.mark.x64])
        for law, kind in itertools.product(LAWS, ("independent", "together", "exclusive"))
    ],
)
def test_every_law_and_coupling_against_sampling(law, kind):
    params, density = make_params(), 0.3
    losses = np.asarray(outputs(params, of_kind(law, density, kind), nodes=512), float)
    G, b = oracles.gram(params.W), np.asarray(params.b, float)
    rng, samples = np.random.default_rng(7), []
    for _ in range(40):
        x = draw(rng, law, density, kind, 50_000)
        samples.append(((x - np.maximum(x @ G + b, 0)) ** 2).sum(1).reshape(-1, 100).mean(1))
    assert_matches_simulation(np.concatenate(samples), losses.sum())


@pytest.mark.x64
@pytest.mark.parametrize("kind", ["independent", "together", "exclusive"])
@pytest.mark.parametrize("law", ["uniform", "symmetric", "exponential"])
def test_every_law_and_coupling_against_the_bromwich_integral(law, kind):
    """Not in float32: an exponential's interval is some 50 long, and subtracting its parabola costs 2e-4 there."""
    params, density = make_params(), 0.3
    losses = outputs(params, of_kind(law, density, kind), nodes=512)
    G, b = oracles.gram(params.W), np.asarray(params.b)
    settings = dict(law=law, kind=kind, sets=None if kind == "independent" else SETS, nodes=8000)
    truth = np.array([bromwich_loss(G[i], b[i], density, i, **settings) for i in range(5)])
    # 512 nodes with a step left in by sets, or an unbounded law.
    assert_close(losses, truth, rtol=1e-5)


@pytest.mark.x64
def test_one_jitted_function_tells_the_laws_and_couplings_apart():
    """In jaxlib 0.10.2 tree structures of registered dataclasses compare equal if their fields do, whatever the class.

    Two classes with the same fields would share an entry of jit's cache, whenever their hashes meet, and one of them get the
    other's numbers. So a static field has to tell them apart.
    """
    kinds = ("independent", "together", "exclusive")
    structures = [jax.tree.structure(of_kind(law, 0.3, kind)) for law in LAWS for kind in kinds]
    assert [a == b for a, b in itertools.combinations(structures, 2)] == [False] * 66


@pytest.mark.x64
@pytest.mark.parametrize(("law", "coupled"), [("uniform", features.Together), ("exponential", features.Exclusive)])
def test_groups_of_one_are_independent(law, coupled):
    params, p = make_params(), jnp.array([0.1, 0.5, 0.3, 0.9, 0.2])
    independent = outputs(params, LAWS[law](p), nodes=512)
    alone = outputs(params, coupled(LAWS[law](p), tuple(range(5))), nodes=512)
    assert_close(alone, independent, rtol=64 * EPS)


# --- linear and mean field


@pytest.mark.parametrize("kind", ["independent", "together", "exclusive"])
@pytest.mark.parametrize("law", LAWS)
def test_linear_is_the_covariance_formula(law, kind):
    params, density = make_params(), 0.3
    importance = np.linspace(1, 0.5, 5)
    second = {"uniform": 1 / 3, "binary": 1, "symmetric": 1 / 3, "exponential": 2}[law]
    first = {"uniform": 1 / 2, "binary": 1, "symmetric": 0, "exponential": 1}[law]
    joint = {"independent": density**2, "together": density, "exclusive": 0}[kind]
    mean = np.full(5, density * first)
    moments = np.empty((5, 5))  # E x_i x_j
    for i, j in itertools.product(range(5), repeat=2):
        same = i != j and SETS[i] == SETS[j]
        moments[i, j] = density * second if i == j else first**2 * (joint if same else density**2)
    error, b = np.eye(5) - oracles.gram(params.W), np.asarray(params.b, float)
    expected = sum(
        importance[i] * (error[i] @ moments @ error[i] - 2 * b[i] * error[i] @ mean + b[i] ** 2) for i in range(5)
    )
    found = expected_loss.linear(params, of_kind(law, density, kind), jnp.asarray(importance))
    assert_close(found, expected)


@pytest.mark.x64
def test_linear_minimum_is_that_of_pca():
    """With the m features of largest `I Var` kept and b the mean of the others, what is left is their `I Var`."""
    p, importance = jnp.array([0.1, 0.9, 0.5, 0.3]), jnp.array([1.0, 0.2, 0.8, 0.6])
    distribution = features.SparseUniform(p)
    value = np.asarray(importance * (p / 3 - p**2 / 4))
    kept = np.sort(np.argsort(value)[-2:])
    W = np.zeros((2, 4))
    W[[0, 1], kept] = 1
    mean = np.where(np.isin(np.arange(4), kept), 0, np.asarray(p) / 2)
    params = Params(W=jnp.asarray(W), b=jnp.asarray(mean))
    found, gradient = jax.value_and_grad(expected_loss.linear)(params, distribution, importance)
    assert_close(found, np.sort(value)[:2].sum())
    assert np.abs(gradient.W).max() <= 8 * EPS
    assert np.abs(gradient.b).max() <= 8 * EPS


@pytest.mark.x64
def test_mean_field_is_close_for_many_active_features_and_not_for_few():
    params, judged = big_model(1000), jnp.zeros(1000).at[:2].set(1)
    dense, sparse = features.SparseUniform(0.9), features.SparseUniform(0.01)
    mean_field = jax.jit(expected_loss.mean_field)
    # 900 active features: corrections of the third cumulant, 1 / sqrt(900) of it.
    assert abs(mean_field(params, dense, judged) / total(params, dense, judged) - 1) <= 0.003
    assert abs(mean_field(params, sparse, judged) / total(params, sparse, judged) - 1) >= 0.02


# --- errors


@pytest.mark.x64
def test_wrong_arguments_are_named():
    params, distribution = make_params(), features.SparseUniform(0.3)
    for function in (expected_loss.relu_output, expected_loss.error_estimate, expected_loss.output_losses):
        for nodes in (0, 7, -8):
            with pytest.raises(ValueError, match=f"nodes = {nodes}"):
                function(params, distribution, nodes=nodes)
        with pytest.raises(ValueError, match="W has shape"):
            function(Params(W=params.W, b=params.b[1:]), distribution)
        with pytest.raises(ValueError, match="W has shape"):
            function(jax.tree.map(lambda x: x[None], params), distribution)
        for density in (0.0, 1.5, -0.1):
            with pytest.raises(ValueError, match="density"):
                function(params, features.SparseUniform(density))
        with pytest.raises(ValueError, match="density has shape"):
            function(params, features.SparseUniform(jnp.full(4, 0.1)))
        with pytest.raises(ValueError, match="sets"):
            function(params, features.Together(distribution, (0, 0, 1)))
        with pytest.raises(ValueError, match="adds up"):
            function(params, features.Exclusive(features.SparseUniform(0.4), SETS))


EXCHANGED = """
import jax.numpy as jnp
from superpose import expected_loss, features, hidden_layer, toy_model
law, params = features.SparseUniform(0.3), toy_model.Params(W=jnp.eye(3), b=jnp.zeros(3))
pairs = [(law, params), (hidden_layer.absolute_value(3), law), (params.W, law), (params, 0.3)]
pairs += [(params, features.Tree(law, jnp.zeros(3, int))), (params, features.Exclusive(law, (0.0, 0.0, 1.0)))]
pairs += [(params, features.Tree(features.Together(law, (0, 0, 1)), (-1, 0, 0)))]
for function in ("relu_output", "error_estimate", "output_losses", "nodes_for", "linear", "mean_field"):
    for pair in pairs:
        try:
            getattr(expected_loss, function)(*pair)
        except ValueError as error:
            print(error)
"""


def test_exchanged_or_wrong_kinds_are_named():
    """In a process of its own, as here the tests' own checks of types come first."""
    done = subprocess.run([sys.executable, "-c", EXCHANGED], capture_output=True, text=True, check=True, timeout=120)
    needs = "needs toy_model.Params first, then one of superpose.features"
    assert done.stdout.splitlines() == 6 * [
        f"params is a SparseUniform, distribution a Params: {needs}",
        f"params is a Untied, distribution a SparseUniform: {needs}",
        f"params is a ArrayImpl, distribution a SparseUniform: {needs}",
        "distribution is a float: needs one of superpose.features, such as SparseUniform(0.1)",
        "parents = [0 0 0]: needs a tuple of whole numbers, which is known before anything is traced",
        "sets = (0.0, 0.0, 1.0): needs a tuple of whole numbers, which is known before anything is traced",
        "features is a Together: needs one law for all, such as SparseUniform(0.1)",
    ]
