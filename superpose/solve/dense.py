"""Exact minimisation: from a start to a certified local minimum of a deterministic loss.

Quasi-Newton steps for many starts side by side; then Newton steps with the exact Hessian, whose spectrum goes into the certificate;
then a look around. Where that finds a lower place, all begins again from there. A point that is not certified says why.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from superpose.solve import certificate, newton, probe, programs, quasi_newton
from superpose.solve.lanes import Machine, work_off
from superpose.solve.solution import CERTIFIED, Solution

MOST, WIDTH = 100, 500
"""Starts side by side unless the user says so, and the numbers in them all: more would fall out of a CPU's cache, and the last
starts of a round keep all places busy."""
HESSIANS = 8
"""One Hessian for so many starts side by side: each is a batch of directional derivatives itself."""


KICK = 0.05
"""Length of the step off a saddle point along its lowest eigenvector, where no probe found a lower place."""


class Settings(NamedTuple):
    """What a program is compiled for, beside its loss."""

    steps: int
    newton_steps: int
    escapes: int
    tolerance: float
    gradient_tolerance: float
    lanes: int | None


def minimize(
    loss: Callable[..., Float[Array, ""]],
    starts: Any,
    data: Any = None,
    *,
    finer: Callable[..., Float[Array, ""]] | None = None,
    coarser: Callable[..., Float[Array, ""]] | None = None,
    steps: int = 500,
    newton_steps: int = 8,
    escapes: int = 6,
    tolerance: float = 1e-8,
    gradient_tolerance: float = 1e-9,
    lanes: int | None = None,
) -> Solution:
    """Minimise `loss(params)` or `loss(params, data)` from each of many starts, each start on its own.

    A program is compiled once for a loss, shapes and settings, and kept: pass the same function, and what differs from call to
    call as `data`. A function made anew, such as a lambda inside a loop, is another loss and compiles anew:

        def loss(params, p):
            return expected_loss.relu_output(params, features.SparseUniform(p)) / p

        for p in (0.1, 0.2):
            solve.minimize(loss, starts, jnp.full(len(starts.b), p))  # compiles once

    The last 64 programs are kept, with all that their functions refer to.

    Args:
        loss: parameters, and data where given, to a scalar; twice differentiable (reverse, then forward mode), free of sampling
            noise, and scaled to order 1. It is called with `None` for data that are not given if it has two arguments without
            default.
        starts: a pytree of float arrays with a leading axis of r starts, of order 1 as well. Or one start without that axis: it
            is taken so where the loss takes it and not its rows. The Hessian is dense: up to about a hundred numbers a start.
        data: a pytree with the same leading axis, what tells the problems apart; None if they are all alike.
        finer: a more exact version of `loss`, used at the end only: how much it differs from `loss`, and how much further its
            slopes could lead down, goes into the certificate as the error of the loss.
        coarser: a cheaper version of `loss`, with which the search begins.
        steps: at most so many quasi-Newton steps a start at once.
        newton_steps: at most so many Newton steps after them; each costs as many directional derivatives as a start has numbers.
        escapes: how often a start begins again: where it ran out of steps, or from a saddle point, where a look around found a
            lower place or off it.
        tolerance: the largest gap of a certified point, as a share of the loss.
        gradient_tolerance: gradient norm at which quasi-Newton steps end.
        lanes: starts that are worked on side by side; a matter of speed and memory, not of the result. None: 100, fewer for starts
            of more than 5 numbers.

    Returns:
        The solutions with their certificates, each array with the leading axis of starts, or without it for one start.

    Raises:
        ValueError: a number of steps or lanes below 1, fewer than 0 escapes, a tolerance that is not positive, no starts, data
            of another number of rows, or a loss that is no scalar.
    """
    for name, value in {
        "steps": steps,
        "newton_steps": newton_steps,
        "lanes": 1 if lanes is None else lanes,
        "escapes": escapes + 1,
    }.items():
        if value < 1:
            raise ValueError(f"{name} = {value - (name == 'escapes')}: needs at least {int(name != 'escapes')}")
    for name, value in {"tolerance": tolerance, "gradient_tolerance": gradient_tolerance}.items():
        if not value > 0:
            raise ValueError(f"{name} = {value}: needs to be positive")
    settings = Settings(steps, newton_steps, escapes, tolerance, gradient_tolerance, lanes)
    return programs.run(_search, (loss, finer, coarser), settings, starts, data)


class _Kept(NamedTuple):
    """What is known of each start: where it is and what is known there, the lowest place seen, what the search did."""

    theta: Array
    value: Array
    gradient: Array
    eigenvalues: Array
    vectors: Array
    place: Array
    lowest: Array
    kink: Array
    steps: Array


def _search(
    losses: tuple[Callable, Callable | None, Callable | None], settings: Settings, starts: Any, data: Any
) -> Solution:
    loss, finer, coarser = losses
    _, unravel = ravel_pytree(jax.tree.map(lambda x: x[0], starts))
    flat = jax.vmap(lambda p: ravel_pytree(p)[0])(starts)
    count, d = flat.shape
    lanes = min(settings.lanes or _places(d), count)

    def slopes(f: Callable) -> Callable[[Array], Callable]:
        """From the number of a start to value and gradient of its loss."""
        return lambda i: jax.value_and_grad(lambda t: f(unravel(t), jax.tree.map(lambda x: x[i], data)))

    limit = partial(certificate.limit, tolerance=settings.tolerance)

    def again(carry: tuple) -> tuple:
        number, kept, once_more = carry
        before = kept.steps
        kept = _round(slopes(loss), kept, jnp.argsort(~once_more, stable=True), once_more.sum(), settings, lanes)
        lower = kept.lowest < kept.value - limit(kept.value)
        bending = jax.vmap(certificate.bending)(kept.eigenvalues)
        uphill, finite = _uphill(kept, kept.gradient), jnp.isfinite(kept.value)
        saddle = finite & (bending > jnp.maximum(limit(kept.value), uphill))
        stopped = finite & (kept.steps - before >= settings.steps) & (uphill > limit(kept.value))
        once_more = (lower | saddle | stopped) & (number < settings.escapes)
        kick = jnp.where(saddle, KICK, 0)[:, None] * kept.vectors[..., 0]
        pushed = jnp.where(lower[:, None], kept.place, kept.theta + kick)
        return number + 1, kept._replace(theta=jnp.where(once_more[:, None], pushed, kept.theta)), once_more

    kept = _unknown(flat)
    if coarser is not None:
        begun, steps = _descent(slopes(coarser), flat, jnp.arange(count), jnp.array(count), settings, lanes)
        kept = kept._replace(theta=begun, steps=steps)
    carry = (jnp.zeros((), jnp.int32), kept, jnp.ones(count, bool))
    _, kept, _ = jax.lax.while_loop(lambda c: jnp.any(c[2]), again, carry)
    return _certified(None if finer is None else slopes(finer), jax.vmap(unravel), kept, settings, lanes)


def _places(d: int) -> int:
    """For starts of d numbers; a multiple of four, so that vector registers are full."""
    fits = min(MOST, WIDTH // d)
    return max(fits - fits % 4, 1)


def _unknown(flat: Float[Array, "r d"]) -> _Kept:
    eye = jnp.eye(flat.shape[1], dtype=flat.dtype)
    value, none = jnp.full(len(flat), jnp.inf, flat.dtype), jnp.zeros(len(flat), jnp.int32)
    vectors = jnp.broadcast_to(eye, (len(flat), *eye.shape))
    return _Kept(flat, value, flat, flat, vectors, place=flat, lowest=value, kink=none > 0, steps=none)


def _descent(
    slopes: Callable, flat: Array, order: Array, waiting: Array, settings: Settings, lanes: int
) -> tuple[Float[Array, "r d"], Int[Array, " r"]]:
    """Where quasi-Newton steps lead, and how many they were, for the first `waiting` starts of `order`."""
    machine = Machine(
        begin=lambda i: quasi_newton.begin(flat[i]),
        advance=lambda s, i: quasi_newton.advance(slopes(i), s),
        unfinished=partial(quasi_newton.unfinished, steps=settings.steps, tolerance=settings.gradient_tolerance),
        keep=lambda s: (s.theta, s.step),
    )
    return work_off(machine, (flat, jnp.zeros(len(flat), jnp.int32)), order=order, waiting=waiting, lanes=lanes)


def _round(slopes: Callable, kept: _Kept, order: Array, waiting: Array, settings: Settings, lanes: int) -> _Kept:
    """Quasi-Newton steps, Newton steps and a look around, for the first `waiting` starts of `order`."""
    run = partial(work_off, order=order, waiting=waiting)
    limit = partial(certificate.limit, tolerance=settings.tolerance)
    theta, steps = _descent(slopes, kept.theta, order, waiting, settings, lanes)
    polish = Machine(
        begin=lambda i: newton.begin(theta[i]),
        advance=lambda s, i: newton.advance(slopes(i), s),
        unfinished=partial(
            newton.unfinished, steps=settings.newton_steps, tolerance=settings.gradient_tolerance, limit=limit
        ),
        keep=lambda s: (s.theta, s.value, s.gradient, s.eigenvalues, s.vectors),
    )
    point = run(polish, (theta, *kept[1:5]), lanes=-(-lanes // HESSIANS))
    look = Machine(
        begin=lambda i: probe.begin(*(x[i] for x in point)),
        advance=lambda s, i: probe.advance(slopes(i), s, limit=limit),
        unfinished=partial(probe.unfinished, limit=limit),
        keep=lambda s: (*s[:5], s.place, s.lowest, s.kink),
    )
    seen = run(look, (*point, *kept[5:8]), lanes=lanes)
    return _Kept(*seen, steps=kept.steps + steps)


def _uphill(kept: _Kept, gradient: Float[Array, "r d"]) -> Float[Array, " r"]:
    return jax.vmap(lambda g, v, e: certificate.uphill(v.T @ g, e))(gradient, kept.vectors, kept.eigenvalues)


def _certified(finer: Callable | None, unravel: Callable, kept: _Kept, settings: Settings, lanes: int) -> Solution:
    finite = jnp.isfinite(kept.value)
    uphill, error = _uphill(kept, kept.gradient), jnp.zeros_like(kept.value)
    if finer is not None:
        count = len(kept.value)
        parts = jnp.arange(-(-count // lanes) * lanes).reshape(-1, lanes) % count
        evaluated = jax.lax.map(jax.vmap(lambda i: finer(i)(kept.theta[i])), parts)
        value, gradient = (x.reshape(-1, *x.shape[2:])[:count] for x in evaluated)
        error = jnp.abs(value - kept.value) + jnp.maximum(_uphill(kept, gradient) - uphill, 0)
    gap, reason = jax.vmap(partial(certificate.judge, tolerance=settings.tolerance))(
        kept.value,
        uphill=uphill,
        bending=jax.vmap(certificate.bending)(kept.eigenvalues),
        fall=jnp.maximum(kept.value - kept.lowest, 0),
        error=error,
        kink=kept.kink,
    )
    return Solution(
        params=unravel(kept.theta),
        loss=jnp.where(finite, kept.value, jnp.nan),
        gradient_norm=jnp.where(finite, jnp.linalg.norm(kept.gradient, axis=-1), jnp.nan),
        eigenvalues=jnp.where(finite[:, None], kept.eigenvalues, jnp.nan),
        gap=gap,
        reason=reason,
        converged=reason == CERTIFIED,
        steps=kept.steps,
    )
