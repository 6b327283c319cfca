"""The parts of the population loss that need no series: terms with hardly any set active, and polynomial moments.

With nobody active the law of a pre-activation has an atom, with one active feature a step; both would make a series converge
slowly, so their share of the loss is taken exactly. Also exact: binary features while their states can be listed; few
features with a flat law are in `box_quadrature`.

Arrays are (input j or set s, output i, ...), with any further axes; `g[j, i]` is the overlap of input j with output i.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from superpose._jax.stored import kept
from superpose.expected_loss.own_feature import NONE, Aside, applies, diagonal, diagonal_of
from superpose.expected_loss.sets import Sets, lift, own_set, set_sums, sets_along
from superpose.expected_loss.shares import Shares, without_own
from superpose.features import Magnitude


def low_order(sets: Sets, law: Magnitude, taken: Shares, g: Array, b: Array, own: Aside = NONE) -> Array:
    """Each output's loss over what the shares take out; shape `(n, ...)`.

    Of `E r(y)^2`, with C = prod_s c_s and O_s that product without set s:
    `r(b)^2 [C + sum_s O_s (P(s idle) - c_s)] + sum_j O_s(j) p_j E r(b + g_j u)^2`; and of `E x_i^2 - 2 E x_i r(y)` the term with
    feature i alone, `O_s(i) p_i E[u^2 - 2 u r(b + g_i u)]`. With features that come together, `C r(b)^2` only.
    """
    square = jnp.maximum(b, 0) ** 2
    if sets.removed == 0:
        return taken.whole * square
    chance, density = lift(sets.chance, g), lift(sets.density, g)
    few = (taken.others * (taken.left - chance)).sum(0)
    weights = taken.others[sets.number] * density
    each = weights * low_cost(law, jnp.broadcast_to(b[None], g.shape), g, own)
    single = jnp.where(diagonal_of(g), 0, each).sum(0)
    few, single, alone = kept((few, single, without_own(sets, taken)))
    return low_total(law, own, b, diagonal(g), taken.whole + few, single, alone * sets_along(sets.density, b))


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


def set_moments(sets: Sets, law: Magnitude, g: Array) -> tuple[Array, Array, Array]:
    """First three moments of each set's part of each pre-activation, `E Y_s^k`; shapes `(S, n, ...)`."""
    mu1, mu2, mu3, _ = law.moments
    if sets.kind != "together" or sets.alone:
        p = lift(sets.density, g)
        return set_sums(sets, p * mu1 * g), set_sums(sets, p * mu2 * g**2), set_sums(sets, p * mu3 * g**3)
    mean, variance, third = _while_active(law, set_sums(sets, g), set_sums(sets, g**2), set_sums(sets, g**3))
    chance = lift(sets.chance, g)
    return chance * mean, chance * (variance + mean**2), chance * (third + 3 * variance * mean + mean**3)


def _while_active(law: Magnitude, g: Array, square: Array, cube: Array) -> tuple[Array, Array, Array]:
    """Mean, variance and third central moment of `sum_j g_j u_j`, from the sums of g, g^2 and g^3."""
    mu1, mu2, mu3, _ = law.moments
    return mu1 * g, (mu2 - mu1**2) * square, (mu3 - 3 * mu1 * mu2 + 2 * mu1**3) * cube


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


