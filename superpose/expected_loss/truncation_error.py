"""How far the series with so many nodes is from the loss: what three times as many more nodes change, and what lies beyond those.

The nodes from K to 4K are added up. Beyond, a few terms in a row are averaged on a ladder of frequencies, and the sizes of the
averages added up as if none cancelled another: so weak overlaps count, whose terms change sign too late for any number of nodes
to show. A longer period comes with more nodes, so what the shorter one cuts off is seen as well.
Arrays are (input j, output i, ...).

Everything takes the number of nodes as a traced number: one program serves all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from superpose.expected_loss.groups import Groups, lift, own_number
from superpose.expected_loss.low_order import group_moments
from superpose.expected_loss.own_feature import aside
from superpose.features import Magnitude

RUNGS = 2.0 ** (0.75 * np.arange(17))
"""Frequencies beyond, in units of the highest."""
BLOCK = 8
"""Nodes in a row at each rung, whose terms are averaged: what turns fast cancels, what turns too slowly to show does not."""

ROUNDING = 0.6
"""Times sqrt(n) what each unit of rounding costs; .5 was the most seen in 400 models of 4 to 100 features."""


class Walk(NamedTuple):
    """The loss term by term: the closed part of each output, and `step(state, k) -> (state, term)` for node k = 1, 2, ... in turn.

    `at(k)` is the term at any k. Terms are complex, and their real part counts. The number of nodes may be traced.
    """

    closed: Array
    start: Any
    step: Callable[[Any, Array], tuple[Any, Array]]
    at: Callable[[Array], Array]


def fine_losses(walk: Walk, b: Array, nodes: Int[Array, ""]) -> Array:
    """Each output's loss with so many nodes, `(n, ...)`, node by node."""

    def step(k: Array, carry: tuple) -> tuple:
        state, term = walk.step(carry[0], jnp.asarray(k, b.dtype))
        return state, carry[1] + term.real

    return walk.closed + jax.lax.fori_loop(1, nodes + 1, step, (walk.start, jnp.zeros_like(b)))[1]


def beyond(walk: Walk, b: Array, nodes: Int[Array, ""]) -> Array:
    """The sizes of the terms after so many nodes, averaged over blocks, added up, `(n, ...)`: by the trapezoidal rule in log k."""
    rungs = jnp.floor(nodes * jnp.asarray(RUNGS, b.dtype))

    def size(k: Array) -> Array:
        terms = jax.lax.map(lambda step: walk.at(k + step), jnp.arange(BLOCK, dtype=b.dtype))
        return k * jnp.abs(terms.mean(0))

    sizes = jax.lax.map(size, rungs)
    return float(np.log(RUNGS[1])) * (sizes.sum(0) - sizes[0] / 2)


def rounding(groups: Groups, law: Magnitude, g: Array, b: Array) -> Array:
    """What is lost in sums of n terms of the size of `E x^2 + E y^2`, `(n, ...)`: it grows as sqrt(n).

    Where the own feature has its closed form: of the size of what is left of them, and by the rounding of the overlaps themselves.
    """
    g, away = aside(groups, law, g, b)
    size, x = jnp.abs(g), law.moments[1] * own_number(groups, groups.density, b)
    mean = law.moments[0] * (lift(groups.density, g) * size).sum(0)
    left = (jnp.abs(b) + mean) ** 2 + group_moments(groups, law, size)[1].sum(0) + away.loss
    by_overlaps = (1 - away.cross) * jnp.sqrt(left * x)
    return ROUNDING * len(g) ** 0.5 * jnp.finfo(b.dtype).eps * (away.cross * x + left + by_overlaps)
