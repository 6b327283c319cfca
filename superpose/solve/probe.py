"""A look around a point where Newton steps ended: a last step without a new Hessian, then what curvature does not tell.

Along a direction of little curvature a loss may grow (a symmetry; an unused column, as `|w|^3`) or fall (a monkey saddle). Only
steps tell: some way along it and back, the long ones followed by the Newton step in all other directions, as valleys bend.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from superpose.solve import certificate
from superpose.solve.quasi_newton import acceptable

SHARES = (1.0, 0.1, 0.01, 1e-4, 1e-6)
"""Shares of the Newton step that are tried one after the other until one is accepted."""
FAR, NEAR, ACROSS = 0.1, 0.02, 0.05
"""Lengths of the steps along a direction, and along a random one in the space of little curvature."""
STEPS = (FAR, -FAR, NEAR, -NEAR, ACROSS, -ACROSS)
PROBES = (0, None, 1, None, 2, 3, 4, 5)
"""What is looked at for each direction: the number of a step, or the point before, corrected."""
TEST = len(SHARES)
"""The turn that tests for a kink, where the point is not stationary; then come the probes, where it is."""
SHARP = 1e-4
"""Distance within which the slope turns round at a kink, or the loss steps up."""


class State(NamedTuple):
    """The point, what is known there, the lowest place seen, and the last place looked at with its gradient."""

    theta: Array
    value: Array
    gradient: Array
    eigenvalues: Array
    vectors: Array
    place: Array
    lowest: Array
    last: Array
    slope: Array
    kink: Array
    turn: Array


def begin(theta: Array, value: Array, gradient: Array, eigenvalues: Array, vectors: Array) -> State:
    """At the end of the Newton steps, with the Hessian's spectrum there."""
    known, turn = (theta, value, gradient, eigenvalues, vectors), jnp.zeros((), jnp.int32)
    return State(*known, place=theta, lowest=value, last=theta, slope=gradient, kink=jnp.array(False), turn=turn)


def weak(eigenvalues: Float[Array, " d"]) -> Bool[Array, " d"]:
    """Which directions have little or negative curvature: the first ones, as eigenvalues ascend."""
    return eigenvalues <= certificate.WEAK * jnp.abs(eigenvalues).max()


def unfinished(s: State, *, limit: Callable[[Array], Array]) -> Bool[Array, ""]:
    """Whether places are left to look at, and none so far lies lower by `limit(value)`, and the point is worth it."""
    left = s.turn <= TEST + len(PROBES) * weak(s.eigenvalues).sum()
    lower = s.lowest < s.value - limit(s.value)
    return jnp.isfinite(s.value) & ((s.turn <= TEST) | (_stationary(s, limit) & left & ~lower))


def _stationary(s: State, limit: Callable[[Array], Array]) -> Bool[Array, ""]:
    return certificate.uphill(s.vectors.T @ s.gradient, s.eigenvalues) <= limit(s.value)


def _newton_step(gradient: Array, s: State, left: Bool[Array, " d"]) -> Float[Array, " d"]:
    """The step from a place with this gradient, but not along the directions `left` alone."""
    return -s.vectors @ (jnp.where(left, 0, s.vectors.T @ gradient) / jnp.where(left, 1, jnp.abs(s.eigenvalues)))


def advance(value_and_grad: Callable, s: State, *, limit: Callable[[Array], Array]) -> State:
    """Look at one place."""
    polishing, testing = s.turn < TEST, s.turn == TEST
    share = jnp.asarray(SHARES)[jnp.minimum(s.turn, len(SHARES) - 1)].astype(s.theta.dtype)
    move = share * _newton_step(s.gradient, s, certificate.flat(s.eigenvalues))
    ahead = -s.gradient / jnp.maximum(jnp.linalg.norm(s.gradient), jnp.finfo(move.dtype).tiny)
    elsewhere = jnp.where(testing, s.theta + SHARP * ahead, _probe(s, jnp.maximum(s.turn - TEST - 1, 0)))
    point = jnp.where(polishing, s.theta + move, elsewhere)
    value, gradient = value_and_grad(point)
    taken = polishing & acceptable(s.value, s.gradient, value, gradient, move @ s.gradient)
    lower = taken | ((s.turn > TEST) & (value < s.lowest))
    bend = SHARP * jnp.sum(s.eigenvalues * (s.vectors.T @ ahead) ** 2)
    jump = ((ahead @ gradient > 0) | (value >= s.value)) & (bend < -ahead @ s.gradient / 2)
    s = s._replace(
        theta=jnp.where(taken, point, s.theta),
        value=jnp.where(taken, value, s.value),
        gradient=jnp.where(taken, gradient, s.gradient),
        place=jnp.where(lower, point, s.place),
        lowest=jnp.where(lower, value, s.lowest),
        last=point,
        slope=gradient,
        kink=s.kink | (testing & jump),
        turn=jnp.where(taken, TEST, s.turn + 1),
    )
    return s._replace(turn=s.turn + ((s.turn == TEST) & _stationary(s, limit)))


def _probe(s: State, number: Array) -> Float[Array, " d"]:
    d, kind = len(s.theta), number % len(PROBES)
    step = jnp.asarray([0 if k is None else k for k in PROBES])[kind]
    along = s.vectors[:, jnp.minimum(number // len(PROBES), d - 1)]
    mixture = jnp.asarray(np.random.default_rng(d).standard_normal((d, d)), s.theta.dtype)
    mixed = jnp.where(weak(s.eigenvalues), mixture[jnp.minimum(number // len(PROBES), d - 1)], 0)
    across = s.vectors @ (mixed / jnp.maximum(jnp.linalg.norm(mixed), jnp.finfo(mixed.dtype).tiny))
    away = jnp.asarray(STEPS, s.theta.dtype)[step] * jnp.where(step < 4, along, across)
    corrected = s.last + _newton_step(s.slope, s, weak(s.eigenvalues))
    return jnp.where(jnp.asarray([k is None for k in PROBES])[kind], corrected, s.theta + away)
