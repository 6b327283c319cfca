"""Moments of pairs of rectified pre-activations, and the losses of networks that they make: against exact integrals and draws."""

from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close, assert_matches_simulation
from exact_oracles import tree_states
from jaxtyping import config
from scipy.integrate import quad

from superpose import autoencoder as sae
from superpose import features
from superpose._jax.complex_numbers import phase
from superpose.expected_loss import autoencoder, autoencoder_error, autoencoder_nodes_for, one_hidden_layer, pair_moments
from superpose.features import SparseBinary, SparseExponential, SparseSymmetric, SparseUniform, magnitudes

REACHED = {16: 1e-4, 32: 1e-5, 64: 1e-6}
"""How exact so many nodes are, as a share of `(E r(y)^2 E r(z)^2)^(1/2)`, for bounded laws of densities up to .3."""


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def box_means(g, c, h, d):
    """Means of `r(c + g.u) r(d + h.u)` over the unit cube; g and h of shape (cases, k), c and d of shape (cases,).

    Along the last axis the mean over the others is a polynomial of degree k + 1 <= 5 between knots, which three nodes integrate.
    Knots are where an edge of the other axes' cube meets y = 0 and z = 0 at once, or a corner one of them.
    """
    k = g.shape[1]
    if k == 0:
        return np.maximum(c, 0) * np.maximum(d, 0)
    knots = [np.zeros_like(c), np.ones_like(c)]
    with np.errstate(divide="ignore", invalid="ignore"):
        for corner in product((0.0, 1.0), repeat=k - 1):
            knots += [-(x + w[:, :-1] @ np.array(corner)) / w[:, -1] for w, x in ((g, c), (h, d))]
        for j in range(k - 1):
            others = [i for i in range(k - 1) if i != j]
            for corner in product((0.0, 1.0), repeat=k - 2):
                y, z = (x + w[:, others] @ np.array(corner) for w, x in ((g, c), (h, d)))
                knots.append((z * g[:, j] - y * h[:, j]) / (g[:, -1] * h[:, j] - h[:, -1] * g[:, j]))
    knots = np.sort(np.clip(np.nan_to_num(np.stack(knots, 1)), 0, 1), 1)
    nodes, weights = np.polynomial.legendre.leggauss(3)
    step = np.diff(knots, axis=1)[..., None]
    u = knots[:, :-1, None] + step * (1 + nodes) / 2
    g, c, h, d = (np.repeat(x, u[0].size, axis=0) for x in (g, c, h, d))
    inner = box_means(g[:, :-1], c + u.ravel() * g[:, -1], h[:, :-1], d + u.ravel() * h[:, -1])
    return (inner.reshape(u.shape) * weights / 2 * step).sum((1, 2))


def exact_moments(G, c, law):
    """`E r(y_k) r(y_l)` over the sets of active features of a tree: means over cubes, of u, `(1 + u) / 2`, or nothing at all."""
    if isinstance(law, features.Mixture):
        return sum(float(w) * exact_moments(G, c, x) for w, x in zip(law.weights, law.contexts, strict=True))
    G, c, total, (first, second) = np.asarray(G, float), np.asarray(c, float), 0, np.triu_indices(len(c))
    for pattern, chance in tree_states(law):
        A = G[:, pattern == 1]
        g, b = {"uniform": (A, c), "symmetric": (2 * A, c - A.sum(1)), "binary": (A[:, :0], c + A.sum(1))}[law.features.law]
        total = total + chance * box_means(g[first], b[first], g[second], b[second])
    found = np.zeros((len(c), len(c)))
    found[first, second] = found[second, first] = total
    return found


def tree(law, densities, parents=None, **how):
    """With densities that are known one by one, and roots only by default."""
    return features.Tree(law(jnp.asarray(densities)), parents=parents or (-1,) * len(densities), **how)


