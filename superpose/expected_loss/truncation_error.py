"""How far the series with so many nodes is from the loss: what three times as many more nodes change, and what lies beyond those.

The nodes from K to 4K are added up. Beyond, a few terms in a row are averaged on a ladder of frequencies, and the sizes of the
averages added up as if none cancelled another: so weak overlaps count, whose terms change sign too late for any number of nodes
to show. A longer period comes with more nodes, so what the shorter one cuts off is seen as well.
Arrays are (input j, output i, ...).

Everything takes the number of nodes as a traced number: one program serves all.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from superpose._jax.complex_numbers import phase
from superpose.expected_loss.fourier_series import closed_part, factors_of, highest, own_overlaps, q_of, series_terms
from superpose.expected_loss.own_feature import Aside, aside
from superpose.expected_loss.period import Period, period
from superpose.expected_loss.sets import Sets, lift, product, sets_along
from superpose.expected_loss.shares import Shares, shares
from superpose.features import Magnitude
from superpose.features.characteristic import powers

RUNGS = 2.0 ** (0.75 * np.arange(17))
"""Frequencies beyond, in units of the highest."""
BLOCK = 8
"""Nodes in a row at each rung, whose terms are averaged: what turns fast cancels, what turns too slowly to show does not."""

ROUNDING = 0.6
"""Times sqrt(n) what each unit of rounding costs; .5 was the most seen in 400 models of 4 to 100 features."""


def fine_losses(sets: Sets, law: Magnitude, g: Array, b: Array, nodes: Int[Array, ""]) -> Array:
    """Each output's loss by the direct product, `(n, ...)`, node by node."""
    g, away = aside(sets, law, g, b)
    span = period(sets, law, g, b, nodes=nodes)
    taken = shares(sets, law, highest(span, nodes)[None] * g)
    theta, factors = 2 * np.pi / span.length, factors_of(sets, taken)
    rungs = law.recurrence(theta[None] * g, 0), law.recurrence(theta[None] * own_overlaps(sets, g), 2), powers(theta * b)

    def step(k: Array, carry: tuple) -> tuple:
        states, total = carry
        k = jnp.asarray(k, b.dtype)
        (every, (psi,)), (mine, own), (turned, (turn,)) = (x.step(s, k) for x, s in zip(rungs, states, strict=True))
        products = jax.tree.map(lambda x: x[None], product(q_of(sets, factors, psi)))
        terms = series_terms(sets, taken, turn[None], span, k[None], products, [x[None] for x in own], away)
        return (every, mine, turned), total + terms.value[0]

    start = tuple(x.start for x in rungs), jnp.zeros_like(b)
    series = jax.lax.fori_loop(1, nodes + 1, step, start)[1]
    return closed_part(sets, law, span, g, b, away, nodes=nodes) + series


def beyond(sets: Sets, law: Magnitude, g: Array, b: Array, nodes: Int[Array, ""]) -> Array:
    """The sizes of the terms after so many nodes, averaged over blocks, added up, `(n, ...)`: by the trapezoidal rule in log k."""
    g, away = aside(sets, law, g, b)
    span = period(sets, law, g, b, nodes=nodes)
    taken = shares(sets, law, highest(span, nodes)[None] * g)
    rungs = jnp.floor(nodes * jnp.asarray(RUNGS, b.dtype))

    def size(k: Array) -> Array:
        terms = jax.lax.map(
            lambda step: _term(sets, law, taken, g, b, span, k + step, away), jnp.arange(BLOCK, dtype=b.dtype)
        )
        return k * jnp.abs(terms.mean(0))

    sizes = jax.lax.map(size, rungs)
    return float(np.log(RUNGS[1])) * (sizes.sum(0) - sizes[0] / 2)


def _term(sets: Sets, law: Magnitude, taken: Shares, g: Array, b: Array, span: Period, k: Array, away: Aside) -> Array:
    """The complex term at one frequency."""
    w = k * (2 * np.pi / span.length)
    (psi,) = law.derivatives(w[None] * g, 0)
    products = jax.tree.map(lambda x: x[None], product(q_of(sets, factors_of(sets, taken), psi)))
    own = [x[None] for x in law.derivatives(w[None] * own_overlaps(sets, g), 2)]
    return series_terms(sets, taken, phase(w * b)[None], span, k[None], products, own, away).complex_value[0]


def rounding(sets: Sets, law: Magnitude, g: Array, b: Array) -> Array:
    """What is lost in sums of n terms of the size of `E x^2 + E y^2`, `(n, ...)`: it grows as sqrt(n).

    Where the own feature has its closed form: of the size of what is left of them, and by the rounding of the overlaps themselves.
    """
    g, away = aside(sets, law, g, b)
    first, x = lift(sets.density, g) * g, law.moments[1] * sets_along(sets.density, b)
    left = (jnp.abs(b) + law.moments[0] * jnp.abs(first).sum(0)) ** 2 + law.moments[1] * (first * g).sum(0) + away.loss
    by_overlaps = (1 - away.cross) * jnp.sqrt(left * x)
    return ROUNDING * len(b) ** 0.5 * jnp.finfo(b.dtype).eps * (away.cross * x + left + by_overlaps)
