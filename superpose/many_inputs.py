"""Period and closed part of many independent features of one density: what `period` and `few_active` say, from sums over inputs.

Everything that an output needs of its n inputs is a sum over them; the rest is arithmetic on n numbers. Features have magnitudes
in [0, 1]. Arrays are (input j, output i); `w` is the highest frequency.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from superpose.few_active import moments_of_outputs, own_moments
from superpose.fourier_series import highest, rest_of
from superpose.ladder import kept
from superpose.magnitudes import Magnitude
from superpose.period import ORDER, SHORTEST, SMOOTH, TAIL, Period, bennett, norm_from, positive_part, reach
from superpose.shares import later, later_slopes, later_weight, left_of


class Sums(NamedTuple):
    """Of all overlaps of an output: of g, of g^2, of g^3, of the positive ones."""

    first: Array
    square: Array
    cube: Array
    rise: Array


def sums(g: Array) -> Sums:
    """Each in a loop of its own, here as below: XLA runs vectors along the outputs, in one loop over several sums it does not."""
    return Sums(*kept([x.sum(0) for x in (g, g**2, g**3, jnp.maximum(g, 0))]))


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
    """`superpose.period.period`; the largest excess over a feature's mean is of a positive overlap, or of a negative one."""
    mean, size = p * law.moments[0], size_of(known)
    first, variance = mean * known.first, (p * law.moments[1] - mean**2) * known.square
    level = TAIL * jnp.log(jnp.asarray(nodes, b.dtype))
    far, near = (1 - mean) ** ORDER, mean**ORDER
    excesses = far * reached.above + near * reached.below, far * reached.below + near * reached.above
    tails = tuple(bennett(variance, norm_from(x, size), level) for x in excesses)
    length = reach(b, b + first, tails, (reached.rise, reached.rise - known.first), SMOOTH * size)
    return Period(kept(length), known.rise - known.first <= b, known.rise <= -b)


class Single(NamedTuple):
    """`sum_j p E r(b + g_j u)^2 / c_j` over all features but the own one; its slopes in b and in w."""

    value: Array
    by_b: Array
    by_w: Array


def _alone(law: Magnitude, p: Array, spread: float, g: Array, b: Array, w: Array) -> Array:
    """The summands of `Single`, `(j, i)`."""
    own = jnp.eye(len(g), dtype=bool)
    return jnp.where(own, 0, p / (1 - left_of(p, w * g, len(g), spread)) * law.relu_square(b, g))


def single(law: Magnitude, p: Array, g: Array, b: Array, w: Array, spread: float) -> Single:
    """`Single` from all overlaps."""
    one, (b, w) = jnp.ones_like(g), (jnp.broadcast_to(x[None], g.shape) for x in (b, w))
    value, by_b = jax.jvp(lambda b: _alone(law, p, spread, g, b, w), (b,), (one,))
    by_w = jax.jvp(lambda w: _alone(law, p, spread, g, b, w), (w,), (one,))[1]
    return Single(*kept([x.sum(0) for x in (value, by_b, by_w)]))


def single_slope(law: Magnitude, p: Array, g: Array, b: Array, w: Array, spread: float) -> Array:
    """The slopes of `Single` in g_ij."""
    b, w = (jnp.broadcast_to(x[None], g.shape) for x in (b, w))
    return jax.jvp(lambda g: _alone(law, p, spread, g, b, w), (g,), (jnp.ones_like(g),))[1]


class Later(NamedTuple):
    """R and M of `superpose.shares`, and their slopes in w."""

    count: Array
    drift: Array
    count_by_w: Array
    drift_by_w: Array


def turning_up(law: Magnitude, p: Array, g: Array, w: Array) -> Later:
    """`Later` from all overlaps: one exponential each, and products."""
    t = w[None] * g
    gauss = kept(later_weight(t))
    (count, drift), (by_count, by_drift) = later(law, t, gauss), later_slopes(law, t, gauss)
    sums = [p * x.sum(0) for x in (count, drift, t * by_count, t * by_drift)]
    return Later(*kept([*sums[:2], *(x / w for x in sums[2:])]))


def turning_up_slope(law: Magnitude, p: Array, g: Array, w: Array, factors: tuple[Array, Array]) -> Array:
    """The slopes of R and M in g_ij, times factors."""
    t = w[None] * g
    by_count, by_drift = later_slopes(law, t, later_weight(t))
    return (p * w)[None] * (factors[0][None] * by_count + factors[1][None] * by_drift)


class Taken(NamedTuple):
    """Of what the shares c take out, sums over inputs: of log c, and of `(1 - c) / c` times 1, g, g^2, g^3."""

    log: Array
    mass: Array
    first: Array
    square: Array
    cube: Array


def taken_by(left: Array, g: Array) -> Taken:
    """The summands, from `left = 1 - c`."""
    ratio = left / (1 - left)
    return Taken(jnp.log1p(-left), ratio, ratio * g, ratio * g**2, ratio * g**3)


def closed_part(
    law: Magnitude,
    p: Array,
    span: Period,
    b: Array,
    own: Array,
    known: Sums,
    taken: Taken,
    alone: Array,
    part: Array,
    *,
    nodes: int,
    spread: float,
) -> Array:
    """`superpose.fourier_series.closed_part`, from sums; `own` are each output's overlaps with itself."""
    n, (mu1, mu2, mu3) = len(b), law.moments
    log = taken.log + jnp.log(part)
    whole, more = jnp.exp(log), -jnp.expm1(log)
    (s1, s2, s3), (i1, i2, i3) = ((mu1 * p * x[0], mu2 * p * x[1], mu3 * p * x[2]) for x in (known[:3], taken[2:]))
    squares, mixed, cubes = (p * mu1) ** 2 * known.square, p**2 * mu1 * mu2 * known.cube, (p * mu1) ** 3 * known.cube
    y2 = more * s2 - whole * i2 + s1**2 - squares
    y3 = more * s3 - whole * i3 + 3 * (s1 * s2 - mixed) + s1**3 - 3 * s1 * squares + 2 * cubes
    others = whole / (1 - left_of(p, highest(span, nodes) * own, n, spread))
    about_own = p * mu1 * own, p * mu2 * own**2, 1 - others
    mass, few = more - whole * taken.mass, 1 - n * p + (1 - p) * taken.mass
    m = moments_of_outputs(
        own_moments(law, p, own, b), p, b, (mass, more * s1 - whole * i1, y2, y3), (s1, s2, squares), about_own
    )
    low = jnp.maximum(b, 0) ** 2 * whole * few + whole * alone + others * p * law.relu_error(b, own)
    return low + rest_of(law, span, m)