def rows(n, L=10):
    """Rows and biases: 2 is opposite to 0 but overlaps, 3 to 1 and does not; 4 repeats 0; the others are a pentagon's."""
    rng = np.random.default_rng(0)
    G, c = rng.standard_normal((2, n)), np.append([0.2, -0.02, 0.3, -0.01, 0.2], np.full(5, -0.1))
    G *= np.array([[1.5], [0.7]]) / np.linalg.norm(G, axis=1, keepdims=True)
    pentagon = np.cos(2 * np.pi / 5 * np.subtract.outer(np.arange(5), np.arange(n)))
    G = np.concatenate([G, -G, G[:1], pentagon])
    return jnp.asarray(G[:L]), jnp.asarray(c[:L])


def assert_moments(found, truth, share):
    """Each within this share of `(E r(y)^2 E r(z)^2)^(1/2)`, but for rounding; and 0 where it is 0."""
    scale = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    off, most = np.abs(np.asarray(found) - truth), share * scale + np.where(scale > 0, 32 * EPS, 0)
    assert np.all(off <= most), f"{np.max(off[scale > 0] / most[scale > 0])} times as far off as it may be, {share}"


@pytest.mark.parametrize(("n", "nodes"), [slow(2, 16), (2, 32), slow(2, 64), (3, 16), (3, 32), (3, 64)])
def test_uniform_features_are_integrals_over_boxes(n, nodes):
    G, c = rows(n)
    for densities, times in (([0.05, 0.05, 0.05], 1), ([0.3, 0.3, 0.3], 1), ([0.05, 0.3, 0.2], 1), ([0.6, 0.6, 0.6], 10)):
        law = tree(SparseUniform, densities[:n])
        found = pair_moments(G, c, law.features, nodes=nodes)
        assert_moments(found, exact_moments(G, c, law), times * REACHED[nodes])
        assert found[1, 3] == found[3, 1] == 0
        assert np.array_equal(found, found.T)


ATOMS = {"constant": ([[0, 0, 0], [0, 0, 0], [1e-4, 0, 0]], [-0.1, 0.4, 0.3]), "apart": ([[0.6, 0.8, 0], [0, 0, 1]], [0, 0])}


@pytest.mark.parametrize("nodes", REACHED)
@pytest.mark.parametrize("name", ATOMS)
def test_latents_that_are_one_number_while_others_vary(name, nodes):
    """Those that are constant or nearly so, and that of a feature of its own: it is 0, its kink, while others are active."""
    (G, c), (A, b), law = rows(3), map(np.array, ATOMS[name]), tree(SparseUniform, [0.3, 0.3, 0.3])
    G, c = G.at[-len(b) :].set(A), c.at[-len(b) :].set(b)
    assert_moments(pair_moments(G, c, law.features, nodes=nodes), exact_moments(G, c, law), REACHED[nodes])


IDLE = {
    "uniform": (SparseUniform, [[0.6, 0.8, 0, 0], [0, 0, 1, -0.7]], 1),
    "symmetric": (SparseSymmetric, [[0.6, 0.8, 0], [0, 0, 1]], 1),
    "nearly": (SparseUniform, [[0.6, 0.8, 1e-3, 0], [0, 0, 1, -0.7]], 10),
}


def idle_rows(name):
    """Latents that (nearly) see no feature of each other's; idle ones are at their kink, or off by less than the shortest wave."""
    law, G, times = IDLE[name]
    return tree(law, [0.3] * len(G[0])), jnp.asarray(np.repeat(G, 3, 0)), jnp.array([0, 0.02, -0.02] * len(G)), times


@pytest.mark.parametrize("nodes", [slow(16), 32, slow(64)])
@pytest.mark.parametrize("name", IDLE)
def test_latents_at_their_kink_while_features_of_others_are_active(name, nodes):
    law, G, c, times = idle_rows(name)
    assert_moments(pair_moments(G, c, law.features, nodes=nodes), exact_moments(G, c, law), times * REACHED[nodes])


