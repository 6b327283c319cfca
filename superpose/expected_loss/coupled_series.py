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

from superpose._jax.complex_numbers import phase, plus_one, quotient, scaled, times_i_power
from superpose._jax.stored import kept
from superpose.expected_loss.fourier_series import apart, closed_part, highest, node_numbers
from superpose.expected_loss.groups import (
    Groups,
    at_own,
    group_sums,
    lift,
    of_own,
    of_own_group,
    own_number,
    own_rows,
    product,
)
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
        (psi, dpsi), *small = [values for _, values in moved]
        (_, own, bend), (turn,) = kept(small)
        term, by_held, by_T, by_psi, by_own = _term_and_slopes(groups, held, span, k, psi, own, turn)
        slopes = k * (by_psi * dpsi).real, k * (by_own * bend).real, -k * term.imag
        return (tuple(state for state, _ in moved), jax.tree.map(jnp.add, sums, (term.real, by_held, by_T, slopes))), None

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


class Node(NamedTuple):
    """What a node takes from psi.

    Of each group, `(S, n, ...)`: `active`, its active part; `single`, the part of that with one active feature; `q`. Of each
    output, `(n, ...)`: `chi`, `E[x_i e^{iwY}]`, Y the part of i's own group; `alone`, the part of that with i alone; `one`, sum q;
    `every`, prod (1 + q) less 1; `without`, the same over the groups that feature i is not in.
    """

    active: Array
    single: Array
    q: Array
    chi: Array
    alone: Array
    one: Array
    every: Array
    without: Array


def _node(groups: Groups, held: Held, psi: Array, own: Array, active: Array | None, chi: Array | None) -> tuple[Node, Array]:
    """And the rest of prod (1 + q). `own` is `E[u e^{iwug}]` of the own feature; flat groups need no active part and no chi."""
    single = group_sums(groups, scaled(lift(groups.alone, psi), psi))
    alone = scaled(own_number(groups, groups.alone, own), own)
    active, chi = single if active is None else active, alone if chi is None else chi
    q = jax.lax.complex(held.gain * active.real + held.offset, held.gain * active.imag)
    one, rest = kept(product(q))
    mine = of_own_group(groups, q)
    without = quotient(one + rest - mine, plus_one(mine))
    return Node(active, single, q, chi, alone, one, one + rest, without), rest


def _factors(span: Period, k: Array, turn: Array) -> tuple[Array, Array]:
    """What multiplies the expectations of `r(y)^2` and of `x_i r(y)`."""
    T = span.length
    square = scaled(span.kink * T**2 / (2 * (np.pi * k) ** 3), times_i_power(turn, 1))
    return square, scaled(span.kink * T / (np.pi * k) ** 2, turn)


def _counted(groups: Groups, held: Held, at: Node, rest: Array) -> tuple[Array, Array]:
    """What is left of both expectations by what is taken out, over the products of shares."""
    counted = rest + scaled(1 - held.part, plus_one(at.one))
    if groups.deep:
        counted = counted + scaled(held.part, scaled(held.gain, at.active - at.single).sum(0))
    return counted, at.chi * at.without + at.chi - scaled(held.part, at.alone)


def _term(groups: Groups, held: Held, span: Period, k: Array, psi: Array, dpsi: Array, turn: Array) -> Array:
    """The complex term at node k, whose real part counts, from psi, psi' of the own feature, and `e^{iwb}`."""
    own = times_i_power(dpsi, -1)
    at, rest = _node(groups, held, psi, own, *(_active(groups, psi, own) if groups.deep else (None, None)))
    counted, left = _counted(groups, held, at, rest)
    square, cross = _factors(span, k, turn)
    return scaled(held.whole, square * counted) + scaled(held.others, cross * left)


