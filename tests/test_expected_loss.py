"""The exact loss against corner sums, the Bromwich integral, sampling and closed forms; its bound; its derivatives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from checks import EPS, assert_close, assert_matches_simulation, traced_anew
from exact_oracles import bromwich_loss, corner_sums, uniform_losses
from jax.flatten_util import ravel_pytree

from superpose import binary_states, box_averages, expected_loss, features, fourier_series
from superpose.sets import sets_of
from superpose.toy_model import Params

SETS = (0, 1, 0, 1, 1)
LAWS = {
    "uniform": features.SparseUniform,
    "binary": features.SparseBinary,
    "symmetric": features.SparseSymmetric,
    "exponential": features.SparseExponential,
}
DENSITIES = (0.001, 0.03, 0.3, 0.9, 1.0)


def make_models(n, m, count, seed, *, shortest=0.2):
    """Columns of norm `shortest` to 1.5, biases of both signs; every other model has a zero column."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((count, m, n))
    W *= rng.uniform(shortest, 1.5, (count, 1, n)) / np.linalg.norm(W, axis=1, keepdims=True)
    W[::2, :, 0] = 0
    return jnp.asarray(W), jnp.asarray(rng.uniform(-0.5, 0.5, (count, n)))


def make_params(n=5, m=2, seed=0):
    W, b = make_models(n, m, 2, seed)
    return Params(W=W[1], b=b[1])


def of_kind(law, density, kind):
    """Five features, in sets of two and three where they are coupled."""
    if kind == "independent":
        return LAWS[law](density)
    return {"together": features.Together, "exclusive": features.Exclusive}[kind](LAWS[law](density), SETS)


outputs, total, bound = expected_loss.output_losses, expected_loss.relu_output, expected_loss.error_estimate
"""Called as they are: each compiles its parts by itself, so tests share programs."""


def uniform_outputs(W, b, p, nodes):
    """Each output's loss, for a leading axis of models, one after the other."""
    each = zip(W, b, p, strict=True)
    return np.stack([outputs(Params(W=W, b=b), features.SparseUniform(p), nodes=nodes) for W, b, p in each])


def side_by_side(W, b, p, nodes):
    """The same under `vmap`."""
    one = lambda W, b, p: outputs(Params(W=W, b=b), features.SparseUniform(p), nodes=nodes)  # noqa: E731
    return jax.jit(jax.vmap(one))(W, b, p)


def value_and_gradient(params, distribution, importance):
    return jax.value_and_grad(expected_loss.relu_output)(params, distribution, importance, nodes=512)