@pytest.mark.x64
def test_slopes_near_a_kink_are_those_of_the_numbers():
    law, G, c, _ = idle_rows("uniform")
    rng, at = np.random.default_rng(2), (G[c != 0], c[c != 0])  # where c = 0, r itself has a kink
    way = tuple(jnp.asarray(rng.standard_normal(x.shape)) for x in at)
    value = lambda G, c: (pair_moments(G, c, law.features, nodes=16) * jnp.triu(G @ G.T + 1, 1)).sum()  # noqa: E731
    each = np.concatenate([np.ravel(x * d) for x, d in zip(jax.grad(value, (0, 1))(*at), way, strict=True)])
    np.testing.assert_allclose(each.sum(), differences(value, at, way, h=1e-5), rtol=0, atol=1e-6 * np.abs(each).sum())


GIVEN, PARENTS = [0.3, 0.5, 0.4], (-1, 0, 0)
EXCLUSIVE, BINARY = tree(SparseUniform, GIVEN, PARENTS, exclusive=True), tree(SparseBinary, GIVEN, PARENTS)
MIXTURE = features.Mixture((BINARY, tree(SparseBinary, [0.1, 0.2, 0.7])), jnp.array([0.3, 0.7]))
MANY = tree(SparseBinary, np.linspace(0.05, 0.6, 12))
"""More states than the library lists."""
CASES = [
    (EXCLUSIVE, 3, 1e-5),
    (BINARY, 3, 0),
    (MIXTURE, 3, 0),
    (MANY, 12, 5e-4),
    slow(tree(SparseSymmetric, GIVEN, PARENTS), 3, 1e-5),
]


@pytest.mark.parametrize(("law", "n", "share"), CASES)
def test_trees_are_sums_over_active_sets(law, n, share):
    G, c = rows(n)
    assert_moments(pair_moments(G, c, law, nodes=32), exact_moments(G, c, law), share)


EXPONENTIAL, SYMMETRIC, SETS, BRANCHES = SparseExponential(0.4), SparseSymmetric(0.6), (0, 0, 1, 1), (-1, 0, 0, -1)
COUPLED = [
    tree(SparseExponential, [0.8, 0.6, 0.7, 0.9], BRANCHES),
    slow(EXPONENTIAL),
    slow(features.Exclusive(EXPONENTIAL, SETS)),
    slow(features.Together(SYMMETRIC, SETS)),
    slow(features.Mixture((features.Exclusive(EXPONENTIAL, SETS), SYMMETRIC), jnp.array([0.3, 0.7]))),
]


def draw(law, n, draws=2**19):
    keys = jax.random.split(jax.random.key(0), draws)
    return np.asarray(jax.jit(jax.vmap(lambda key: features.sample(key, law, n=n)))(keys), float)


@pytest.mark.parametrize("law", COUPLED)
def test_laws_and_couplings_match_draws(law):
    """Within five standard errors, and rounding over an exponential's long interval; 1.02 times the moments do not all."""
    (G, c), (first, second) = rows(4, 5), np.triu_indices(5)
    y = np.maximum(np.asarray(c) + draw(law, 4, draws=2**20) @ np.asarray(G).T, 0)
    samples, theory = y[:, first] * y[:, second], np.asarray(pair_moments(G, c, law, nodes=128)[first, second])
    mean, sem = samples.mean(0), samples.std(0) / len(samples) ** 0.5
    most = 5 * sem + 1e4 * EPS * (mean > 0)
    assert np.all(np.abs(mean - theory) <= most), f"{mean - theory} off, at most {most}"
    assert not np.all(np.abs(mean - 1.02 * theory) <= most)


