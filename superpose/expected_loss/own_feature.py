"""An output's own feature in closed form, where the others never outweigh it.

Let `Y = b + sum_{j != i} g_ij x_j` be what the others bring to output i, and `a = g_ii`. While Y stays above -a, integrals over x_i
are elementary whatever Y is, and with `(Y)_- = max(-Y, 0)`

    E (x_i - r(y_i))^2 = p E[(Y + (a - 1) u)^2] + (1 - p) E r(Y)^2 - p c E (Y)_-^3,

with u the magnitude, c = (1 / a + 1 / a^2) / 3 for u ~ U[0, 1] and 0 for u = 1: where u falls short of (Y)_- / a the output is 0.
The first term is moments. The others are expectations over Y alone, whose period is as short as *it* is: so for columns that are
nearly orthogonal, whose loss is thousands of times below the features. `aside` sets such overlaps g_ii to 0, and says with which
weights `E r(Y)^2`, `E x_i r(Y)` and `E (Y)_-^3` enter the loss of each output.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from superpose.expected_loss.groups import Groups, at_own, lift, of_own, own_number
from superpose.features import Magnitude

ABOVE = 0.5
"""Y stays above -a times this."""
LONGEST = 8.0
"""Of c times the reach of Y: what `E (Y)_-^3` asks of the series then is no more than what `E r(Y)^2` does."""


class Aside(NamedTuple):
    """Weights in each output's loss, shapes `(n, ...)`.

    `loss` is the closed part; `square` goes with `E r(Y)^2`; `cross`, 1 or 0, with `E x_i^2 - 2 E x_i r(y)`; `cube` with
    `E (Y)_-^3`, or None where no output has it.
    """

    loss: Array | float
    square: Array | float
    cross: Array | float
    cube: Array | None


NONE = Aside(loss=0.0, square=1.0, cross=1.0, cube=None)
"""Where all overlaps stay as they are."""


def applies(groups: Groups, law: Magnitude) -> bool:
    """Whether outputs are to give features, which are independent, of a law that has the closed form."""
    return groups.targets and groups.independent and law.has_cubes


def aside(groups: Groups, law: Magnitude, g: Array, b: Array) -> tuple[Array, Aside]:
    """Overlaps with those set to 0 that the closed form has, and what comes in their place."""
    if not applies(groups, law):
        return g, NONE
    others, p = jnp.where(at_own(groups, g), 0, g), lift(groups.density, g)
    first, second = p * law.moments[0] * others, p * law.moments[1] * others**2
    rise, fall = (jnp.maximum(x, 0).sum(0) for x in (others, -others))
    about = first.sum(0), (second - first**2).sum(0), rise, fall
    away, found = from_sums(law, own_number(groups, groups.density, b), of_own(groups, g), b, about)
    return jnp.where(at_own(groups, g) & away[None], 0, g), found


def from_sums(
    law: Magnitude, p: Array, own: Array, b: Array, others: tuple[Array, Array, Array, Array]
) -> tuple[Array, Aside]:
    """Which outputs have the closed form, `(n, ...)`, and it, from mean, variance and both ends of what other features bring."""
    mean, variance, rise, fall = others
    mu1, mu2 = law.moments[:2]
    low, longest = fall - b, jnp.maximum(fall - b, rise + b)
    away = (low <= ABOVE * own) & (longest * (1 + own) <= 3 * LONGEST * own**2) & (own > 0)
    a, p, first, variance = (jnp.where(away, x, y) for x, y in ((own, 1), (p, 0), (b + mean, 0), (variance, 0)))
    loss = p * (variance + first**2 + 2 * (a - 1) * mu1 * first + (a - 1) ** 2 * mu2)
    return away, Aside(loss, 1 - p, jnp.where(away, 0, jnp.ones_like(a)), -p * law.own_cube(a))
