"""The compressed product against the direct one: losses, slopes, second derivatives, over densities and geometries."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, traced_anew

from superpose import expected_loss, features
from superpose.expected_loss import compressed_series, compressed_sums, fourier_series
from superpose.expected_loss.compressed_series import applies
from superpose.expected_loss.groups import groups_of
from superpose.features.magnitudes import BINARY, UNIFORM
from superpose.toy_model import Params

N = 40
IMPORTANCE = np.linspace(1, 0.3, N)


def weights(kind):
    """Random directions; or antipodal pairs, or pentagons, with the features that find no room ignored; shaken."""
    rng = np.random.default_rng(1)
    W = np.zeros((8, N))
    for i in range(N if kind == "random" else 16 if kind == "pairs" else 20):
        if kind == "random":
            W[:, i] = rng.standard_normal(8) / np.sqrt(8)
        elif kind == "pairs":
            W[i // 2, i] = (-1) ** i
        else:
            angle = 2 * np.pi * (i % 5) / 5
            W[2 * (i // 5) : 2 * (i // 5) + 2, i] = 1.1 * np.cos(angle), 1.1 * np.sin(angle)
    return jnp.asarray(W + 0.02 * rng.standard_normal(W.shape)), jnp.asarray(rng.uniform(-0.2, 0.1, N))


def loss(W, b, p, nodes=16):
    return expected_loss.relu_output(Params(W=W, b=b), features.SparseUniform(p), jnp.asarray(IMPORTANCE), nodes=nodes)


@partial(jax.jit, static_argnums=3)
def compressed(W, b, p, nodes):
    return jax.value_and_grad(loss, argnums=(0, 1))(W, b, p, nodes)


@partial(jax.jit, static_argnums=3)
def direct(W, b, p, nodes):
    sets = groups_of(features.SparseUniform(p), n=N, dtype=W.dtype)
    value, by_g, by_b = fourier_series.losses_and_slopes(
        sets, UNIFORM, W.T @ W, b, nodes=nodes, spread=compressed_sums.SPREAD
    )
    by_g = IMPORTANCE[None] * by_g
    return (IMPORTANCE * value).sum(), (W @ (by_g + by_g.T), IMPORTANCE * by_b)


@pytest.mark.x64
@pytest.mark.parametrize("kind", ["random", "pairs", "pentagons"])
@pytest.mark.parametrize(("nodes", "terms"), [(16, 40), pytest.param(64, 112, marks=pytest.mark.slow)])
def test_loss_and_slopes_are_those_of_the_direct_product(nodes, terms, kind):
    """Losses to 5e-6; slopes, to 5e-3, lose up to R^2 times the last term, at the ends of the range."""
    W, b = weights(kind)
    assert compressed_series.terms_for(nodes) == terms
    compared = 0
    for p in (0.001, 0.05, 0.3, 0.49, 0.51, 0.9, 1.0):
        value, (by_W, by_b) = compressed(W, b, jnp.asarray(p), nodes)
        expected, (W_slope, b_slope) = direct(W, b, jnp.asarray(p), nodes)
        compared += bool(np.max(np.abs(by_W - W_slope)) > 1e-13)  # two ways
        np.testing.assert_allclose(value, expected, rtol=5e-6)
        np.testing.assert_allclose(by_W, W_slope, atol=5e-3 * np.abs(W_slope).max(), rtol=0)
        np.testing.assert_allclose(by_b, b_slope, atol=2e-4 * np.abs(b_slope).max(), rtol=0)
    assert compared >= 2


@pytest.mark.x64
def test_repeated_directions_are_no_worse_than_others():
    """Three features along each vertex of a pentagon in each of 7 planes: 14 large overlaps to each output, four kept apart."""
    column = np.arange(100)
    angle, plane = 2 * np.pi * (column % 5) / 5, column // 5 % 7
    W = np.zeros((14, 100))
    W[2 * plane, column], W[2 * plane + 1, column] = np.cos(angle), np.sin(angle)
    params, p = Params(W=jnp.asarray(W), b=jnp.full(100, -0.02)), 0.05
    found = expected_loss.relu_output(params, features.SparseUniform(p))
    truth = expected_loss.relu_output(params, features.SparseUniform(jnp.full(100, p)), nodes=512)  # not compressed
    np.testing.assert_allclose(found, truth, rtol=3e-6)


@pytest.mark.x64
def test_slope_is_that_of_the_value_and_curvature_that_of_the_slope():
    """Finite differences along a random direction; the interval moves between the ends, not in the derivative: 7e-8 there."""
    W, b = weights("random")
    rng = np.random.default_rng(2)
    along, p, h = jnp.asarray(rng.standard_normal(W.shape)), jnp.asarray(0.3), 2e-5

    def slope(W):
        return compressed(W, b, p, 16)[1][0]

    with pytest.MonkeyPatch.context() as patch:  # the direct product is not asked, and compiles for long
        patch.setattr(fourier_series, "losses_and_slopes", lambda sets, law, g, b, **_: (b / 0, g / 0, b / 0))  # noqa: ARG005
        traced_anew(patch)
        curvature = jax.jit(lambda W: jax.jvp(jax.grad(lambda W: loss(W, b, p)), (W,), (along,))[1])(W)
    (up, above), (down, below) = (compressed(W + s * h * along, b, p, 16) for s in (1, -1))
    by_value, by_slope = (up - down) / (2 * h), (above[0] - below[0]) / (2 * h)
    np.testing.assert_allclose(jnp.vdot(slope(W), along), by_value, rtol=1e-6)
    np.testing.assert_allclose(curvature, by_slope, atol=1e-6 * np.abs(by_slope).max(), rtol=0)


@pytest.mark.x64
def test_models_beside_each_other_do_not_matter():
    W, b = weights("random")
    several = jnp.stack([W, 0.5 * W, -W]), jnp.stack([b, b, 2 * b]), jnp.array([0.1, 0.7, 0.3])
    together, slopes = jax.jit(jax.vmap(lambda *model: jax.value_and_grad(loss)(*model, 16)))(*several)
    for k in range(3):
        alone, (slope, _) = compressed(*[x[k] for x in several], 16)
        np.testing.assert_allclose(together[k], alone, rtol=256 * EPS)
        np.testing.assert_allclose(slopes[k], slope, atol=256 * EPS * np.abs(slope).max(), rtol=0)


@jax.jit
def by_p(params, p):
    """Value and gradient; the float32 tests share its program of 400 features in 25 dimensions."""
    return jax.value_and_grad(expected_loss.relu_output)(params, features.SparseUniform(p), nodes=16)


@pytest.mark.x64
def test_float32_keeps_four_digits_and_a_half():
    """400 features: what is rounded alike for each, as 1 - p or a coefficient, must not add up; it would cost 1e-3."""
    rng = np.random.default_rng(4)
    single = Params(
        W=jnp.asarray(rng.standard_normal((25, 400)) / 5, np.float32), b=jnp.asarray(rng.uniform(-0.2, 0, 400), np.float32)
    )
    for p in (0.001, 0.005, 0.02, 0.05, 0.3, 1.0):
        value, _ = by_p(single, jnp.float32(p))
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, precisely(single, p), rtol=6e-5)


@pytest.mark.x64
def test_float32_keeps_overlaps_of_exactly_zero():
    """Antipodal pairs of two lengths, and features of no length, whose periods are the shortest: up to 5 % of the loss was lost."""
    W = np.zeros((25, 400))
    W[np.arange(50) // 2, np.arange(50)] = np.resize([0.5, -1.1, 1.1, -1.1, 0.5, -0.5], 50)
    params = Params(W=jnp.asarray(W, np.float32), b=jnp.zeros(400, np.float32))
    for p in (0.02, 0.3, 0.6):
        np.testing.assert_allclose(by_p(params, jnp.float32(p))[0], precisely(params, p), rtol=1e-6)


def precisely(single, p):
    """The loss of the same numbers in float64."""
    double, law = jax.tree.map(lambda x: x.astype(float), single), features.SparseUniform(jnp.float32(p).astype(float))
    return expected_loss.relu_output(double, law, nodes=16)


@pytest.mark.x64
def test_only_many_uniform_features_of_one_density_are_compressed():
    def chosen(distribution, n=N, law=UNIFORM):
        return applies(groups_of(distribution, n=n, dtype=jnp.zeros(()).dtype), law)

    assert chosen(features.SparseUniform(0.1))
    assert not chosen(features.SparseUniform(0.1), n=compressed_series.FEWEST - 1)
    assert not chosen(features.SparseUniform(jnp.full(N, 0.1)))
    assert not chosen(features.SparseBinary(0.1), law=BINARY)
    assert not chosen(features.Exclusive(features.SparseUniform(0.01), (0,) * N))


@pytest.mark.x64
def test_many_active_features_do_not_overflow_in_float32():
    """At p = 0.3 all of 400 features are idle with probability 1e-62, below float32."""
    W = jax.random.normal(jax.random.key(0), (25, 400), jnp.float32) / 5
    params = Params(W=W, b=jnp.full(400, -0.1, jnp.float32))

    for p in (0.1, 0.2, 0.3, 0.45):
        value, slope = by_p(params, jnp.float32(p))
        assert bool(jnp.isfinite(slope.W).all() and jnp.isfinite(slope.b).all())
        np.testing.assert_allclose(value, precisely(params, p), rtol=6e-5)
        mean_field = expected_loss.mean_field(params, features.SparseUniform(jnp.float32(p)))
        np.testing.assert_allclose(value, mean_field, rtol=0.05)  # 4 % off with 40 active features, less with more


@pytest.mark.x64
@pytest.mark.parametrize("separate", [False, True], ids=["compressed", "direct"])
def test_weak_overlaps_with_many_active_features(separate):
    """Antipodal pairs among columns of next to no length, as minima of many dense features are: no share of these is an atom.

    With all of it taken out 32 nodes missed the loss by 1e-5, and of 400 features by 1e-3.
    """
    n, m, p, rng = 60, 6, 0.9, np.random.default_rng(0)
    W = 0.003 * rng.standard_normal((m, n))
    W[np.arange(2 * m) // 2, np.arange(2 * m)] += 0.96 * (-1.0) ** np.arange(2 * m)
    params = Params(W=jnp.asarray(W), b=jnp.where(jnp.arange(n) < 2 * m, -0.001, p / 2))
    alike, each = features.SparseUniform(jnp.asarray(p)), features.SparseUniform(jnp.full(n, p))
    truth = expected_loss.relu_output(params, each, nodes=512)
    found = expected_loss.relu_output(params, each if separate else alike, nodes=32)
    assert abs(found / truth - 1) < 1e-7