def random_case(seed):
    """An autoencoder of five latents, on five directions in the plane."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((2, 5))
    W *= rng.uniform(0.5, 1.2) / np.linalg.norm(W, axis=0)
    E, c, D = 0.8 * rng.standard_normal((5, 2)), rng.uniform(-0.3, 0.2, 5), 0.6 * rng.standard_normal((2, 5))
    return sae.Params(*map(jnp.asarray, (E, c, D, 0.1 * rng.standard_normal(2)))), jnp.asarray(W)


FIVE = SparseUniform(jnp.full(5, 0.3))
SLOPED = {
    "uniform": SparseUniform(jnp.array(GIVEN)),
    "tree": EXCLUSIVE,
    "binary": SparseBinary(0.3),
    "exponential": EXPONENTIAL,
}


def sloped(name):
    """A sum of all moments with weights of their own, or an autoencoder's loss; all that it takes; and a direction.

    No rows are opposite: where pairs are just never positive at once, exact zeros and a series meet.
    """
    rng, (G, c) = np.random.default_rng(1), rows(3)
    weights, at = jnp.asarray(rng.standard_normal((10, 10))), (G + 0.1 * rng.standard_normal(G.shape), c)
    value = lambda G, c: (weights * pair_moments(G, c, SLOPED[name], nodes=16)).sum()  # noqa: E731
    if name == "autoencoder":
        at = (*random_case(0), jnp.asarray(0.05))
        value = lambda params, W, penalty: autoencoder(params, W, FIVE, penalty=penalty, nodes=16)  # noqa: E731
    return value, at, jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), at)


def differences(f, at, way, h=1e-4):
    up, down = (f(*jax.tree.map(lambda x, d, t=t: x + t * d, at, way)) for t in (h, -h))
    return jax.tree.map(lambda a, b: (a - b) / (2 * h), up, down)


@pytest.mark.x64
@pytest.mark.parametrize("name", ["uniform", slow("tree"), slow("binary"), slow("exponential"), slow("autoencoder")])
def test_slopes_and_their_slopes_are_those_of_the_numbers(name):
    value, at, way = sloped(name)
    slopes = jax.grad(value, range(len(at)))
    each = np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.tree.map(jnp.multiply, slopes(*at), way))])
    np.testing.assert_allclose(each.sum(), differences(value, at, way), rtol=0, atol=1e-6 * np.abs(each).sum())
    bends = (jax.tree.leaves(x) for x in (jax.jvp(slopes, at, way)[1], differences(slopes, at, way)))
    for x, y in zip(*bends, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * float(jnp.abs(y).max()))


@pytest.mark.x64
@pytest.mark.slow
def test_hessians_are_symmetric_and_have_these_slopes():
    value, (G, c), (_, way) = sloped("uniform")
    of_biases = lambda c: value(G, c)  # noqa: E731
    bend = jax.hessian(of_biases)(c)
    assert_close(bend, bend.T, rtol=1e-8)
    assert_close(bend @ way, jax.jvp(jax.grad(of_biases), (c,), (way,))[1], rtol=1e-8)


@pytest.mark.x64
def test_models_do_not_touch_each_other():
    """Values and slopes under `vmap` are those of each model, to eight digits."""
    value, (G, c), _ = sloped("uniform")
    both, models = jax.value_and_grad(value, (0, 1)), (jnp.stack([G, 0.7 * G]), jnp.stack([c, c + 0.1]))
    each = jax.tree.map(lambda *x: jnp.stack(x), *(both(*one) for one in zip(*models, strict=True)))
    jax.tree.map(lambda x, y: assert_close(x, y, rtol=1e-8), jax.vmap(both)(*models), each)


@pytest.mark.x64
def test_the_loss_of_an_autoencoder_on_a_pentagon():
    """As another program has it, by cosine series."""
    turn, E = np.arange(5) * 2 * np.pi / 5, jax.random.normal(jax.random.key(0), (5, 2))
    W, E = jnp.array([np.cos(turn), np.sin(turn)]), E / jnp.linalg.norm(E, axis=1, keepdims=True)
    params = sae.from_dictionary(0.9 * E.T, bias=-0.1).replace(W_enc=E)
    found = autoencoder(params, W, SparseUniform(jnp.full(5, 0.05)), penalty=0.05, nodes=16)
    np.testing.assert_allclose(found, 0.0743015, rtol=0, atol=1e-7)


DENSE = jnp.array([0.6, 0.7, 0.5, 0.8, 0.4])
ON, FOREST = tree(SparseBinary, DENSE, (-1, 0, 0, -1, 3)), tree(SparseUniform, DENSE, (-1, 0, 0, -1, 3))


@pytest.mark.parametrize("law", [SparseUniform(DENSE), ON, slow(FOREST)])
def test_the_loss_of_an_autoencoder_is_that_of_draws(law):
    params, W = random_case(1)
    h = jnp.asarray(draw(law, 5)) @ W.T
    for weighted in (True, False):
        samples = jax.jit(jax.vmap(lambda h, how=weighted: sae.loss(params, h, 0.1, weighted=how)))(h)
        assert_matches_simulation(samples, autoencoder(params, W, law, penalty=0.1, weighted=weighted, nodes=16))


@pytest.mark.x64
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 31])
def test_the_error_of_an_autoencoder_is_no_less_than_it_is(seed):
    """At seed 31 most of it is that of the latents' own moments, not of their pairs."""
    truth, *found = (autoencoder(*random_case(seed), FIVE, penalty=0.05, nodes=k) for k in (128, 8, 16))
    for loss, nodes in zip(found, (8, 16), strict=True):
        estimate = autoencoder_error(*random_case(seed), FIVE, penalty=0.05, nodes=nodes)
        assert jnp.abs(loss - truth) <= estimate <= 1e-3 * truth
    nodes = autoencoder_nodes_for(*random_case(seed), FIVE, penalty=0.05, tolerance=2e-4)
    assert nodes in (8, 16)
    assert jnp.abs(found[nodes // 16] / truth - 1) <= 2e-4


def test_a_perfect_autoencoder_has_no_loss():
    W = jnp.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0])
    assert abs(autoencoder(sae.from_dictionary(W), W, FIVE, penalty=0.0, nodes=16)) <= max(1e-12, 64 * EPS)


