"""The period of each output's series: as long as its pre-activation reaches on one side of 0, and a smooth function of W and b.

Smooth, as the error of a series depends on its period, and minimisers would find every corner: everything that would be a maximum,
a minimum or a positive part is rounded off, always on the side of a longer period.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose._jax.stored import kept
from superpose.expected_loss.groups import Groups, lift
from superpose.expected_loss.low_order import group_moments
from superpose.features import Magnitude, forest

TAIL = 3.0
"""y leaves [-T, T] with probability at most nodes^-TAIL on each side: what that costs is then below what the nodes cost."""
SHORTEST = 1e-6
"""No period is shorter."""
ORDER = 16
"""Of the norm that stands for a maximum."""
ROUNDED = 8
"""Times what is rounded in overlaps, a pre-activation may be negative and still counts as never negative."""
SMOOTH = 0.02
"""The period is a smooth function of the overlaps: corners are rounded off over this share of their size."""


class Period(NamedTuple):
    """`length` T of each output, and whether y is never negative (`on`) or never positive (`off`); shapes `(n, ...)`.

    Then r(y) is y or 0, and no series is needed. So for an ignored feature, whose y = b_i would be an atom.
    """

    length: Array
    on: Array
    off: Array

    @property
    def kink(self) -> Array:
        """1 where y can have both signs, else 0."""
        return (~(self.on | self.off)).astype(self.length.dtype)

    @property
    def side(self) -> Array:
        """1 where y is never negative, -1 where it is never positive, else 0."""
        return self.on.astype(self.length.dtype) - (self.off & ~self.on).astype(self.length.dtype)


def period(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int | Array) -> Period:
    """A period such that y leaves [-T, T] on each side with probability at most `nodes^-TAIL`, or never.

    Bounded laws: Bennett's inequality, `P(Y - EY >= t) <= exp(-v h(D t / v) / D^2)`, `h(x) = (1 + x) ln(1 + x) - x`, with v
    the variance and D the largest excess of one group; h is inverted by Newton steps that stay on the safe side. Exponential
    magnitudes: Bernstein's, `t = D l + sqrt(2 V l)`, V = 2 sum p g^2.
    """
    first, second, _ = group_moments(groups, law, g)
    mean, variance = kept((b + first.sum(0), (second - first**2).sum(0)))
    level = TAIL * jnp.log(jnp.asarray(nodes, b.dtype))
    size = kept(jnp.sqrt((g**2).sum(0) + SHORTEST**2))
    width = SMOOTH * size
    positive, negative = positive_part(g, width[None]), positive_part(-g, width[None])
    if np.isfinite(law.support[1]):
        tops, bottoms = _extremes(groups, law, positive, negative), _extremes(groups, law, negative, positive)
        up, down = (bennett(variance, _largest(x, size), level) for x in (tops - first, bottoms + first))
        ends = kept((tops.sum(0), bottoms.sum(0)))
    else:
        spread = jnp.sqrt(4 * level * (g**2 * lift(groups.density, g)).sum(0) + SHORTEST**2)
        up, down = (_largest(x, size) * level + spread for x in (positive, negative))
        if groups.deep:  # features that are active at once add up: as if all were
            whole = jnp.sqrt(2 * level * (g**2).sum(0) + SHORTEST**2)
            up, down = (x + whole + forest.largest(groups.coupling, y).sum(0) for x, y in ((up, positive), (down, negative)))
        ends = None
    rise, fall = (_extremes(groups, law, jnp.maximum(x, 0), jnp.maximum(-x, 0)).sum(0) for x in (g, -g))
    off = rise <= -b
    rounded = jnp.where(off, 0, ROUNDED * jnp.finfo(b.dtype).eps * size)
    return Period(kept(reach(b, mean, (up, down), ends, width)), fall <= b + rounded, off)


def reach(b: Array, mean: Array, tails: tuple, ends: tuple | None, width: Array) -> Array:
    """A period, from how far y may lie above and below its mean, and b, on each side, smoothly."""
    above, below = mean + tails[0], tails[1] - mean
    if ends is not None:
        above, below = _smaller(b + ends[0], above, width), _smaller(ends[1] - b, below, width)
    return positive_part(below + positive_part(above - below, width), SHORTEST)


def positive_part(x: Array, width: Array | float) -> Array:
    """`max(x, 0)` or at most `width / 2` more, smoothly."""
    return (x + jnp.sqrt(x**2 + width**2)) / 2


def _smaller(x: Array, y: Array, width: Array) -> Array:
    """`min(x, y)` or at most `width / 2` more, smoothly."""
    return x + width / 2 - positive_part(x - y, width)


def _largest(x: Array, size: Array) -> Array:
    """The largest of positive numbers of about this size or a little more, smoothly: their norm of order 16."""
    return norm_from(kept(((x / size[None]) ** ORDER).sum(0)), size)


def norm_from(powers: Array, size: Array) -> Array:
    """From the sum of powers of order 16 of numbers in units of `size`; at least a hundredth of it, for its slopes."""
    return size * (powers + 1e-30) ** (1 / ORDER)


def _extremes(groups: Groups, law: Magnitude, positive: Array, negative: Array) -> Array:
    """The largest part of each group, `(S, ...)`, from the positive and negative parts of overlaps."""
    low, high = law.support
    each = jnp.where(positive > 0, high * positive, 0) - jnp.where(negative > 0, low * negative, 0)
    return each if groups.independent else forest.largest(groups.coupling, each)


def bennett(variance: Array, excess: Array, level: Array) -> Array:
    """T with `variance / excess^2 h(excess t / variance) >= level`, at most slightly larger than need be."""
    excess = jnp.maximum(excess, SHORTEST)
    ratio = jnp.maximum(variance / excess**2, 1e-9)  # or slopes overflow in float32
    target = level / ratio
    x = target / 3 * (1 + jnp.sqrt(1 + 18 / target))  # Bernstein's bound: too large, and h is convex
    for _ in range(3):
        x = x - ((1 + x) * jnp.log1p(x) - x - target) / jnp.log1p(x)
    return x * ratio * excess
