"""Period and closed part of many independent features of one density: what `period` and `few_active` say, from sums over inputs.

Everything that an output needs of its n inputs is a sum over them; the rest is arithmetic on n numbers. Features have magnitudes
in [0, 1]. Arrays are (input j, output i); `w` is the highest frequency.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose._jax.stored import kept
from superpose.expected_loss import shares
from superpose.expected_loss.fourier_series import highest, rest_of
from superpose.expected_loss.low_order import fourth_of_many, low_cost, low_total, moments_of_outputs, own_moments
from superpose.expected_loss.own_feature import NONE, Aside, from_sums
from superpose.expected_loss.period import ORDER, SHORTEST, SMOOTH, TAIL, Period, bennett, norm_from, positive_part, reach
from superpose.expected_loss.shares import cut_of, later, later_slopes, left_of
from superpose.features import Magnitude

SPREAD = 32.0
"""Of the shares: wide enough that Chebyshev terms hold them where they hold psi."""
FADE = 96.0
"""A common multiple of this and of the spread of `shares`, which R and M have."""


class Sums(NamedTuple):
    """Of all overlaps of an output: of g, .., g^4, of the positive ones."""

    first: Array
    square: Array
    cube: Array
    fourth: Array
    rise: Array


def sums(g: Array) -> Sums:
    """Each in a loop of its own, here as below: XLA runs vectors along the outputs, in one loop over several sums it does not."""
    return Sums(*kept([x.sum(0) for x in (g, g**2, g**3, g**4, jnp.maximum(g, 0))]))


def sums_slope(g: Array, factors: Sums) -> Array:
    """The slopes in g_ij of the sums of powers, times factors."""
    first, square, cube, fourth = (x[None] for x in factors[:4])
    return first + g * (2 * square + g * (3 * cube + 4 * fourth * g))


def diagonal(g: Array) -> Array:
    """`g[i, i]`, shape (n,)."""
    return g[np.arange(len(g)), np.arange(len(g))]


def _on_diagonal(g: Array) -> Array:
    """Where j = i, `(n, n)`."""
    return jnp.asarray(np.eye(len(g), dtype=bool))


def without_own(g: Array) -> Array:
    """Overlaps with those of outputs with themselves set to 0."""
    return jnp.where(_on_diagonal(g), 0, g)


def with_own(g: Array, own: Array) -> Array:
    """Overlaps with those of outputs with themselves set to these."""
    return jnp.where(_on_diagonal(g), own[None], g)


class Split(NamedTuple):
    """Each output's overlap with itself, set to 0 where `own_feature` has it; sums with it; and what that says."""

    overlap: Array
    known: Sums
    own: Aside


def split(law: Magnitude, p: Array, overlap: Array, b: Array, others: Sums) -> Split:
    """From the overlap as it is and sums over all other features, so that nothing is subtracted."""
    mean = p * law.moments[0]
    about = mean * others.first, (p * law.moments[1] - mean**2) * others.square, others.rise, others.rise - others.first
    away, own = from_sums(law, jnp.broadcast_to(p, b.shape), overlap, b, about)
    x = jnp.where(away, 0, overlap)
    powers = Sums(x, x**2, x**3, x**4, jnp.maximum(x, 0))
    return Split(x, Sums(*(a + b for a, b in zip(others, powers, strict=True))), own)


class Reach(NamedTuple):
    """What the period asks of overlaps: sums of smooth positive parts, of 16th powers of positive ones, and of negative ones."""

    rise: Array
    above: Array
    below: Array


def size_of(known: Sums) -> Array:
    """Of the overlaps of each output: their norm or a little more."""
    return jnp.sqrt(known.square + SHORTEST**2)


def _powers(g: Array, size: Array, order: int) -> tuple[Array, Array]:
    """Of the positive and of the negative overlaps in units of their size."""
    scaled = g / size[None]
    return jnp.maximum(scaled, 0) ** order, jnp.maximum(-scaled, 0) ** order