AND, ON_OFF = ((0, 1), (2, 0), (1, 2)), SparseBinary(0.6)
TARGETS = {
    "identity": (ON_OFF, lambda x: x),
    "absolute": (SYMMETRIC, np.abs),
    AND: (ON_OFF, lambda x: np.stack([x[:, j] * x[:, k] for j, k in AND], 1)),
}


@pytest.mark.parametrize("target", TARGETS)
def test_networks_of_one_hidden_layer_match_draws(target):
    (law, of), rng, weights = TARGETS[target], np.random.default_rng(0), np.array([1.0, 0.5, 2.0])
    layer = W, b, V, a = [0.7 * rng.standard_normal(shape) for shape in ((6, 3), (6,), (3, 6), (3,))]
    x = draw(law, 3)
    samples = (of(x) - np.maximum(x @ W.T + b, 0) @ V.T - a) ** 2 @ weights
    theory = one_hidden_layer(*map(jnp.asarray, layer), law, jnp.asarray(weights), target=target, nodes=16)
    assert_matches_simulation(samples, theory)


def test_networks_that_a_hand_can_write_have_no_loss():
    """`x = r(x)` for x >= 0, `|x| = r(x) + r(-x)`, and `x_j and x_k = r(x_j + x_k - 1)`."""
    eye, none = jnp.eye(3), jnp.zeros(3)
    signs, both = jnp.concatenate([eye, -eye]), jnp.stack([eye[j] + eye[k] for j, k in AND])
    found = (
        one_hidden_layer(eye, none, eye, none, ON_OFF),
        one_hidden_layer(signs, jnp.zeros(6), jnp.abs(signs).T, none, SYMMETRIC, target="absolute", nodes=16),
        one_hidden_layer(both, none - 1, eye, none, ON_OFF, target=AND),
    )
    np.testing.assert_allclose(found, 0, atol=max(1e-9, 64 * EPS))


