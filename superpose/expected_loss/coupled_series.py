"""The series of `fourier_series` for coupled features: any forest of them.

What is taken out of the product of characteristic functions are the inputs with at most one active feature in at most one group,
as `shares` weighs them. With C the product of the shares, `q_s = (phi_s - c_s) / c_s` and `R_s` the part of active_s with several
features of group s active, the series is left with

    C [prod_s (1 + q_s) - part (1 + sum_s q_s - sum_s R_s / c_s)],

and `E x_i e^{iwy}` likewise. Slopes are those of JAX: coupled models are small. Arrays are (input j or group s, output i, ...).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose._jax.complex_numbers import phase, plus_one, quotient, scaled, times_i_power
from superpose.expected_loss.fourier_series import Walk, closed_part, highest, node_numbers
from superpose.expected_loss.groups import Groups, along, diagonal, diagonal_of, group_sums, lift, product
from superpose.expected_loss.period import Period, period
from superpose.expected_loss.shares import Shares, shares, without_own
from superpose.features import Magnitude, forest
from superpose.features.characteristic import powers


def applies(groups: Groups, law: Magnitude) -> bool:  # noqa: ARG001
    """To all features and laws."""
    return True


def losses(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int) -> Array:
    """Each output's loss, `(n, ...)`."""
    found = walk(groups, law, g, b, nodes)
    terms = jax.lax.scan(found.step, found.start, node_numbers(nodes, g))[1]
    return found.closed + terms.real.sum(0)


def losses_and_slopes(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int) -> tuple[Array, Array, Array]:
    """Each output's loss, `(n, ...)`; its slopes in g_ij, `(j, i, ...)`; and in b_i, `(n, ...)`."""
    value, pull = jax.vjp(partial(losses, groups, law, nodes=nodes), g, b)
    return value, *pull(jnp.ones_like(value))  # an output depends on its own column and bias alone


def walk(groups: Groups, law: Magnitude, g: Array, b: Array, nodes: int | Array) -> Walk:
    """The closed part of each output's loss, and the series' terms."""
    span = period(groups, law, g, b, nodes=nodes)
    taken, theta = shares(groups, law, highest(span, nodes)[None] * g), 2 * np.pi / span.length
    rungs = law.recurrence(theta[None] * g, 0), law.recurrence(theta * diagonal(g), 1), powers(theta * b)

    def step(states: tuple, k: Array) -> tuple[tuple, Array]:
        (first, (psi,)), (second, (_, own)), (third, (turn,)) = (x.step(s, k) for x, s in zip(rungs, states, strict=True))
        return (first, second, third), _term(groups, taken, span, k, psi, own, turn)

    def at(k: Array) -> Array:
        w = k * theta
        (psi,), (_, own) = law.derivatives(w[None] * g, 0), law.derivatives(w * diagonal(g), 1)
        return _term(groups, taken, span, k, psi, own, phase(w * b))

    return Walk(closed_part(groups, law, span, g, b, nodes=nodes), tuple(x.start for x in rungs), step, at)


def _term(groups: Groups, taken: Shares, span: Period, k: Array, psi: Array, dpsi: Array, turn: Array) -> Array:
    """The complex term at node k, whose real part counts, from psi, psi' of the own feature, and `e^{iwb}`."""
    own = times_i_power(dpsi, -1)  # E[u e^{iwug}]
    active, chi = _active(groups, psi, own)
    single = group_sums(groups, scaled(lift(groups.alone, psi), psi))
    q = scaled(1 / taken.c, active + (taken.left - lift(groups.chance, taken.left)))
    several = scaled(1 / taken.c, active - single).sum(0)
    one, rest = product(q)
    counted = rest + scaled(1 - taken.part, plus_one(one)) + scaled(taken.part, several)
    mine = diagonal(q[groups.member])
    without = quotient(one + rest - mine, plus_one(mine))  # prod over other groups of (1 + q), less 1
    left = chi * without + chi - scaled(taken.part * along(groups.alone, taken.part), own)
    T = span.length
    square = scaled(span.kink * T**2 / (2 * (np.pi * k) ** 3) * taken.whole, times_i_power(turn, 1))
    cross = scaled(span.kink * T / (np.pi * k) ** 2 * without_own(groups, taken), turn)
    return square * counted + cross * left


def _active(groups: Groups, psi: Array, own: Array) -> tuple[Array, Array]:
    """The active part of each group, `(S, n, ...)`, and `E[x_i e^{iwY}]`, Y the part of i's own group, `(n, ...)`.

    An active part is linear in each feature's psi, so it has `E[u e^{iwug}]` in its place as its derivative in that direction.
    """
    climb = partial(forest.active_part, groups.coupling, lift(groups.given, psi))
    active, moved = jax.jvp(climb, (psi,), (jnp.where(diagonal_of(psi), own[None], 0),))
    return active, diagonal(moved[groups.member])