def moments(sets: Sets, law: Magnitude, taken: Shares, g: Array, b: Array) -> Moments:
    """Moments of `y_i = b_i + sum_j g_ji x_j` over what the shares leave: a measure, of mass below 1 and not always positive."""
    first, second, third = set_moments(sets, law, g)
    out = 1 - taken.others if sets.removed else jnp.ones_like(taken.others)
    mass = -jnp.expm1(taken.log)
    if sets.removed:
        mass = mass - (taken.others * taken.left).sum(0)
    total, squares = first.sum(0), (first**2).sum(0)
    y1 = (first * out).sum(0)
    y2 = (second * out).sum(0) + total**2 - squares
    y3 = (third * out).sum(0) + 3 * (total * second.sum(0) - (first * second).sum(0))
    y3 = y3 + total**3 - 3 * total * squares + 2 * (first**3).sum(0)
    about_own = own_set(sets, first), own_set(sets, second), own_set(sets, out)
    own, p = _own_moments(sets, law, g, b), sets_along(sets.density, b)
    y4 = None
    if applies(sets, law):
        fourth = law.moments[3] * lift(sets.density, g) * g**4
        pairs = (-4 * third * first - 3 * second**2 + 12 * second * first**2 - 6 * first**4).sum(0)
        cumulants = second.sum(0) - squares, (third - 3 * second * first + 2 * first**3).sum(0)
        y4 = (fourth * out).sum(0) + fourth_of_many(total, *cumulants, pairs)
    known = kept(((mass, y1, y2, y3, y4), (total, second.sum(0), squares), about_own))
    return moments_of_outputs(own, p, b, *known)


def fourth_of_many(mean: Array, variance: Array, third: Array, pairs: Array) -> Array:
    """`E Y^4` less the fourth moments of its terms, from cumulants of Y; `pairs` is the fourth one, less the same."""
    return pairs + 4 * third * mean + 3 * variance**2 + 6 * variance * mean**2 + mean**4


def moments_of_outputs(own: tuple, p: Array, b: Array, taken: tuple, totals: tuple, about_own: tuple) -> Moments:
    """Moments from what is known of each output, shapes `(n, ...)`.

    Args:
        own: `E x_i`, `E x_i (b + Y)` and `E x_i (b + Y)^2`, Y the own set's part.
        p: density of each output's feature.
        b: biases.
        taken: mass and four moments of Y = y - b over what the shares leave, the fourth or None.
        totals: the sums over sets of first moments, of second ones and of squared first ones.
        about_own: first and second moment of each output's own set, and the measure that its share leaves to it.
    """
    (mass, y1, y2, y3, y4), (total, second, squares), (mine, mine_square, q) = taken, totals, about_own
    outside = total - mine
    outside_square = second - mine_square + outside**2 - (squares - mine**2)
    x, xy, xyy = own
    return Moments(
        mass=mass,
        first=b * mass + y1,
        second=b**2 * mass + 2 * b * y1 + y2,
        third=b**3 * mass + 3 * b**2 * y1 + 3 * b * y2 + y3,
        active=p * q,
        own=x * q,
        own_first=xy * q + x * outside,
        own_second=xyy * q + 2 * xy * outside + x * outside_square,
        fourth=None if y4 is None else b**4 * mass + 4 * b**3 * y1 + 6 * b**2 * y2 + 4 * b * y3 + y4,
    )


def own_moments(law: Magnitude, p: Array, own: Array, b: Array) -> tuple[Array, Array, Array]:
    """`E x_i`, `E x_i (b + Y)` and `E x_i (b + Y)^2`, Y the part of feature i alone, of overlap `own` with itself."""
    mu1, mu2, mu3, _ = law.moments
    return p * mu1, p * (b * mu1 + own * mu2), p * (b**2 * mu1 + 2 * b * own * mu2 + own**2 * mu3)


def _own_moments(sets: Sets, law: Magnitude, g: Array, b: Array) -> tuple[Array, Array, Array]:
    """The same, Y the own set's part, which is active with feature i."""
    p, own = sets_along(sets.density, b), diagonal(g)
    x, linear, quadratic = own_moments(law, p, own, b)
    if sets.kind == "together" and not sets.alone:
        total, squares = (own_set(sets, set_sums(sets, g**k)) - own**k for k in (1, 2))
        mean, variance, _ = _while_active(law, total, squares, squares)
        quadratic = quadratic + 2 * linear * mean + x * (variance + mean**2)
        linear = linear + x * mean
    return x, linear, quadratic