def zoo(n, count=4):
    """Models times densities, the last of them one per feature: flat arrays and the losses by corner sums."""
    W, b = make_models(n, max(1, n // 2), count, seed=n)
    mixed = np.resize(np.array([0.9, 0.001, 0.3, 1.0, 0.03]), n)
    p = jnp.asarray(np.array([np.full(n, d) for d in DENSITIES] + [mixed]))
    pairs = list(itertools.product(range(count), range(len(p))))
    models, rows = (np.array(x) for x in zip(*pairs, strict=True))
    W, b, p = W[models], b[models], p[rows]
    truth = np.array([uniform_losses(*(np.asarray(x, float) for x in one)) for one in zip(W, b, p, strict=True)])
    return W, b, p, truth


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
    """Two overlaps of 1e-3 and no bias: the terms of the pair fall off late."""
    W = np.array([[1.0846708, -0.2189876, 0.52092948, 0.54577575, -1.38701586]])
    W = np.concatenate([W, [[0.71461276, 0.3311797, 0.7421649, -0.83147142, 0.56219823]]])
    p, b = np.full(5, 0.02158575), np.zeros(5)
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
    monkeypatch.setattr(box_averages, "MOST_FLAT", 0)
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
def test_sets_of_one_are_independent(law, coupled):
    params, p = make_params(), jnp.array([0.1, 0.5, 0.3, 0.9, 0.2])
    independent = outputs(params, LAWS[law](p), nodes=512)
    alone = outputs(params, coupled(LAWS[law](p), tuple(range(5))), nodes=512)
    assert_close(alone, independent, rtol=64 * EPS)


# --- the error bound


def big_model(n):
    """N random columns of norm about 1 in n/5 dimensions."""
    rng = np.random.default_rng(n)
    m = n // 5
    return Params(W=jnp.asarray(rng.standard_normal((m, n)) / np.sqrt(m)), b=jnp.asarray(rng.uniform(-0.3, 0.3, n)))


LARGE = [
    pytest.param(n, p, marks=() if n == 200 else pytest.mark.slow) for n in (50, 200, 1000) for p in (0.01, 0.1, 0.5, 0.9)
]


@pytest.mark.x64
@pytest.mark.parametrize(("n", "p"), LARGE)
def test_error_estimate_holds_for_many_features_and_says_something(n, p):
    params, judged = big_model(n), [0, 1] if n == 1000 else [0, 1, 2, 3]
    importance = jnp.zeros(n).at[jnp.array(judged)].set(1)
    G, b = np.asarray(params.W.T @ params.W), np.asarray(params.b)
    truth = sum(bromwich_loss(G[i], b[i], p, i, nodes=2000) for i in judged)
    found = total(params, features.SparseUniform(p), importance)
    limit = bound(params, features.SparseUniform(p), importance)
    # The oracle's own error: nodes^-2 of what is cut off, 1e-8 seen.
    assert abs(found - truth) <= limit + 1e-8 * truth
    assert limit <= 0.05 * truth


@pytest.mark.x64
@pytest.mark.parametrize(("n", "nodes"), [(5, 64), (5, 512), (8, 512)])
def test_error_estimate_holds_for_few_features_and_says_something(n, nodes):
    W, b, p, truth = zoo(n)
    found = uniform_outputs(W, b, p, nodes).sum(1)
    limit = np.array(
        [bound(Params(W=W, b=b), features.SparseUniform(p), 1.0, nodes=nodes) for W, b, p in zip(W, b, p, strict=True)]
    )
    error = np.abs(found - truth.sum(1))
    assert np.all(error <= limit)
    assert np.all(limit <= 0.05 * truth.sum(1))
    resolved = error > 1e-14 * truth.sum(1)
    assert np.median(limit[resolved] / error[resolved]) <= 10


def test_error_estimate_of_closed_forms_is_that_of_rounding():
    few, listed = make_params(n=3), make_params()
    for params, distribution in (
        (few, features.SparseUniform(0.3)),
        (few, features.SparseSymmetric(0.3)),
        (listed, features.SparseBinary(0.3)),
    ):
        assert 0 < bound(params, distribution, 1.0) <= 1e3 * EPS * total(params, distribution, 1.0)
        assert np.isnan(bound(params.replace(b=params.b.at[0].set(jnp.nan)), distribution, 1.0))


@pytest.mark.x64
def test_nodes_for_are_the_fewest_that_reach_the_tolerance():
    W, b = make_models(5, 2, 2, seed=3)
    params, distribution = Params(W=W, b=b), features.SparseUniform(0.1)
    nodes = expected_loss.nodes_for(params, distribution, tolerance=1e-5)
    relative = [
        max(float(bound(one, distribution, 1.0, nodes=k) / total(one, distribution, 1.0, nodes=k)) for one in models(params))
        for k in (nodes // 2, nodes)
        if k >= expected_loss.FEWEST
    ]
    assert relative[-1] <= 1e-5
    assert nodes == expected_loss.FEWEST or relative[0] > 1e-5
    with pytest.raises(ValueError, match=r"tolerance = 0.*: needs to be positive"):
        expected_loss.nodes_for(params, distribution, tolerance=0.0)


@pytest.mark.x64
@pytest.mark.parametrize("f", [expected_loss.relu_output, expected_loss.error_estimate, expected_loss.nodes_for])
def test_importances_of_another_length_are_named(f):
    with pytest.raises(ValueError, match="importance has shape"):
        f(make_params(), features.SparseUniform(0.1), jnp.ones(4))


def models(params):
    """One after the other."""
    return [Params(W=W, b=b) for W, b in zip(params.W, params.b, strict=True)]


# --- derivatives


@pytest.mark.x64
@pytest.mark.parametrize("n", [2, 5])
def test_gradient_agrees_with_finite_differences(n):
    params, distribution, importance = make_params(n=n), features.SparseUniform(0.3), jnp.linspace(1, 0.5, n)
    _, gradient = value_and_gradient(params, distribution, importance)
    flat, unravel = ravel_pytree(params)
    h, expected = 1e-5, []
    for k in range(len(flat)):
        up, down = (total(unravel(flat.at[k].add(s)), distribution, importance, nodes=512) for s in (h, -h))
        expected.append((up - down) / (2 * h))
    # h^2 of the third derivative, and the series' own error of 1e-9 divided by h where nodes move.
    assert_close(ravel_pytree(gradient)[0], np.array(expected), rtol=1e-6)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("law", "kind"),
    [
        pytest.param("uniform", "independent", marks=pytest.mark.slow),  # the series by itself: `test_fourier_series`
        ("exponential", "exclusive"),
        pytest.param("symmetric", "together", marks=pytest.mark.slow),
        ("binary", "independent"),
    ],
)
def test_gradient_agrees_with_autodiff_of_the_series(law, kind, monkeypatch):
    """The hand-written pass over the nodes against jax's derivative of the plain sum, with p = 1 among the densities."""
    monkeypatch.setattr(binary_states, "MOST_STATES", 0)
    traced_anew(monkeypatch)
    nodes = 16
    density = {
        "independent": jnp.array([0.1, 0.6, 1.0, 0.5, 0.3]),
        "exclusive": 0.3,
        "together": jnp.array([0.4, 1.0]),
    }
    params, distribution = make_params(), of_kind(law, density[kind], kind)
    importance = jnp.linspace(1, 0.5, 5)

    def direct(params):
        sets = sets_of(distribution, n=5, dtype=params.b.dtype)
        magnitude, gram = features.magnitude(distribution), params.W.T @ params.W
        return jnp.sum(importance * fourier_series.losses(sets, magnitude, gram, params.b, nodes=nodes))

    @jax.jit
    def both(params):
        library = jax.value_and_grad(expected_loss.relu_output)(params, distribution, importance, nodes=nodes)
        twice = lambda W, b: 2 * (direct(Params(W=W, b=b)),)  # noqa: E731, differentiated and as it is
        slopes, value = jax.jacfwd(twice, argnums=(0, 1), has_aux=True)(params.W, params.b)
        return library, value, Params(*slopes)

    (value, gradient), expected, slopes = both(params)
    assert_close(value, expected)
    assert_close(gradient.W, slopes.W, rtol=1e-11)  # a quotient by a factor of the product costs a digit
    assert_close(gradient.b, slopes.b, rtol=1e-11)


@pytest.mark.x64
def test_gradient_of_the_series_tends_to_that_of_the_closed_form(monkeypatch):
    params, distribution = make_params(n=3), features.SparseUniform(jnp.array([0.2, 0.7, 1.0]))
    _, closed = value_and_gradient(params, distribution, jnp.ones(3))
    monkeypatch.setattr(box_averages, "MOST_FLAT", 0)
    traced_anew(monkeypatch)
    _, series = jax.jit(value_and_gradient)(params, distribution, jnp.ones(3))
    assert np.any(series.W != closed.W)  # two ways
    assert_close(series.W, closed.W, rtol=1e-5)  # one power of the frequency less than the loss
    assert_close(series.b, closed.b, rtol=1e-5)


@pytest.mark.x64
def test_hessian_is_symmetric_and_the_gradient_s_slope():
    params, distribution = make_params(), features.SparseUniform(0.3)
    flat, unravel = ravel_pytree(params)

    def gradient(t):
        return jax.grad(lambda t: expected_loss.relu_output(unravel(t), distribution, nodes=512))(t)

    hessian = jax.jit(jax.jacfwd(gradient))(flat)
    assert_close(hessian, hessian.T, rtol=1e-10)
    h = 1e-4
    expected = np.array([(gradient(flat + h * e) - gradient(flat - h * e)) / (2 * h) for e in np.eye(len(flat))])
    # The interval moves between the two gradients, not in the Hessian: what is left of the series, over h.
    assert_close(hessian, expected, rtol=1e-4)


def test_gradient_is_finite_where_the_loss_has_a_corner():
    """No weights at all, b = 0; and orthogonal features, whose overlaps are all 0."""
    for W in (jnp.zeros((2, 5)), jnp.eye(2, 5)):
        for p in (0.01, 1.0):
            _, gradient = value_and_gradient(Params(W=W, b=jnp.zeros(5)), features.SparseUniform(p), jnp.ones(5))
            assert np.all(np.isfinite(gradient.W))
            assert np.all(np.isfinite(gradient.b))


def test_importance_is_a_weight_of_the_outputs_and_has_a_gradient():
    params, distribution, importance = make_params(), features.SparseUniform(0.3), jnp.linspace(1, 0.2, 5)
    losses = outputs(params, distribution)
    assert_close(total(params, distribution, importance), importance @ losses, rtol=64 * EPS)
    slope = jax.jit(jax.grad(expected_loss.relu_output, argnums=2))(params, distribution, importance)
    assert_close(slope, losses, rtol=64 * EPS)


def test_vmap_over_models_and_over_densities_gives_the_same_numbers():
    W, b, p, _ = zoo(5)
    alone = uniform_outputs(W, b, p, 64)
    # Another order of summation over 64 nodes.
    assert_close(side_by_side(W, b, p, 64), alone, rtol=64 * EPS)
    over_densities = jax.jit(jax.vmap(lambda p: outputs(Params(W=W[0], b=b[0]), features.SparseUniform(p))))
    assert np.all(W[:6] == W[0])  # one model at all densities
    assert_close(over_densities(p[:6]), alone[:6], rtol=64 * EPS)


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


@pytest.mark.x64
def test_derivative_in_the_distribution_is_refused():
    params = make_params()
    with pytest.raises(ValueError, match="no derivative"):
        jax.grad(lambda p: expected_loss.relu_output(params, features.SparseUniform(p)))(0.3)
    for few in (make_params(n=n) for n in (2, 5, 40)):
        with pytest.raises(ValueError, match="no derivative"):
            jax.jacfwd(lambda p, few=few: jax.grad(expected_loss.relu_output)(few, features.SparseUniform(p)).b)(0.3)

    def held(W, p):
        return total(params.replace(W=W), features.SparseUniform(jax.lax.stop_gradient(p)), nodes=512)

    by_W, by_p = jax.grad(held, argnums=(0, 1))(params.W, 0.3)
    assert np.all(np.isfinite(by_W))
    assert by_p == 0


@pytest.mark.x64
@pytest.mark.parametrize("n", [5, 40])
def test_products_of_matrices_are_in_full_precision_on_a_gpu(n):
    params, distribution = make_params(n=n), features.SparseUniform(0.3)
    for f in (
        jax.grad(expected_loss.relu_output),
        expected_loss.error_estimate,
        expected_loss.linear,
        expected_loss.mean_field,
    ):
        traced = jax.jit(lambda W, b, f=f: f(Params(W=W, b=b), distribution)).trace(params.W, params.b)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
        products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
        assert products
        assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


@pytest.mark.x64
@pytest.mark.parametrize("n", [3, 5, 40])
def test_no_traced_value_outlives_its_trace(n, monkeypatch):
    params, distribution = make_params(n=n), features.SparseUniform(0.3)
    traced_anew(monkeypatch)
    with jax.checking_leaks():
        jax.jit(jax.grad(lambda q: total(q, distribution, nodes=16))).trace(params)