@pytest.fixture
def unchecked():
    """What the library says by itself: no annotation is checked before."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.x64
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_named():
    (G, c), (params, W), law = rows(3), random_case(0), SparseUniform(0.3)
    loss = lambda params=params, W=W, penalty=0.1, **how: autoencoder(params, W, law, penalty=penalty, **how)  # noqa: E731
    layer = lambda V=G.T, weight=1.0, **how: one_hidden_layer(G, c, V, c[: len(V)], law, weight, **how)  # noqa: E731
    for match, call in (
        ("G has shape", lambda: pair_moments(G[0], c, law)),
        ("G has shape", lambda: pair_moments(G, c[1:], law)),
        ("G has dtype int", lambda: pair_moments(G.astype(int), c, law)),
        ("nodes = 7", lambda: pair_moments(G, c, law, nodes=7)),
        ("density has shape", lambda: pair_moments(G, c, SparseUniform(jnp.full(4, 0.2)))),
        ("distribution is a float", lambda: pair_moments(G, c, 0.3)),
        ("no derivative", lambda: jax.grad(lambda p: pair_moments(G, c, SparseUniform(p)).sum())(0.3)),
        ("W_enc has shape", lambda: loss(params.replace(W_enc=c))),
        (r"b_dec \(3,\)", lambda: loss(params.replace(b_dec=jnp.zeros(3)))),
        ("W has dtype int", lambda: loss(W=W.astype(int))),
        ("nodes = 4", lambda: loss(nodes=4)),
        ("penalty = -0.1", lambda: loss(penalty=-0.1)),
        ("penalty = -0.1", lambda: autoencoder_error(params, W, law, penalty=-0.1)),
        ("tolerance = 0: needs to be positive", lambda: autoencoder_nodes_for(params, W, law, penalty=0.1, tolerance=0)),
        ("W_out", lambda: layer(G)),
        ("W_out has dtype int", lambda: layer(G.T.astype(int))),
        ("importance has shape", lambda: layer(weight=jnp.ones(2))),
        ("target = 'xor'", lambda: layer(target="xor")),
        ("target = .*below n = 3", lambda: one_hidden_layer(G, c, G.T[:1], c[:1], ON_OFF, target=((0, 9),))),
        ("target = .*SparseUniform", lambda: layer(G.T[:1], target=((0, 1),))),
    ):
        with pytest.raises(ValueError, match=match) as raised:
            call()
        assert "\n" not in str(raised.value)


LAWS = {law.name: law for law in (magnitudes.UNIFORM, magnitudes.BINARY, magnitudes.SYMMETRIC, magnitudes.EXPONENTIAL)}
CHANCES = {"uniform": lambda _: 1.0, "symmetric": lambda _: 0.5, "exponential": lambda u: np.exp(-u)}
LINES = [(0.0, 0.0), (0.0, 0.7), (0.3, 0.0), (-0.3, 0.0), (0.3, -0.7), (-0.3, 0.7), (0.3, 0.7), (-0.3, -0.7), (-0.1, 1.5)]


def by_quadrature(law, b, g, c, h):
    """`E r(b + g u) r(c + h u)`, between the zeros of both."""
    f, (low, high) = (lambda u: max(b + g * u, 0) * max(c + h * u, 0)), law.support
    if law.constant:
        return f(1.0)
    knots = [low, *sorted(-x / w for x, w in ((b, g), (c, h)) if w and low < -x / w < high), high]
    return sum(quad(lambda u: CHANCES[law.name](u) * f(u), *ends, epsabs=1e-13)[0] for ends in pairwise(knots))


@pytest.mark.parametrize("name", LAWS)
def test_products_of_two_lines_of_one_feature(name):
    law, pairs = LAWS[name], [(*x, *y) for x in LINES for y in LINES]
    found = jax.jit(law.relu_product)(*jnp.array(pairs).T)
    np.testing.assert_allclose(found, [by_quadrature(law, *x) for x in pairs], rtol=0, atol=1e-11 + 64 * EPS)
    slopes = jax.jit(jax.vmap(jax.grad(law.relu_product, (0, 1, 2, 3))))(*jnp.array(pairs).T)
    assert np.all(np.isfinite(slopes))


@pytest.mark.parametrize("name", LAWS)
def test_characteristic_functions_from_phases(name):
    """Slopes near 0 are differences over t, or leave t^3 out: they have fewer digits."""
    t = jnp.array([0.0, 1e-30, -1e-12, 1e-6, 3e-4, -6e-4, 8e-4, 0.02, 0.039, 0.05, -0.5, 1.0, 2.0, -3.14159, 12.5, -40.0])
    found, truth = jax.jit(LAWS[name].on_phase)(t, phase(t / 2)), LAWS[name].derivatives(t, 1)
    for x, y, off in zip(found, truth, (64 * EPS, EPS**0.7), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=off)
