"""The parts of the population loss that need no series: terms with hardly any feature active, and polynomial moments.

With nobody active the law of a pre-activation has an atom, with one active feature a step; both would make a series converge
slowly, so their share of the loss is taken exactly. Also exact: binary features while their states can be listed; few
features with a flat law are in `box_quadrature`.

Arrays are (input j or group s, output i, ...), with any further axes; `g[j, i]` is the overlap of input j with output i.
"""

from functools import partial
from math import comb
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose._jax.stored import kept
from superpose.expected_loss.groups import Groups, at_own, group_sums, lift, of_own, of_own_group, own_number
from superpose.expected_loss.own_feature import NONE, Aside, applies
from superpose.expected_loss.shares import Shares, without_own
from superpose.features import Magnitude, forest


def low_order(groups: Groups, law: Magnitude, taken: Shares, g: Array, b: Array, own: Aside = NONE) -> Array:
    """Each output's loss over what the shares take out; shape `(n, ...)`.

    Of `E r(y)^2`, with C = prod_s c_s, O_s that product without group s, and a_j the probability that j is the only active feature
    of its group: `r(b)^2 [C + sum_s O_s (P(s idle) - c_s)] + sum_j O_s(j) a_j E r(b + g_j u)^2`; and of `E x_i^2 - 2 E x_i r(y)`
    the term with feature i alone, `O_s(i) a_i E[u^2 - 2 u r(b + g_i u)]`.
    """
    few = (taken.others * (taken.left - lift(groups.chance, g))).sum(0)
    weights = taken.others[groups.member] * lift(groups.alone, g)
    each = weights * low_cost(law, jnp.broadcast_to(b[None], g.shape), g, own)
    single = jnp.where(at_own(groups, g), 0, each).sum(0)
    few, single, alone = kept((few, single, without_own(groups, taken)))
    return low_total(law, own, b, of_own(groups, g), taken.whole + few, single, alone * own_number(groups, groups.alone, b))


def low_cost(law: Magnitude, b: Array, g: Array, own: Aside) -> Array:
    """`E r(y)^2` and `E (y)_-^3` of `y = b + g u` in an output's loss, element by element."""
    if own.cube is None:
        return law.relu_square(b, g)
    square, cube = (jnp.broadcast_to(x, b.shape) for x in (own.square, own.cube))
    return square * law.relu_square(b, g) + cube * law.below_cube(b, g)


def low_total(law: Magnitude, own: Aside, b: Array, overlap: Array, none: Array, single: Array, alone: Array) -> Array:
    """`low_order` from the measure left to y = b, the sum over other features, and the measure of the own one, of this overlap."""
    idle = low_cost(law, b, jnp.zeros_like(b), own)
    if own.cube is None:
        return none * idle + single + alone * law.relu_error(b, overlap)
    return none * idle + single + alone * jnp.where(own.cross > 0, law.relu_error(b, overlap), idle)


def group_moments(groups: Groups, law: Magnitude, g: Array) -> tuple[Array, Array, Array]:
    """First three moments of each group's part of each pre-activation, `E Y_s^k`; shapes `(S, n, ...)`."""
    if groups.independent:
        first, second, third = (lift(groups.density, g) * mu * g**k for k, mu in enumerate(law.moments[:3], 1))
        return first, second, third
    found = _climbed(groups, g, _powers(law, g))
    return found[:, 1], found[:, 2], found[:, 3]


def _powers(law: Magnitude, g: Array) -> Array:
    """`E (g u)^k`, k = 0 .. 3, on an axis behind the first."""
    return jnp.stack([jnp.ones_like(g), *(mu * g**k for k, mu in enumerate(law.moments[:3], 1))], axis=1)


def _climbed(groups: Groups, g: Array, powers: Array) -> Array:
    """Moments of each group while it is active, times the probability of that, `(S, 4, n, ...)`, from those of each feature."""
    one = jnp.asarray(np.eye(4)[0].reshape(1, -1, *(1,) * (g.ndim - 1)), g.dtype)
    given = lift(groups.given, powers)
    return forest.active_part(groups.coupling, given, given * powers, one=one, times=_times)


def _times(a: Array, b: Array) -> Array:
    """Moments of a sum of independent terms from theirs, on the second axis."""
    powers = [sum(comb(k, j) * a[:, j] * b[:, k - j] for j in range(1, k + 1)) + a[:, 0] * b[:, k] for k in range(4)]
    return jnp.stack(powers, axis=1)


class Moments(NamedTuple):
    """Over what the shares leave, of each output, shapes `(n, ...)`.

    `mass`; `E y`, `E y^2`, `E y^3`; `P(i active)`; `E x_i`, `E x_i y`, `E x_i y^2`; of independent features `E y^4`.
    """

    mass: Array
    first: Array
    second: Array
    third: Array
    active: Array
    own: Array
    own_first: Array
    own_second: Array
    fourth: Array | None


