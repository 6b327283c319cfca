"""The loss of up to three features, for laws of constant density: exact averages over the box of the active ones' magnitudes.

With active features j, k, .. an output's error is a quadratic in their magnitudes on either side of a plane through the box.
Feature after feature it is integrated by Gauss's rule on each piece where it is a polynomial: nothing is divided by an overlap,
so overlaps may be 0. Arrays have the outputs first, then what is summed, then any trailing axes.
"""

from collections.abc import Callable
from itertools import combinations
from itertools import product as cartesian
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose.expected_loss.groups import Groups, along, own_rows
from superpose.features import Magnitude

Chance = Callable[[np.ndarray], Array]
"""From a mask of active features, `(n, choices, n)`, to the weight of each choice, `(n, choices, ...)`."""

MOST_FLAT = 3
"""Features up to which all patterns are averaged; the pieces double with each."""


def applies(groups: Groups, law: Magnitude) -> bool:
    """Whether this is the way: up to `MOST_FLAT` independent features."""
    return groups.independent and len(groups.density) - (not groups.targets) <= MOST_FLAT and law.flat


def losses(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int) -> Array:  # noqa: ARG001
    """`E (x_i - r(y_i))^2`, shape `(n, ...)`, of overlaps `g[j, i]`; there are no nodes."""
    gram, rows, owns = jnp.swapaxes(g, 0, 1), own_rows(groups, len(b)), (False, True) if groups.targets else (False,)

    def chance(on: np.ndarray) -> Array:
        p = along(groups.density, b)[None, None]
        return jnp.where(_along(on, b), p, 1 - p).prod(2)

    return sum((_share(law, gram, b, rows, chance, k, own) for k in range(len(g)) for own in owns), jnp.zeros_like(b))


def losses_and_slopes(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int) -> tuple[Array, Array, Array]:
    """`losses`; their slopes in g_ij, `(j, i, ...)`; and in b_i, `(n, ...)`."""
    value, pull = jax.vjp(lambda g, b: losses(groups, law, g, b, nodes=nodes), g, b)
    return value, *pull(jnp.ones_like(value))  # an output depends on its own row and bias alone


def _along(on: np.ndarray, b: Array) -> np.ndarray:
    return on.reshape(*on.shape, *(1,) * (b.ndim - 1))


def _share(law: Magnitude, gram: Array, b: Array, rows: np.ndarray, chance: Chance, others: int, own: bool) -> Array:
    """The part of inputs with so many other features active, and the own one, of `rows`, if `own`; shape `(n, ...)`."""
    outputs, n = gram.shape[:2]
    ahead = list(combinations(range(1, n), others))  # of the own one, modulo n
    ahead = np.insert(np.array(ahead, int).reshape(comb(n - 1, others), others), 0, 0, axis=1)
    active = (rows[:, None, None] + ahead[None]) % n  # (outputs, choices, 1 + others), the own one first
    weight = chance((active[..., None] == np.arange(n))[:, :, 1 - own :].any(2))
    g = [gram[np.arange(outputs)[:, None], active[:, :, k]] for k in range(1 - own, 1 + others)]
    c = jnp.broadcast_to(b[:, None], weight.shape)
    if not g:
        average = jnp.maximum(c, 0) ** 2
    else:
        first = law.relu_error if own else law.relu_square
        average = _average(lambda c: first(c, jnp.broadcast_to(g[0], c.shape)), law, g[:1], g[1:], c)
    return (weight * average).sum(1)


def _average(f: Callable[[Array], Array], law: Magnitude, inside: list[Array], g: list[Array], c: Array) -> Array:
    """`E f(c + sum_k g_k u_k)`, one feature after the other, by Gauss's rule on each smooth piece.

    f is a piecewise cubic with knots at minus the corners of the features `inside` it, and averaging over a feature adds one
    to the degree and that feature to the corners.
    """
    if not g:
        return f(c)
    low, high = law.support
    rest, last = g[:-1], jnp.broadcast_to(g[-1], c.shape)
    corners = [jnp.broadcast_to(sum(ends), c.shape) for ends in cartesian(*[(low * x, high * x) for x in inside + rest])]
    safe = jnp.where(last == 0, 1, last)
    knots = _sorted([jnp.where(last == 0, low, jnp.clip(-(c + x) / safe, low, high)) for x in corners])
    ends = jnp.stack([jnp.full_like(c, low), *knots, jnp.full_like(c, high)])
    ends = jax.lax.stop_gradient(ends)  # the integrand and its slope are continuous across a knot
    middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    points, weights = np.polynomial.legendre.leggauss(2 + (len(rest) + 1) // 2)
    points, weights = (jnp.asarray(x, c.dtype).reshape(-1, *(1,) * half.ndim) for x in (points, weights / (high - low)))
    value = _average(f, law, inside, rest, c[None, None] + last[None, None] * (middle[None] + points * half[None]))
    return (weights * half[None] * value).sum((0, 1))


def _sorted(values: list[Array]) -> list[Array]:
    """Ascending, element by element, by odd and even exchanges: `jnp.sort` does not vectorise over the other axes."""
    values = list(values)
    for turn in range(len(values)):
        for k in range(turn % 2, len(values) - 1, 2):
            a, b = values[k], values[k + 1]
            values[k], values[k + 1] = jnp.minimum(a, b), jnp.maximum(a, b)
    return values
