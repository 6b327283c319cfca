"""The series of `fourier_series` for coupled features: any forest of them.

What is taken out of the product of characteristic functions are the inputs with at most one active feature in at most one group,
as `shares` weighs them. With C the product of the shares, `q_s = (phi_s - c_s) / c_s` and `R_s` the part of active_s with several
features of group s active, the series is left with

    C [prod_s (1 + q_s) - part (1 + sum_s q_s - sum_s R_s / c_s)],

and `E x_i e^{iwy}` likewise. Arrays are (input j or group s, output i, ...).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose._jax.complex_numbers import masked_quotient, phase, plus_one, scaled, times_i_power
from superpose._jax.stored import kept
from superpose.expected_loss.fourier_series import closed_part, highest, node_numbers
from superpose.expected_loss.groups import Groups, at_own, group_sums, lift, of_own, own_number, product
from superpose.expected_loss.period import Period, period
from superpose.expected_loss.shares import Shares, shares, without_own
from superpose.expected_loss.truncation_error import Walk
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
    """Each output's loss, `(n, ...)`; its slopes in g_ij, `(j, i, ...)`; and in b_i, `(n, ...)`.

    An output depends on its own column of g and bias alone. Each node's slopes are added up as it is passed, and none is stored.
    The period only sets the scale of overlaps and biases in what the series is made from.
    """

    def closed(g: Array, b: Array) -> tuple[tuple[Array, Array], Period]:
        span = period(groups, law, g, b, nodes=nodes)
        return (closed_part(groups, law, span, g, b, nodes=nodes), span.length), span

    (known, T), pull, span = jax.vjp(closed, g, b, has_aux=True)
    held, pull_held = jax.vjp(lambda g, T: _held(groups, shares(groups, law, 2 * np.pi * nodes / T[None] * g)), g, T)
    theta, own_g = 2 * np.pi / T, of_own(groups, g)
    rungs = law.recurrence(theta[None] * g, 1), law.recurrence(theta * own_g, 2), powers(theta * b)

    def step(carry: tuple, k: Array) -> tuple[tuple, None]:
        states, sums = carry
        moved = [x.step(s, k) for x, s in zip(rungs, states, strict=True)]
        (psi, dpsi), (_, own, bend), (turn,) = kept([values for _, values in moved])

        def term(held: Held, T: Array, psi: Array, own: Array, turn: Array) -> Array:
            return _term(groups, held, span._replace(length=T), k, psi, own, turn).real

        value, pull = jax.vjp(term, held, T, psi, own, turn)
        by_held, by_T, by_psi, by_own, by_turn = pull(jnp.ones_like(value))
        slopes = (
            k * (by_psi * dpsi).real,
            k * (by_own * bend).real,
            -k * (by_turn * turn).imag,
        )
        return (tuple(state for state, _ in moved), jax.tree.map(jnp.add, sums, (value, by_held, by_T, slopes))), None

    start = jax.tree.map(jnp.zeros_like, (known, held, T, (g, b, b)))
    (_, sums), _ = jax.lax.scan(step, (tuple(x.start for x in rungs), start), node_numbers(nodes, g))
    value, by_held, by_T, (by_g, by_own, by_turn) = sums
    by_g = theta[None] * (by_g + jnp.where(at_own(groups, g), by_own[None], 0))
    by_b = theta * by_turn
    through_shares, by_T_of_shares = pull_held(by_held)
    length = by_T + by_T_of_shares - ((g * by_g).sum(0) + b * by_b) / T
    of_closed = pull((jnp.ones_like(known), length))
    return known + value, by_g + through_shares + of_closed[0], by_b + of_closed[1]


def walk(groups: Groups, law: Magnitude, g: Array, b: Array, nodes: int | Array) -> Walk:
    """The closed part of each output's loss, and the series' terms."""
    span = period(groups, law, g, b, nodes=nodes)
    held, theta = _held(groups, shares(groups, law, highest(span, nodes)[None] * g)), 2 * np.pi / span.length
    rungs = law.recurrence(theta[None] * g, 0), law.recurrence(theta * of_own(groups, g), 1), powers(theta * b)

    def step(states: tuple, k: Array) -> tuple[tuple, Array]:
        (first, (psi,)), (second, (_, own)), (third, (turn,)) = (x.step(s, k) for x, s in zip(rungs, states, strict=True))
        return (first, second, third), _term(groups, held, span, k, psi, own, turn)

    def at(k: Array) -> Array:
        w = k * theta
        (psi,), (_, own) = law.derivatives(w[None] * g, 0), law.derivatives(w * of_own(groups, g), 1)
        return _term(groups, held, span, k, psi, own, phase(w * b))

    return Walk(closed_part(groups, law, span, g, b, nodes=nodes), tuple(x.start for x in rungs), step, at)


class Held(NamedTuple):
    """What the terms take of the shares.

    `q = gain active + offset`, `(S, n, ...)`; and `(n, ...)` each: the product of all c, that over the groups that feature i is
    not in, and the part that is taken out.
    """

    gain: Array
    offset: Array
    whole: Array
    others: Array
    part: Array


def _held(groups: Groups, taken: Shares) -> Held:
    gain = 1 / taken.c
    offset = gain * (taken.left - lift(groups.chance, gain))
    return Held(gain, offset, taken.whole, without_own(groups, taken), taken.part)


def _term(groups: Groups, held: Held, span: Period, k: Array, psi: Array, dpsi: Array, turn: Array) -> Array:
    """The complex term at node k, whose real part counts, from psi, psi' of the own feature, and `e^{iwb}`."""
    own = times_i_power(dpsi, -1)  # E[u e^{iwug}]
    single = group_sums(groups, scaled(lift(groups.alone, psi), psi))
    alone = scaled(own_number(groups, groups.alone, own), own)
    active, chi = kept(_active(groups, psi, own)) if groups.deep else (single, alone)
    q = jax.lax.complex(held.gain * active.real + held.offset, held.gain * active.imag)
    one, rest = kept(_product(q))
    counted = rest + scaled(1 - held.part, plus_one(one))
    mine = of_own(groups, q[groups.member])
    without = masked_quotient(one + rest - mine, plus_one(mine))  # prod over other groups of (1 + q), less 1
    left = chi * without + chi - scaled(held.part, alone)
    if groups.deep:
        counted = counted + scaled(held.part, scaled(held.gain, active - single).sum(0))
    T = span.length
    square = scaled(span.kink * T**2 / (2 * (np.pi * k) ** 3) * held.whole, times_i_power(turn, 1))
    cross = scaled(span.kink * T / (np.pi * k) ** 2 * held.others, turn)
    return square * counted + cross * left


@jax.custom_jvp
def _product(q: Array) -> tuple[Array, Array]:
    """`product`, whose slope in q_s is the product over all others: cheaper than back through the tree."""
    return product(q)


@_product.defjvp
def _push(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple, tuple]:
    (q,), (dq,) = primals, tangents
    one, rest = _product(q)
    without = masked_quotient((one + rest)[None] - q, plus_one(q))
    return (one, rest), (dq.sum(0), (without * dq).sum(0))


def _active(groups: Groups, psi: Array, own: Array) -> tuple[Array, Array]:
    """The active part of each group, `(S, n, ...)`, and `E[x_i e^{iwY}]`, Y the part of i's own group, `(n, ...)`.

    An active part is linear in each feature's psi, so it has `E[u e^{iwug}]` in its place as its derivative in that direction.
    """
    given = lift(groups.given, psi)
    climb = partial(forest.active_part, groups.coupling, given)
    here = jnp.where(at_own(groups, psi), own[None], 0)
    active, moved = jax.jvp(climb, (scaled(given, psi),), (scaled(given, here),))
    return active, of_own(groups, moved[groups.member])
