"""The exact loss's derivatives against finite differences, autodiff and closed forms; and how it is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close, traced_anew
from jax.flatten_util import ravel_pytree
from loss_models import make_params, of_kind, outputs, side_by_side, total, uniform_outputs, value_and_gradient, zoo

from superpose import expected_loss, features
from superpose.expected_loss import binary_states, box_quadrature, coupled_series, fourier_series
from superpose.expected_loss.groups import groups_of
from superpose.toy_model import Params


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
        sets = groups_of(distribution, n=5, dtype=params.b.dtype)
        magnitude, gram = features.magnitude(distribution), params.W.T @ params.W
        series = fourier_series if sets.independent else coupled_series
        return jnp.sum(importance * series.losses(sets, magnitude, gram, params.b, nodes=nodes))

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
    monkeypatch.setattr(box_quadrature, "MOST_FLAT", 0)
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


@pytest.mark.x64
def test_vmap_over_models_and_over_densities_gives_the_same_numbers():
    W, b, p, _ = zoo(5)
    alone = uniform_outputs(W, b, p, 64)
    # Another order of summation over 64 nodes.
    assert_close(side_by_side(W, b, p, 64), alone, rtol=64 * EPS)
    over_densities = jax.jit(jax.vmap(lambda p: outputs(Params(W=W[0], b=b[0]), features.SparseUniform(p))))
    assert np.all(W[:6] == W[:1])  # one model at all densities
    assert_close(over_densities(p[:6]), alone[:6], rtol=64 * EPS)


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
    params, distribution = make_params(n=n), features.SparseUniform(jnp.asarray(0.3))
    traced_anew(monkeypatch)
    slopes, leaves = jax.grad(lambda q: total(q, distribution, nodes=16)), jax.tree.leaves(params)
    with jax.checking_leaks():
        jax.jit(lambda *leaves: jax.tree.leaves(slopes(Params(*leaves)))).lower(*leaves)
