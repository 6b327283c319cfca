"""Exact minimisation: from a start to a certified local minimum of a deterministic loss.

Quasi-Newton (BFGS) steps of one evaluation of loss and gradient each, for many starts side by side: none waits for
another's line search, and a start that is done makes room for the next. Then Newton steps, damped to stay downhill, with
the exact Hessian, whose spectrum certifies the result. A point that did not converge says so.

Reference: Nocedal and Wright 2006, "Numerical Optimization", algorithm 6.1 and section 3.4.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from superpose.one_by_one import eigh
from superpose.solve import certificate
from superpose.solve.solution import CERTIFIED, Solution

SUFFICIENT = 1e-4
"""Armijo's constant: the share of the decrease predicted by the slope that a step must bring."""
NEAREST = 1e-3
"""A try this near that is still refused gives up the curvature learnt so far; along the gradient itself, the search."""
LONGEST = 0.3
"""Longest step, in units of the parameters: directions have length 1, and one leap can leave an output dead for good."""
NOISE = 1e-6
"""Relative change of the loss below which a step may also be taken for its smaller gradient: a loss by a series of 64 nodes has
an error of that size, and its gradient, which is not the slope of that error, still leads to the minimum."""


def minimize(
    loss: Callable[[Any, Any], Float[Array, ""]],
    starts: Any,
    data: Any = None,
    *,
    steps: int = 500,
    newton_steps: int = 2,
    tolerance: float = 1e-9,
    curvature_tolerance: float = 1e-6,
    lanes: int = 100,
) -> Solution:
    """Minimise `loss(params, data)` from each of many starts, each start on its own.

    Args:
        loss: parameters and data to a scalar; twice differentiable (reverse, then forward mode), free of sampling noise, and
            scaled to order 1.
        starts: a pytree of float arrays with a leading axis of r starts. The Hessian is dense: up to about a hundred numbers
            a start.
        data: a pytree with the same leading axis, what tells the problems apart; None if they are all alike.
        steps: at most so many quasi-Newton steps a start.
        newton_steps: Newton steps after them; each costs as many directional derivatives as a start has numbers.
        tolerance: largest gradient norm of a converged point.
        curvature_tolerance: a converged point's lowest eigenvalue is at least minus this times the largest.
        lanes: starts that are worked on side by side; a matter of speed and memory, not of the result.

    Returns:
        The solutions with their certificates, each array with the leading axis of starts.

    Raises:
        ValueError: `steps`, `newton_steps` or `lanes` below 1, or a tolerance that is not positive.
    """
    for name, value in {"steps": steps, "newton_steps": newton_steps, "lanes": lanes}.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: needs at least 1")
    for name, value in {"tolerance": tolerance, "curvature_tolerance": curvature_tolerance}.items():
        if not value > 0:
            raise ValueError(f"{name} = {value}: needs to be positive")
    _, unravel = ravel_pytree(jax.tree.map(lambda x: x[0], starts))
    flat = jax.vmap(lambda p: ravel_pytree(p)[0])(starts)
    value_and_grad = jax.value_and_grad(lambda t, d: loss(unravel(t), d))
    lanes = min(lanes, len(flat))
    unfinished = partial(_unfinished, steps=steps, tolerance=tolerance)
    flat, taken = _queue(value_and_grad, flat, data, lanes=lanes, unfinished=unfinished)
    polish = partial(_newton, value_and_grad, steps=newton_steps)
    point = jax.lax.map(lambda x: polish(*x), (flat, data), batch_size=lanes)
    judged = jax.vmap(partial(certificate.judge, tolerance=tolerance, curvature_tolerance=curvature_tolerance))
    gap, reason = judged(point.value, point.gradient, point.eigenvalues, point.vectors)
    return Solution(
        params=jax.vmap(unravel)(point.theta),
        loss=point.value,
        gradient_norm=jnp.linalg.norm(point.gradient, axis=-1),
        eigenvalues=point.eigenvalues,
        gap=gap,
        reason=reason,
        converged=reason == CERTIFIED,
        steps=taken,
    )


class _State(NamedTuple):
    theta: Array
    value: Array
    gradient: Array
    inverse: Array  # approximate inverse Hessian
    direction: Array
    length: Array
    fresh: Array  # whether the direction is the negative gradient itself
    step: Array


def _begin(theta: Float[Array, " d"]) -> _State:
    """The first try is the start itself: a step of no length from a loss of infinity."""
    zero, eye = jnp.zeros_like(theta), jnp.eye(len(theta), dtype=theta.dtype)
    unknown, one = jnp.full((), jnp.inf, theta.dtype), jnp.ones((), theta.dtype)
    return _State(theta, unknown, zero, eye, zero, one, jnp.array(True), jnp.zeros((), jnp.int32))


def _unfinished(s: _State, *, steps: int, tolerance: float) -> Bool[Array, ""]:
    moving = (jnp.linalg.norm(s.gradient) > tolerance) & (s.length > 0)
    return (s.step == 0) | (moving & (s.step < steps))