def moments(groups: Groups, law: Magnitude, taken: Shares, g: Array, b: Array) -> Moments:
    """Moments of `y_i = b_i + sum_j g_ji x_j` over what the shares leave: a measure, of mass below 1 and not always positive."""
    first, second, third = group_moments(groups, law, g)
    mass = -jnp.expm1(taken.log) - (taken.others * _most(groups, taken)).sum(0)
    y1, y2, y3 = (x.sum(0) for x in _left(groups, law, taken, g, (first, second, third)))
    total, squares = first.sum(0), (first**2).sum(0)
    y2 = y2 + total**2 - squares
    y3 = y3 + 3 * (total * second.sum(0) - (first * second).sum(0)) + total**3 - 3 * total * squares + 2 * (first**3).sum(0)
    y4 = None
    if applies(groups, law):
        fourth = law.moments[3] * lift(groups.density, g) * g**4
        pairs = (-4 * third * first - 3 * second**2 + 12 * second * first**2 - 6 * first**4).sum(0)
        cumulants = second.sum(0) - squares, (third - 3 * second * first + 2 * first**3).sum(0)
        y4 = (fourth * (1 - taken.others)).sum(0) + fourth_of_many(total, *cumulants, pairs)
    mine = of_own_group(groups, first), of_own_group(groups, second)
    known = kept(((mass, y1, y2, y3, y4), (total, second.sum(0), squares), mine))
    own, p, removed = _own_moments(groups, law, g, b), own_number(groups, groups.density, b), without_own(groups, taken)
    if groups.independent:
        active, own_left = p * (1 - removed), tuple(x * (1 - removed) for x in own)
    else:
        single = own_number(groups, groups.alone, b) * removed
        active = p - single
        own_left = tuple(x - y for x, y in zip(own, own_moments(law, single, of_own(groups, g), b), strict=True))
    return moments_of_outputs(own, own_left, active, b, *known)


def _most(groups: Groups, taken: Shares) -> Array:
    """1 - c_s less the probability that several features of group s are active: those are not taken out."""
    if groups.independent:
        return taken.left
    return taken.left - lift(groups.chance - group_sums(groups, groups.alone), taken.left)


def _left(groups: Groups, law: Magnitude, taken: Shares, g: Array, moments: tuple[Array, ...]) -> list[Array]:
    """What is left of the moments of each group: without those of single features, where other groups are at their shares."""
    if groups.independent:
        return [x * (1 - taken.others) for x in moments]
    single = lift(groups.alone, g)
    taken_out = [group_sums(groups, single * mu * g**k) for k, mu in enumerate(law.moments[:3], 1)]
    return [x - taken.others * y for x, y in zip(moments, taken_out, strict=True)]


def fourth_of_many(mean: Array, variance: Array, third: Array, pairs: Array) -> Array:
    """`E Y^4` less the fourth moments of its terms, from cumulants of Y; `pairs` is the fourth one, less the same."""
    return pairs + 4 * third * mean + 3 * variance**2 + 6 * variance * mean**2 + mean**4


def moments_of_outputs(
    own: tuple, left: tuple, active: Array, b: Array, taken: tuple, totals: tuple, about_own: tuple
) -> Moments:
    """Moments from what is known of each output, shapes `(n, ...)`.

    Args:
        own: `E x_i`, `E x_i (b + Y)` and `E x_i (b + Y)^2`, Y the own group's part.
        left: the same over what the shares leave of it.
        active: `P(i active)` over what they leave.
        b: biases.
        taken: mass and four moments of Y = y - b over what the shares leave, the fourth or None.
        totals: the sums over groups of first moments, of second ones and of squared first ones.
        about_own: first and second moment of each output's own group.
    """
    (mass, y1, y2, y3, y4), (total, second, squares), (mine, mine_square) = taken, totals, about_own
    outside = total - mine
    outside_square = second - mine_square + outside**2 - (squares - mine**2)
    (x, xy, _), (x_left, xy_left, xyy_left) = own, left
    return Moments(
        mass=mass,
        first=b * mass + y1,
        second=b**2 * mass + 2 * b * y1 + y2,
        third=b**3 * mass + 3 * b**2 * y1 + 3 * b * y2 + y3,
        active=active,
        own=x_left,
        own_first=xy_left + x * outside,
        own_second=xyy_left + 2 * xy * outside + x * outside_square,
        fourth=None if y4 is None else b**4 * mass + 4 * b**3 * y1 + 6 * b**2 * y2 + 4 * b * y3 + y4,
    )


def own_moments(law: Magnitude, p: Array, own: Array, b: Array) -> tuple[Array, Array, Array]:
    """`E x_i`, `E x_i (b + Y)` and `E x_i (b + Y)^2`, Y the part of feature i alone, of overlap `own` with itself."""
    mu1, mu2, mu3, _ = law.moments
    return p * mu1, p * (b * mu1 + own * mu2), p * (b**2 * mu1 + 2 * b * own * mu2 + own**2 * mu3)


def _own_moments(groups: Groups, law: Magnitude, g: Array, b: Array) -> tuple[Array, Array, Array]:
    """The same, Y the own group's part: slopes of what `group_moments` climbs, which is linear in each feature's own moments."""
    if groups.independent:
        return own_moments(law, own_number(groups, groups.density, b), of_own(groups, g), b)
    weighed = jnp.stack([mu * g**k for k, mu in enumerate(law.moments)], axis=1)  # E u (g u)^k
    here = jnp.where(at_own(groups, g)[:, None], weighed, 0)
    _, found = jax.jvp(partial(_climbed, groups, g), (_powers(law, g),), (here,))
    x, xy, xyy = (of_own_group(groups, found[:, k]) for k in range(3))
    return x, b * x + xy, b**2 * x + 2 * b * xy + xyy
