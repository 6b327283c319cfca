"""The parts of the population loss that need no series: terms with hardly any set active, and polynomial moments.

With nobody active the law of a pre-activation has an atom, with one active feature a step; both would make a series converge
slowly, so their share of the loss is taken exactly. Also exact: binary features while their states can be listed; few
features with a flat law are in `superpose.box_averages`.

Arrays are (input j or set s, output i, ...), with any further axes; `g[j, i]` is the overlap of input j with output i.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose.ladder import kept
from superpose.magnitudes import Magnitude
from superpose.sets import Sets, lift, own_set, set_sums
from superpose.shares import Shares, without_own


def low_order(sets: Sets, law: Magnitude, taken: Shares, g: Array, b: Array) -> Array:
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
    others = taken.others[sets.number]
    own = jnp.asarray(np.eye(len(b), dtype=bool).reshape(len(b), len(b), *(1,) * (b.ndim - 1)))
    each = law.relu_square(jnp.broadcast_to(b[None], g.shape), g)
    single = (jnp.where(own, 0, others * each) * density).sum(0)
    few, single, alone = kept((few, single, without_own(sets, taken)))
    return square * (taken.whole + few) + single + alone * sets_along(sets.density, b) * law.relu_error(b, diagonal(g))


def sets_along(x: Array, b: Array) -> Array:
    """A number for each feature, `(n,)` or `(n, ...)`, to go along outputs."""
    return x.reshape(x.shape + (1,) * (b.ndim - x.ndim))


def diagonal(g: Array) -> Array:
    """`g[i, i]`, shape (n, ...)."""
    return g[np.arange(len(g)), np.arange(len(g))]


def set_moments(sets: Sets, law: Magnitude, g: Array) -> tuple[Array, Array, Array]:
    """First three moments of each set's part of each pre-activation, `E Y_s^k`; shapes `(S, n, ...)`."""
    mu1, mu2, mu3 = law.moments
    if sets.kind != "together" or sets.alone:
        p = lift(sets.density, g)
        return set_sums(sets, p * mu1 * g), set_sums(sets, p * mu2 * g**2), set_sums(sets, p * mu3 * g**3)
    mean, variance, third = _while_active(law, set_sums(sets, g), set_sums(sets, g**2), set_sums(sets, g**3))
    chance = lift(sets.chance, g)
    return chance * mean, chance * (variance + mean**2), chance * (third + 3 * variance * mean + mean**3)


def _while_active(law: Magnitude, g: Array, square: Array, cube: Array) -> tuple[Array, Array, Array]:
    """Mean, variance and third central moment of `sum_j g_j u_j`, from the sums of g, g^2 and g^3."""
    mu1, mu2, mu3 = law.moments
    return mu1 * g, (mu2 - mu1**2) * square, (mu3 - 3 * mu1 * mu2 + 2 * mu1**3) * cube


class Moments(NamedTuple):
    """Over what the shares leave, of each output, shapes `(n, ...)`.

    `mass`; `E y`, `E y^2`, `E y^3`; `P(i active)`; `E x_i`, `E x_i y`, `E x_i y^2`.
    """

    mass: Array
    first: Array
    second: Array
    third: Array
    active: Array
    own: Array
    own_first: Array
    own_second: Array


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
    known = kept(((mass, y1, y2, y3), (total, second.sum(0), squares), about_own))
    return moments_of_outputs(own, p, b, *known)


def moments_of_outputs(own: tuple, p: Array, b: Array, taken: tuple, totals: tuple, about_own: tuple) -> Moments:
    """Moments from what is known of each output, shapes `(n, ...)`.

    Args:
        own: `E x_i`, `E x_i (b + Y)` and `E x_i (b + Y)^2`, Y the own set's part.
        p: density of each output's feature.
        b: biases.
        taken: mass and moments of Y = y - b over what the shares leave.
        totals: the sums over sets of first moments, of second ones and of squared first ones.
        about_own: first and second moment of each output's own set, and the measure that its share leaves to it.
    """
    (mass, y1, y2, y3), (total, second, squares), (mine, mine_square, q) = taken, totals, about_own
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
    )


def own_moments(law: Magnitude, p: Array, own: Array, b: Array) -> tuple[Array, Array, Array]:
    """`E x_i`, `E x_i (b + Y)` and `E x_i (b + Y)^2`, Y the part of feature i alone, of overlap `own` with itself."""
    mu1, mu2, mu3 = law.moments
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
