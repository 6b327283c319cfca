"""Moments of rectified pre-activations: against oracles of other routes, the loss that they make, and their slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close
from exact_oracles import bromwich, corner_sums, tree_states
from loss_models import make_params

from superpose import expected_loss, features
from superpose.expected_loss import rectified_moments

DENSITIES = [0.3, 0.05, 0.6, 0.9]


def rows(k, n, seed=0):
    """Rows and biases of both signs."""
    rng = np.random.default_rng(seed)
    A, c = 0.6 * rng.standard_normal((k, n)), 0.3 * rng.standard_normal(k)
    return jnp.asarray(A), jnp.asarray(c)


def as_moments(A, of_row, every=1):
    """From `of_row(k, j)`, which gives `E r(y)`, `E r(y)^2` and `E x_j r(y)`; every so-many-th feature j."""
    found = np.array([[[float(x) for x in of_row(k, j)] for j in range(0, A.shape[1], every)] for k in range(len(A))])
    return expected_loss.RectifiedMoments(found[:, 0, 1], found[:, 0, 0], found[:, :, 2])


def assert_moments(found, truth, *, square, slopes):
    """Each within these shares of the largest number of its kind."""
    for x, y, share in zip(found, truth, (square, slopes, slopes), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=max(share, 1e3 * EPS) * np.abs(y).max())


@pytest.mark.parametrize(("k", "n"), [(5, 2), (2, 3), (6, 4)])
def test_uniform_features_are_sums_over_corners(k, n):
    A, c = rows(k, n)
    A = A.at[0, -1].set(0)
    p = DENSITIES[:n]
    truth = as_moments(A, lambda i, j: corner_sums(A[i].tolist(), float(c[i]), p, j))
    found = rectified_moments(A, c, features.SparseUniform(jnp.array(p)), nodes=64)
    closed = n <= 3
    assert_moments(found, truth, square=1e-13 if closed else 1e-6, slopes=1e-13 if closed else 2e-5)


def binary(A, c, states):
    A, c = np.asarray(A, float), np.asarray(c, float)
    total = [0.0, 0.0, 0.0]
    for x, chance in states:
        r = np.maximum(c + A @ x, 0)
        total = [t + chance * y for t, y in zip(total, (r**2, r, np.outer(r, x)), strict=True)]
    return expected_loss.RectifiedMoments(*total)


@pytest.mark.parametrize("parents", [(-1, -1, -1, -1, -1), (-1, 0, 0, 1, -1)])
def test_binary_features_are_sums_over_states(parents):
    A, c = rows(3, 5)
    tree = features.Tree(features.SparseBinary(jnp.array([0.6, 0.5, 0.3, 0.8, 0.4])), parents=parents)
    assert_moments(rectified_moments(A, c, tree), binary(A, c, tree_states(tree)), square=1e-13, slopes=1e-13)


@pytest.mark.parametrize(
    ("law", "kind"),
    [
        (features.SparseUniform, "together"),
        (features.SparseSymmetric, "independent"),
        (features.SparseSymmetric, "exclusive"),
        (features.SparseExponential, "independent"),
        (features.SparseExponential, "together"),
    ],
)
def test_laws_and_couplings_are_integrals_on_a_line(law, kind):
    A, c = rows(3, 6, seed=1)
    sets = tuple(range(6)) if kind == "independent" else (0, 0, 1, 1, 2, 2)
    coupled = {"independent": lambda x, _: x, "exclusive": features.Exclusive, "together": features.Together}[kind]
    how = {"law": law(0.2).law, "kind": kind, "sets": sets}
    truth = as_moments(A, lambda i, j: bromwich(np.asarray(A[i]), float(c[i]), 0.2, j, **how))
    found = rectified_moments(A, c, coupled(law(0.2), sets), nodes=256)
    assert_moments(found, truth, square=1e-6, slopes=2e-4)


@pytest.mark.x64
@pytest.mark.parametrize("density", [0.02, 0.5])
def test_many_features_are_integrals_on_a_line(density):
    A, c = rows(3, 40, seed=2)
    truth = as_moments(A, lambda i, j: bromwich(np.asarray(A[i]), float(c[i]), density, j, nodes=2000), every=13)
    found = rectified_moments(A, c, features.SparseUniform(density), nodes=64)
    assert_moments(found._replace(cross=found.cross[:, ::13]), truth, square=1e-6, slopes=1e-4)


@pytest.mark.parametrize("contexts", [1, 2])
def test_the_loss_is_made_of_them(contexts):
    params = make_params()
    plain = features.SparseUniform(jnp.array([0.3, 0.1, 0.7, 0.2, 0.5]))
    law = plain if contexts == 1 else features.Mixture((plain, features.SparseUniform(0.2)), jnp.array([0.3, 0.7]))
    square, _, cross = rectified_moments(params.W.T @ params.W, params.b, law, nodes=256)
    second = features.second_moment(law, n=len(params.b))
    truth = expected_loss.output_losses(params, law, nodes=256)
    assert_close(second - 2 * jnp.diagonal(cross) + square, truth, rtol=max(1e-5, 1e3 * EPS))


LAWS = {
    "uniform": (features.SparseUniform(0.2), 5),
    "few": (features.SparseUniform(0.2), 2),
    "binary": (features.SparseBinary(0.2), 5),
    "tree": (features.Tree(features.SparseUniform(0.4), parents=(-1, 0, 0, -1, 3)), 5),
    "many": (features.SparseUniform(0.2), 33),
}


@pytest.mark.x64
@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.slow) if x == "many" else x for x in LAWS])
def test_slopes_are_those_of_the_numbers(name):
    """Of a sum of all moments with weights of their own, along a direction, by central differences."""
    value, (A, c), way = weighted(*LAWS[name])
    h = 1e-5
    slopes = jax.grad(value, (0, 1))(A, c)
    found, size = (sum((f(x) * f(d)).sum() for x, d in zip(slopes, way, strict=True)) for f in (jnp.asarray, jnp.abs))
    ends = [value(A + t * way[0], c + t * way[1]) for t in (h, -h)]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * h), rtol=0, atol=1e-5 * size)


@pytest.mark.x64
@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_slopes_have_slopes(name):
    value, (A, c), way = weighted(*LAWS[name])
    h, slopes = 1e-5, jax.grad(value, (0, 1))
    bend = jax.jvp(slopes, (A, c), way)[1]
    up, down = (slopes(A + t * way[0], c + t * way[1]) for t in (h, -h))
    for x, a, b in zip(bend, up, down, strict=True):
        np.testing.assert_allclose(x, (a - b) / (2 * h), rtol=0, atol=1e-4 * float(jnp.abs(x).max()))


def weighted(law, n):
    """The sum of all moments of four rows, with weights of their own; the rows; and a direction."""
    A, c = rows(4, n, seed=3)
    rng = np.random.default_rng(4)
    weights = [jnp.asarray(rng.standard_normal(x.shape)) for x in (c, c, A)]

    def value(A, c):
        return sum((w * x).sum() for w, x in zip(weights, rectified_moments(A, c, law), strict=True))

    return value, (A, c), tuple(jnp.asarray(rng.standard_normal(x.shape)) for x in (A, c))


def test_rows_and_models_do_not_touch_each_other():
    law = features.SparseUniform(0.3)
    A, c = rows(5, 4, seed=5)
    whole = rectified_moments(A, c, law)
    each = jax.vmap(lambda A, c: rectified_moments(A[None], c[None], law))(A, c)
    for x, y in zip(whole, each, strict=True):
        assert_close(x, y[:, 0], rtol=1e3 * EPS)


def test_what_does_not_fit_is_named():
    A, c = rows(3, 4)
    law = features.SparseUniform(0.3)
    with pytest.raises(ValueError, match="nodes = 4"):
        rectified_moments(A, c, law, nodes=4)
    with pytest.raises(ValueError, match="density"):
        rectified_moments(A, c, features.SparseUniform(jnp.full(3, 0.2)))
    with pytest.raises(ValueError, match=r"b has dtype int(32|64): needs floats"):
        expected_loss.relu_output(make_params().replace(b=jnp.zeros(5, int)), law)
    with pytest.raises(ValueError, match="no derivative"):
        jax.grad(lambda p: rectified_moments(A, c, features.SparseUniform(p)).mean.sum())(0.3)