def _term_and_slopes(
    groups: Groups, held: Held, span: Period, k: Array, psi: Array, dpsi: Array, turn: Array
) -> tuple[Array, Held, Array, Array, Array]:
    """The term, and slopes of its real part: in what is held, in T, in psi and in psi' of the own feature.

    The last two are complex: the real part of their product with a change counts.
    """
    own, given = times_i_power(dpsi, -1), lift(groups.given, psi)
    active, chi, climbed = None, None, None
    if groups.deep:
        active, chi, climbed = _climbed(groups, given, psi, own)
    at, rest = kept(_node(groups, held, psi, own, active, chi))
    counted, left = _counted(groups, held, at, rest)
    square, cross = _factors(span, k, turn)
    by_whole, by_others = square * counted, cross * left
    square, cross = scaled(held.whole, square), scaled(held.others, cross)
    crossed = cross * plus_one(at.without)  # the slope in chi
    elsewhere = jnp.asarray(_other_groups(groups, psi), held.gain.dtype)
    pulled, crossed, square = kept((at.chi * crossed, crossed, square))
    by_q = square[None] * apart(at.every[None], at.q, held.part[None]) + scaled(elsewhere, pulled[None])
    by_q = quotient(by_q, plus_one(at.q))
    by_gain, by_part = (by_q * at.active).real, square * plus_one(at.one) + cross * at.alone
    by_active, by_own = scaled(held.gain, by_q), crossed * own_number(groups, groups.given, at.chi)
    by_psi = scaled(given, _of_members(groups, by_active))
    if climbed is not None:
        brought, turned = climbed
        more, taken_out = at.active - at.single, scaled(held.part, square)
        by_gain = by_gain + (taken_out[None] * more).real
        by_part = by_part - square * scaled(held.gain, more).sum(0)
        lost = scaled(given, brought) - lift(groups.alone, psi)
        by_psi = by_psi * brought + scaled(given, crossed[None] * turned)
        by_psi = by_psi + _of_members(groups, scaled(held.gain, taken_out[None])) * lost
        by_own = by_own * of_own(groups, brought)
    by_own = by_own - scaled(held.part * own_number(groups, groups.alone, at.alone), cross)
    term = scaled(held.whole, by_whole) + scaled(held.others, by_others)
    by_T = (term.real + held.whole * by_whole.real) / span.length
    by_held = Held(by_gain, by_q.real, by_whole.real, by_others.real, -by_part.real)
    return term, by_held, by_T, by_psi, times_i_power(by_own, -1)


def _climbed(groups: Groups, given: Array, psi: Array, own: Array) -> tuple[Array, Array, tuple[Array, Array]]:
    """As `_active`; and the slopes of each feature's active part, and of chi, in `given psi`, `(n, n, ...)` each."""
    climb = partial(forest.active_part_and_slopes, groups.coupling, given)
    here = jnp.where(at_own(groups, psi), scaled(given, own[None]), 0)
    (active, brought), (moved, turned) = kept(jax.jvp(climb, (scaled(given, psi),), (here,)))
    return active, of_own_group(groups, moved), (brought, turned)


def _of_members(groups: Groups, x: Array) -> Array:
    """A number for each group, `(S, ...)`, as one for each of its features."""
    return x if groups.independent else forest.rows(x, groups.member)


def _other_groups(groups: Groups, like: Array) -> np.ndarray:
    """1 for all groups but an output's own, `(S, n, 1...)`."""
    sets = np.array(groups.coupling.sets)
    found = np.arange(len(groups.chance))[:, None] != sets[own_rows(groups, like.shape[1])][None]
    return found.reshape(*found.shape, *(1,) * (like.ndim - 2))


def _active(groups: Groups, psi: Array, own: Array) -> tuple[Array, Array]:
    """The active part of each group, `(S, n, ...)`, and `E[x_i e^{iwY}]`, Y the part of i's own group, `(n, ...)`.

    An active part is linear in each feature's psi, so it has `E[u e^{iwug}]` in its place as its derivative in that direction.
    """
    given = lift(groups.given, psi)
    climb = partial(forest.active_part, groups.coupling, given)
    here = jnp.where(at_own(groups, psi), own[None], 0)
    active, moved = kept(jax.jvp(climb, (scaled(given, psi),), (scaled(given, here),)))
    return active, of_own_group(groups, moved)