def reach_of(g: Array, size: Array) -> tuple[Reach, Reach]:
    """With their slopes in the size, which is the unit of the powers."""
    width = jnp.broadcast_to(SMOOTH * size[None], g.shape)
    rise, by_width = jax.jvp(lambda width: positive_part(g, width), (width,), (jnp.ones_like(g),))
    found = Reach(*kept([x.sum(0) for x in (rise, *_powers(g, size, ORDER))]))
    return found, Reach(SMOOTH * by_width.sum(0), -ORDER * found.above / size, -ORDER * found.below / size)


def reach_slope(g: Array, size: Array, factors: Reach) -> Array:
    """The slopes in g_ij of the sums, times factors."""
    above, below = _powers(g, size, ORDER - 1)
    rise = (1 + g / jnp.sqrt(g**2 + (SMOOTH * size[None]) ** 2)) / 2
    powers = factors.above[None] * above - factors.below[None] * below
    return factors.rise[None] * rise + ORDER * powers / size[None]


def period(law: Magnitude, p: Array, known: Sums, reached: Reach, b: Array, *, nodes: int) -> Period:
    """`period.period`; the largest excess over a feature's mean is of a positive overlap, or of a negative one."""
    mean, size = p * law.moments[0], size_of(known)
    first, variance = mean * known.first, (p * law.moments[1] - mean**2) * known.square
    level = TAIL * jnp.log(jnp.asarray(nodes, b.dtype))
    far, near = (1 - mean) ** ORDER, mean**ORDER
    excesses = far * reached.above + near * reached.below, far * reached.below + near * reached.above
    tails = tuple(bennett(variance, norm_from(x, size), level) for x in excesses)
    length = reach(b, b + first, tails, (reached.rise, reached.rise - known.first), SMOOTH * size)
    return Period(kept(length), known.rise - known.first <= b, known.rise <= -b)


def faded(g: Array, w: Array) -> Array:
    """`e^{-t^2 / 96}`, t = w g: the one exponential of each overlap; shares take its third power, R and M its eighth."""
    return jnp.exp(-((w[None] * g) ** 2) / FADE)


class Single(NamedTuple):
    """`sum_j p / c_j` times `low_cost` of `b + g_j u` over all features but the own one.

    Its slopes in b, w and the weight of cubes.
    """

    value: Array
    by_b: Array
    by_w: Array
    by_cube: Array


def _weights(p: Array, g: Array, w: Array, fade: Array) -> tuple[Array, Array]:
    """`p / c_j`, and 0 for the own feature, `(j, i)`; and its slope in `t = w g_ij`."""
    cut, fallen = cut_of(p, len(g)), fade ** round(FADE / SPREAD)
    weights = jnp.where(_on_diagonal(g), 0, p / (1 - cut * p * (1 - fallen)))
    return weights, weights**2 * (2 / SPREAD * cut) * (w[None] * g) * fallen


def single(law: Magnitude, p: Array, g: Array, b: Array, w: Array, fade: Array, own: Aside = NONE) -> Single:
    """`Single` from all overlaps; cubes cost as much as squares, and mostly no output has them."""
    if own.cube is None:
        return _single(law, p, g, b, w, fade, own)
    return jax.lax.cond(
        jnp.any(own.cross == 0),
        lambda: _single(law, p, g, b, w, fade, own),
        lambda: _single(law, p, g, b, w, fade, NONE),
    )


def _single(law: Magnitude, p: Array, g: Array, b: Array, w: Array, fade: Array, own: Aside) -> Single:
    b = jnp.broadcast_to(b[None], g.shape)
    weights, by_t = _weights(p, g, w, fade)
    cost, by_b = jax.jvp(lambda b: low_cost(law, b, g, own), (b,), (jnp.ones_like(g),))
    cubes = jnp.zeros_like(g) if own.cube is None else law.below_cube(b, g)
    return Single(*kept([x.sum(0) for x in (weights * cost, weights * by_b, by_t * g * cost, weights * cubes)]))


