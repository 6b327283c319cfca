"""Newton steps with the exact Hessian in a region of trust; its spectrum goes into the certificate.

Reference: Nocedal and Wright 2006, "Numerical Optimization", chapter 4; |eigenvalues| as in Dauphin et al. 2014,
arXiv:1406.2572, so that saddle points are left.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from superpose._jax.one_by_one import eigh
from superpose.solve.certificate import flat
from superpose.solve.quasi_newton import LONGEST, acceptable

NARROWEST = 1e-8
"""A region of trust this small in which no step is accepted ends the search."""


class State(NamedTuple):
    """One search: the point, what is known there, and the next try `theta + move`."""

    theta: Array
    value: Array
    gradient: Array
    eigenvalues: Array
    vectors: Array  # in columns
    move: Array
    radius: Array
    falling: Array  # whether the last step divided the gradient by ten
    step: Array


def begin(theta: Float[Array, " d"]) -> State:
    """The first try is the point itself: a step of no length from a loss of infinity."""
    zero, one = jnp.zeros_like(theta), jnp.ones((), theta.dtype)
    spectrum, eye = jnp.ones_like(theta), jnp.eye(len(theta), dtype=theta.dtype)
    return State(theta, one * jnp.inf, zero, spectrum, eye, zero, one, jnp.array(True), jnp.zeros((), jnp.int32))


def unfinished(s: State, *, steps: int, tolerance: float, limit: Callable[[Array], Array]) -> Bool[Array, ""]:
    """Whether the gradient is above `tolerance` and falls, or a step would bring a tenth of the gap allowed; not beyond `steps`."""
    steep = (jnp.linalg.norm(s.gradient) > tolerance) & s.falling
    high = -s.move @ s.gradient > 0.1 * limit(s.value)
    return (steep | high) & jnp.isfinite(s.value) & (s.radius > NARROWEST) & (s.step < steps)


def advance(value_and_grad: Callable, s: State) -> State:
    """Try one point with its Hessian: taken, the next step comes from there; refused, the next try is nearer."""

    def slopes(theta: Array) -> tuple[Array, tuple[Array, Array]]:
        value, gradient = value_and_grad(theta)
        return gradient, (value, gradient)

    hessian, (value, gradient) = jax.jacfwd(slopes, has_aux=True)(s.theta + s.move)
    eigenvalues, vectors = eigh((hessian + hessian.T) / 2)
    slope = s.move @ s.gradient
    taken = acceptable(s.value, s.gradient, value, gradient, slope) & jnp.all(jnp.isfinite(eigenvalues))
    image = s.vectors.T @ s.move
    predicted = slope + jnp.sum(s.eigenvalues * image**2) / 2
    faithful = value - s.value <= 0.5 * predicted
    reach = jnp.linalg.norm(s.move)
    radius = jnp.where(taken, jnp.where(faithful, jnp.maximum(s.radius, 2 * reach), s.radius / 2), reach / 8)
    new = (s.theta + s.move, value, gradient, eigenvalues, vectors)
    old = (s.theta, s.value, s.gradient, s.eigenvalues, s.vectors)
    theta, value, gradient, eigenvalues, vectors = (jnp.where(taken, a, b) for a, b in zip(new, old, strict=True))
    radius = jnp.where(s.step == 0, LONGEST, jnp.minimum(radius, LONGEST))
    return State(
        theta=theta,
        value=value,
        gradient=gradient,
        eigenvalues=eigenvalues,
        vectors=vectors,
        move=trusted_step(gradient, eigenvalues, vectors, radius),
        radius=radius,
        falling=(s.step == 0) | ~taken | (100 * (gradient @ gradient) < s.gradient @ s.gradient),
        step=s.step + 1,
    )


def trusted_step(
    gradient: Float[Array, " d"], eigenvalues: Float[Array, " d"], vectors: Float[Array, "d d"], radius: Float[Array, ""]
) -> Float[Array, " d"]:
    """`-sum_i q_i c_i / (|lambda_i| + mu)`, `c_i = q_i . g`: mu = 0 where that is shorter than the radius, else `|c| / radius`."""
    slopes, size = vectors.T @ gradient, jnp.abs(eigenvalues)
    left = flat(eigenvalues)
    plain = jnp.where(left, 0, slopes / jnp.where(left, 1, size))
    far = jnp.linalg.norm(plain) > radius
    damped = slopes / jnp.maximum(size + jnp.linalg.norm(slopes) / radius, jnp.finfo(size.dtype).tiny)
    return -vectors @ jnp.where(far, damped, plain)
