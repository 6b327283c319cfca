"""Period and closed part of many independent features with a bounded law: what `period` and `few_active` say, in few passes.

Everything that an output needs of its n inputs is a sum over them; the rest is arithmetic on n numbers, kept apart lest XLA repeat
it for each input. Arrays are (input j, output i).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from superpose.column_sums import sums_of
from superpose.few_active import diagonal, moments_of_outputs, own_moments
from superpose.fourier_series import highest, rest_of
from superpose.ladder import kept
from superpose.magnitudes import Magnitude
from superpose.period import ORDER, SHORTEST, SMOOTH, TAIL, Period, bennett, norm_from, positive_part, reach
from superpose.sets import Sets
from superpose.shares import left_of


class Known(NamedTuple):
    """What is known of each output before its series: the closed part of the loss, the period's length, `log prod c`."""

    closed: Array
    length: Array
    log: Array


def known(sets: Sets, law: Magnitude, g: Array, b: Array, *, nodes: int, spread: float) -> tuple[Known, Period]:
    """`superpose.fourier_series.closed_part` with its period and shares."""
    span = _period(sets, law, g, b, nodes=nodes)
    closed, log = _closed_part(sets, law, span, g, b, nodes=nodes, spread=spread)
    return Known(closed, span.length, log), span


def _period(sets: Sets, law: Magnitude, g: Array, b: Array, *, nodes: int) -> Period:
    """`superpose.period.period`."""
    (low, high), mu1, density = law.support, law.moments[0], sets.density[:, None]

    def powers(g: Array, p: Array) -> list[Array]:
        rise, fall = jnp.maximum(g, 0), jnp.maximum(-g, 0)
        ends = [high * rise - low * fall, high * fall - low * rise]
        return [p * mu1 * g, p * law.moments[1] * g**2 - (p * mu1 * g) ** 2, g**2, *ends]

    def reached(g: Array, p: Array, size: Array) -> list[Array]:
        rise = positive_part(g, SMOOTH * size)
        fall = rise - g
        top, bottom = high * rise - low * fall, high * fall - low * rise
        return [top, bottom, ((top - p * mu1 * g) / size) ** ORDER, ((bottom + p * mu1 * g) / size) ** ORDER]

    first, variance, square, rise, fall = kept(sums_of(powers(g, density)))
    size = kept(jnp.sqrt(square + SHORTEST**2))
    top, bottom, *excess = kept(sums_of(reached(g, density, size[None])))
    level = TAIL * jnp.log(jnp.asarray(nodes, b.dtype))
    tails = tuple(bennett(variance, norm_from(x, size), level) for x in excess)
    length = reach(b, b + first, tails, (top, bottom), SMOOTH * size)
    return Period(kept(length), fall <= b, rise <= -b)


def _closed_part(
    sets: Sets, law: Magnitude, span: Period, g: Array, b: Array, *, nodes: int, spread: float
) -> tuple[Array, Array]:
    """`superpose.fourier_series.closed_part` and `log prod c`."""
    n, (mu1, mu2, mu3) = len(g), law.moments

    def summands(g: Array, inputs: tuple, b: Array, w: Array) -> list[Array]:
        p, own = inputs
        left = left_of(p, w * g, n, spread)
        first, second, third, inverse = p * mu1 * g, p * mu2 * g**2, p * mu3 * g**3, 1 / (1 - left)
        single = jnp.where(own, 0, p * inverse * law.relu_square(jnp.broadcast_to(b, g.shape), g))
        taken = [jnp.log1p(-left), left * inverse, p * inverse, single]
        return [
            *taken,
            first,
            second,
            third,
            first * inverse,
            second * inverse,
            third * inverse,
            first**2,
            first * second,
            first**3,
        ]

    w = kept(highest(span, nodes))
    sums = kept(sums_of(summands(g, (sets.density[:, None], jnp.eye(n, dtype=bool)), b[None], w[None])))
    log, lost, held, single, s1, s2, s3, i1, i2, i3, squares, mixed, cubes = sums
    whole, p, mine = jnp.exp(log), sets.density, diagonal(g)
    mass = -jnp.expm1(log) - whole * lost
    y = s1 - whole * i1, s2 - whole * i2 + s1**2 - squares
    y3 = s3 - whole * i3 + 3 * (s1 * s2 - mixed) + s1**3 - 3 * s1 * squares + 2 * cubes
    others = whole / (1 - left_of(p, w * mine, n, spread))
    about_own = p * mu1 * mine, p * mu2 * mine**2, 1 - others
    m = moments_of_outputs(own_moments(law, p, mine, b), p, b, (mass, *y, y3), (s1, s2, squares), about_own)
    low = jnp.maximum(b, 0) ** 2 * whole * (1 + lost - held) + whole * single + others * p * law.relu_error(b, mine)
    return low + rest_of(law, span, m), log
