"""Moments and characteristic function of each distribution, in closed form."""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from superpose.features import forest
from superpose.features.distributions import Distribution, Mixture, Sparse, check, coupling, given, magnitude


def _averaged(f: Callable[..., Array], distribution: Mixture, *arguments: Any, **sizes: int) -> Array:
    """The mean of `f` over the contexts of a mixture."""
    weights = jnp.asarray(distribution.weights, float)
    parts = [w * f(x, *arguments, **sizes) for w, x in zip(weights, distribution.contexts, strict=True)]
    return reduce(add, parts)


def density(distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """Probability that each feature is active, shape `(n,)`, in (0, 1]."""
    check(distribution, n=n)
    return _density(distribution, n=n)


def _density(distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    if isinstance(distribution, Mixture):
        return _averaged(_density, distribution, n=n)
    if isinstance(distribution, Sparse):
        return given(distribution, n=n)
    return forest.marginal(coupling(distribution, n=n), given(distribution, n=n))


def mean(distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """`E x_i = p_i E u`, shape `(n,)`."""
    check(distribution, n=n)
    return _power(distribution, 1, n=n)


def second_moment(distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """`E x_i^2 = p_i E u^2`, shape `(n,)`: what an output costs that answers 0."""
    check(distribution, n=n)
    return _power(distribution, 2, n=n)


def _power(distribution: Distribution, k: int, *, n: int) -> Float[Array, " n"]:
    """`E x_i^k`."""
    if isinstance(distribution, Mixture):
        return _averaged(_power, distribution, k, n=n)
    return _density(distribution, n=n) * magnitude(distribution).moments[k - 1]


def variance(distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """`Var x_i = E x_i^2 - (E x_i)^2`, shape `(n,)`; for uniform magnitudes `p/3 - p^2/4`."""
    return second_moment(distribution, n=n) - mean(distribution, n=n) ** 2


def covariance(distribution: Distribution, *, n: int) -> Float[Array, "n n"]:
    """`Cov(x_i, x_j)`, `(n, n)`: `(E u)^2 (P(i and j active) - p_i p_j)` where i and j differ.

    So `(E u)^2 p (1 - p)` within a `Together` set, `-(E u)^2 p_i p_j` within an `Exclusive` one. A mixture has the mean covariance
    of its contexts, and the covariance of their means.
    """
    check(distribution, n=n)
    return _covariance(distribution, n=n)


def _covariance(distribution: Distribution, *, n: int) -> Float[Array, "n n"]:
    if isinstance(distribution, Mixture):
        means = jnp.stack([_power(x, 1, n=n) for x in distribution.contexts])
        weights = jnp.asarray(distribution.weights, float)
        apart = means - (weights @ means)[None]
        return _averaged(_covariance, distribution, n=n) + (apart.T * weights[None]) @ apart
    p, one = _density(distribution, n=n), magnitude(distribution).moments
    own = jnp.diag(p * one[1] - (p * one[0]) ** 2)
    if isinstance(distribution, Sparse):
        return own
    both = forest.joint(coupling(distribution, n=n), given(distribution, n=n))
    return own + jnp.where(jnp.eye(n, dtype=bool), 0, one[0] ** 2 * (both - p[:, None] * p[None, :]))


def characteristic_function(distribution: Distribution, t: Float[Array, " n"]) -> Complex[Array, ""]:
    """`E exp(i sum_j t_j x_j)` at one frequency vector `t` of shape `(n,)`.

    Independent features: `prod_j (1 - p_j + p_j psi(t_j))`. Coupled ones: the product over sets of what `forest.active_part` says.
    A mixture: the mean over its contexts.
    """
    n = t.shape[0]
    check(distribution, n=n)
    return _characteristic(distribution, t, n=n)


def _characteristic(distribution: Distribution, t: Float[Array, " n"], *, n: int) -> Complex[Array, ""]:
    if isinstance(distribution, Mixture):
        return _averaged(_characteristic, distribution, t, n=n)
    known, p = coupling(distribution, n=n), given(distribution, n=n)
    (psi,) = magnitude(distribution).derivatives(t, 0)
    return jnp.prod(1 - forest.chances(known, p) + forest.active_part(known, p, p * psi))