def single_slope(law: Magnitude, p: Array, g: Array, b: Array, w: Array, fade: Array, own: Aside = NONE) -> Array:
    """The slopes of `Single` in g_ij."""
    b = jnp.broadcast_to(b[None], g.shape)
    weights, by_t = _weights(p, g, w, fade)
    cost, by_g = jax.jvp(lambda g: low_cost(law, b, g, own), (g,), (jnp.ones_like(g),))
    return weights * by_g + by_t * w[None] * cost


class Later(NamedTuple):
    """R and M of `shares`, and their slopes in w."""

    count: Array
    drift: Array
    count_by_w: Array
    drift_by_w: Array


def turning_up(law: Magnitude, p: Array, g: Array, w: Array, fade: Array) -> Later:
    """`Later` from all overlaps."""
    t, gauss = w[None] * g, fade ** round(FADE / shares.SPREAD)
    (count, drift), (by_count, by_drift) = later(law, t, gauss), later_slopes(law, t, gauss)
    sums = [p * x.sum(0) for x in (count, drift, g * by_count, g * by_drift)]
    return Later(*kept(sums))


def turning_up_slope(law: Magnitude, p: Array, g: Array, w: Array, fade: Array, factors: tuple[Array, Array]) -> Array:
    """The slopes of R and M in g_ij, times factors."""
    by_count, by_drift = later_slopes(law, w[None] * g, fade ** round(FADE / shares.SPREAD))
    return (p * w)[None] * (factors[0][None] * by_count + factors[1][None] * by_drift)


class Taken(NamedTuple):
    """Of what the shares c take out, sums over inputs: of log c, and of `(1 - c) / c` times 1, g, .., g^4."""

    log: Array
    mass: Array
    first: Array
    square: Array
    cube: Array
    fourth: Array


def taken_by(left: Array, g: Array) -> Taken:
    """The summands, from `left = 1 - c`."""
    ratio = left / (1 - left)
    return Taken(jnp.log1p(-left), ratio, ratio * g, ratio * g**2, ratio * g**3, ratio * g**4)


def closed_part(
    law: Magnitude,
    p: Array,
    span: Period,
    b: Array,
    given: Split,
    taken: Taken,
    alone: Array,
    part: Array,
    *,
    nodes: int,
) -> Array:
    """`fourier_series.closed_part`, from sums."""
    n, mu, known, overlap = len(b), law.moments, given.known, given.overlap
    log = taken.log + jnp.log(part)
    whole, more = jnp.exp(log), -jnp.expm1(log)
    s1, s2, s3, s4 = (m * p * x for m, x in zip(mu, known[:4], strict=True))
    i1, i2, i3, i4 = (m * p * x for m, x in zip(mu, taken[2:], strict=True))
    squares, mixed, cubes = (p * mu[0]) ** 2 * known.square, p**2 * mu[0] * mu[1] * known.cube, (p * mu[0]) ** 3 * known.cube
    y2 = more * s2 - whole * i2 + s1**2 - squares
    y3 = more * s3 - whole * i3 + 3 * (s1 * s2 - mixed) + s1**3 - 3 * s1 * squares + 2 * cubes
    first, second, third = p * mu[0], p * mu[1], p * mu[2]
    pairs = (-4 * third * first - 3 * second**2 + 12 * second * first**2 - 6 * first**4) * known.fourth
    y4 = more * s4 - whole * i4 + fourth_of_many(s1, s2 - squares, s3 - 3 * mixed + 2 * cubes, pairs)
    others = whole / (1 - left_of(p, highest(span, nodes) * overlap, n, SPREAD))
    about_own, own = (first * overlap, second * overlap**2), own_moments(law, p, overlap, b)
    left = tuple(x * (1 - others) for x in own)
    mass, few = more - whole * taken.mass, 1 - n * p + (1 - p) * taken.mass
    counted = mass, more * s1 - whole * i1, y2, y3, y4
    m = moments_of_outputs(own, left, p * (1 - others), b, counted, (s1, s2, squares), about_own)
    low = low_total(law, given.own, b, overlap, whole * few, whole * alone, others * p)
    return given.own.loss + low + rest_of(law, span, m, given.own)