def _advance(value_and_grad: Callable, s: _State) -> _State:
    """Try one point: taken, it renews the direction; refused, the next try is nearer."""
    trial, eye = s.theta + s.length * s.direction, jnp.eye(len(s.theta), dtype=s.theta.dtype)
    value, gradient = value_and_grad(trial)
    slope = s.direction @ s.gradient
    taken = _acceptable(s.value, s.gradient, value, gradient, s.length * slope)
    cut = jnp.clip(-slope * s.length / (2 * (value - s.value - s.length * slope)), 0.1, 0.5)
    length = s.length * jnp.where(jnp.isfinite(cut), cut, 0.1)
    stuck = ~taken & (length < NEAREST)
    new, old = (trial, value, gradient), (s.theta, s.value, s.gradient)
    theta, value, gradient = (jnp.where(taken, x, y) for x, y in zip(new, old, strict=True))
    inverse = jnp.where(taken & (s.step > 0), _update(s, theta, gradient), s.inverse)
    direction = jnp.where(taken, -inverse @ gradient, s.direction)
    fresh = (s.step == 0) | stuck | (direction @ gradient >= 0)
    direction = jnp.where(fresh, -gradient, direction)
    return _State(
        theta=theta,
        value=value,
        gradient=gradient,
        inverse=jnp.where(fresh, eye, inverse),
        direction=direction * LONGEST / jnp.maximum(jnp.linalg.norm(direction), LONGEST),
        length=jnp.where(stuck & s.fresh, 0, jnp.where(taken | stuck, 1, length)),
        fresh=fresh | (s.fresh & ~taken),
        step=s.step + 1,
    )


def _queue(value_and_grad: Callable, starts: Float[Array, "r d"], data: Any, *, lanes: int, unfinished: Callable) -> tuple:
    """Run every start through `lanes` places; a place that is done takes the next start. Returns points and steps."""
    count = len(starts)

    def load(number: Int[Array, " lanes"]) -> _State:
        return jax.vmap(_begin)(starts[jnp.minimum(number, count - 1)])

    def step(carry: tuple) -> tuple:
        states, number, following, points, taken = carry
        mine = jax.tree.map(lambda x: x[jnp.minimum(number, count - 1)], data)
        states = jax.vmap(lambda s, d: _advance(lambda t: value_and_grad(t, d), s))(states, mine)
        done = ~jax.vmap(unfinished)(states) & (number < count)
        where = jnp.where(done, number, count)
        points, taken = (
            points.at[where].set(states.theta, mode="drop"),
            taken.at[where].set(states.step, mode="drop"),
        )
        number = jnp.where(done, following + jnp.cumsum(done) - 1, number)
        fresh = load(number)
        states = jax.tree.map(lambda a, b: jnp.where(done.reshape((-1,) + (1,) * (a.ndim - 1)), a, b), fresh, states)
        return states, number, following + done.sum(), points, taken

    number = jnp.arange(lanes)
    carry = (load(number), number, jnp.array(lanes), jnp.zeros_like(starts), jnp.zeros(count, jnp.int32))
    carry = jax.lax.while_loop(lambda c: jnp.any(c[1] < count), step, carry)
    return carry[3], carry[4]


def _acceptable(old: Array, old_gradient: Array, value: Array, gradient: Array, predicted: Array) -> Bool[Array, ""]:
    """Armijo's decrease; or, within rounding of the old value, a smaller gradient."""
    decrease = value <= old + SUFFICIENT * predicted
    level = value <= old + NOISE * jnp.abs(old)
    return (decrease | (level & (gradient @ gradient < old_gradient @ old_gradient))) & jnp.isfinite(value)


def _update(s: _State, theta: Float[Array, " d"], gradient: Float[Array, " d"]) -> Float[Array, "d d"]:
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


class _Point(NamedTuple):
    theta: Array
    value: Array
    gradient: Array
    eigenvalues: Array
    vectors: Array
    length: Array


def _newton(value_and_grad: Callable, theta: Float[Array, " d"], data: Any, *, steps: int) -> _Point:
    """Newton steps with |eigenvalues| (flat directions left alone), each kept if it lowers loss or gradient."""

    def slopes(theta: Array) -> tuple[Array, tuple[Array, Array]]:
        value, gradient = value_and_grad(theta, data)
        return gradient, (value, gradient)

    def advance(s: _Point, _: None) -> tuple[_Point, None]:
        size = jnp.abs(s.eigenvalues)
        flat = size <= 1e-9 * size.max()
        weights = jnp.where(flat, 0, 1 / jnp.where(flat, 1, size))
        direction = -s.length * (s.vectors * weights[None, :]) @ (s.vectors.T @ s.gradient)
        hessian, (value, gradient) = jax.jacfwd(slopes, has_aux=True)(s.theta + direction)
        eigenvalues, vectors = eigh((hessian + hessian.T) / 2)
        new = _Point(s.theta + direction, value, gradient, eigenvalues, vectors, jnp.ones_like(s.length))
        taken = _acceptable(s.value, s.gradient, value, gradient, direction @ s.gradient)
        return jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, s._replace(length=s.length / 4)), None

    zero = jnp.zeros_like(theta)
    unknown, one = jnp.full((), jnp.inf, theta.dtype), jnp.ones((), theta.dtype)
    start = _Point(theta, unknown, zero, jnp.ones_like(theta), jnp.eye(len(theta), dtype=theta.dtype), one)
    return jax.lax.scan(advance, start, None, length=steps + 1)[0]  # the first try is the start itself
