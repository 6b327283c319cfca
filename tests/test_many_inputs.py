"""The closed part of many features in few passes against the general one: values and slopes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS

from superpose import features, fourier_series, many_inputs
from superpose.period import period
from superpose.sets import sets_of


@partial(jax.jit, static_argnums=0)
def both(law, p, g, b, weights):
    """Values, and slopes with these weights, in the general form and in few passes."""
    magnitude = law.magnitude

    def general(p, g, b):
        sets = sets_of(law(p), n=40, dtype=b.dtype)
        span = period(sets, magnitude, g, b, nodes=32)
        return [fourier_series.closed_part(sets, magnitude, span, g, b, nodes=32, spread=32.0), span.length]

    def lean(p, g, b):
        sets = sets_of(law(p), n=40, dtype=b.dtype)
        known, _ = many_inputs.known(sets, magnitude, g, b, nodes=32, spread=32.0)
        return [known.closed, known.length]

    (first, pull), (second, again) = (jax.vjp(lambda g, b, f=f: f(p, g, b), g, b) for f in (general, lean))
    return (first, pull(weights)), (second, again(weights))


@pytest.mark.parametrize("law", [features.SparseUniform, pytest.param(features.SparseSymmetric, marks=pytest.mark.x64)])
@pytest.mark.parametrize("density", [0.01, 0.2, 1.0])
def test_period_closed_part_and_slopes_are_those_of_the_general_form(law, density):
    rng = np.random.default_rng(0)
    W, b = jnp.asarray(rng.standard_normal((8, 40)) / 3), jnp.asarray(rng.uniform(-0.3, 0.2, 40))
    weights = [jnp.asarray(x) for x in rng.standard_normal((2, 40))]
    expected, found = both(law, jnp.asarray(density), W.T @ W, b, weights)
    for truth, value in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(value, truth, rtol=0, atol=256 * EPS * np.abs(truth).max())
