"""Quasi-Newton (BFGS) steps of one evaluation of loss and gradient each, so that none waits for another's line search.

Reference: Nocedal and Wright 2006, "Numerical Optimization", algorithm 6.1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

SUFFICIENT = 1e-4
"""Armijo's constant: the share of the decrease predicted by the slope that a step must bring."""
NEAREST = 1e-3
"""A try this near that is still refused gives up the curvature learnt so far; along the gradient itself, the search."""
LONGEST = 0.3
"""Longest step, in units of the parameters: directions have length 1, and one leap can leave an output dead for good."""
NOISE = 1e-6
"""Relative change of the loss below which a step may also be taken for its smaller gradient: a loss by a series of 64 nodes has
an error of that size, and its gradient, which is not the slope of that error, still leads to the minimum."""


class State(NamedTuple):
    """One search: the point, what is known there, and the next try `theta + length * direction`."""

    theta: Array
    value: Array
    gradient: Array
    inverse: Array  # approximate inverse Hessian
    direction: Array
    length: Array
    fresh: Array  # whether the direction is the negative gradient itself
    step: Array


def begin(theta: Float[Array, " d"]) -> State:
    """The first try is the start itself: a step of no length from a loss of infinity."""
    zero, eye = jnp.zeros_like(theta), jnp.eye(len(theta), dtype=theta.dtype)
    unknown, one = jnp.full((), jnp.inf, theta.dtype), jnp.ones((), theta.dtype)
    return State(theta, unknown, zero, eye, zero, one, jnp.array(True), jnp.zeros((), jnp.int32))


def unfinished(s: State, *, steps: int, tolerance: float) -> Bool[Array, ""]:
    """Whether the gradient is above `tolerance`, the search not stuck and fewer than `steps` steps were made."""
    moving = (jnp.linalg.norm(s.gradient) > tolerance) & (s.length > 0) & jnp.isfinite(s.value)
    return (s.step == 0) | (moving & (s.step < steps))


def advance(value_and_grad: Callable, s: State) -> State:
    """Try one point: taken, it renews the direction; refused, the next try is nearer."""
    trial, eye = s.theta + s.length * s.direction, jnp.eye(len(s.theta), dtype=s.theta.dtype)
    value, gradient = value_and_grad(trial)
    slope = s.direction @ s.gradient
    taken = acceptable(s.value, s.gradient, value, gradient, s.length * slope)
    cut = jnp.clip(-slope * s.length / (2 * (value - s.value - s.length * slope)), 0.1, 0.5)
    length = s.length * jnp.where(jnp.isfinite(cut), cut, 0.1)
    stuck = ~taken & (length < NEAREST)
    new, old = (trial, value, gradient), (s.theta, s.value, s.gradient)
    theta, value, gradient = (jnp.where(taken, x, y) for x, y in zip(new, old, strict=True))
    inverse = jnp.where(taken & (s.step > 0), _update(s, theta, gradient), s.inverse)
    direction = jnp.where(taken, -inverse @ gradient, s.direction)
    fresh = (s.step == 0) | stuck | (direction @ gradient >= 0)
    direction = jnp.where(fresh, -gradient, direction)
    return State(
        theta=theta,
        value=value,
        gradient=gradient,
        inverse=jnp.where(fresh, eye, inverse),
        direction=direction * LONGEST / jnp.maximum(jnp.linalg.norm(direction), LONGEST),
        length=jnp.where(stuck & s.fresh, 0, jnp.where(taken | stuck, 1, length)),
        fresh=fresh | (s.fresh & ~taken),
        step=s.step + 1,
    )


def acceptable(old: Array, old_gradient: Array, value: Array, gradient: Array, predicted: Array) -> Bool[Array, ""]:
    """Armijo's decrease; or, within rounding of the old value, a smaller gradient."""
    decrease = value <= old + SUFFICIENT * predicted
    level = value <= old + NOISE * jnp.abs(old)
    return (decrease | (level & (gradient @ gradient < old_gradient @ old_gradient))) & jnp.isfinite(
        value + gradient @ gradient
    )


def _update(s: State, theta: Float[Array, " d"], gradient: Float[Array, " d"]) -> Float[Array, "d d"]:
    """BFGS: `H' = (1 - s y^T / sy) H (1 - y s^T / sy) + s s^T / sy`, scaled before the first; skipped unless sy > 0."""
    move, change = theta - s.theta, gradient - s.gradient
    curvature = move @ change
    usable = curvature > 1e-12 * jnp.linalg.norm(move) * jnp.linalg.norm(change)
    safe = jnp.where(usable, curvature, 1)
    scale = jnp.where(s.fresh, safe / jnp.where(usable, change @ change, 1), 1)
    inverse = scale * s.inverse
    image = inverse @ change
    outer = move[:, None] * image[None, :]
    rank_one = (1 + change @ image / safe) / safe * move[:, None] * move[None, :]
    return jnp.where(usable, inverse - (outer + outer.T) / safe + rank_one, s.inverse)
