"""How coupled features enter a sum: sets that switch independently of each other, and their characteristic functions.

The input is a sum over independent sets. A set is active with probability `chance`; independent features are sets of one. What
the exact loss needs of a set is the *active part* of the characteristic function of its share of `y = sum_j g_j x_j`,

    independent    p_j psi(w g_j)
    exclusive      sum_{j in s} p_j psi(w g_j)
    together       p_s prod_{j in s} psi(w g_j)

so that the whole characteristic function is `prod_s (1 - chance_s + active_s)`.

Arrays of features have the features first; any further axes go along: outputs, models.
"""

from functools import reduce
from operator import mul
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from superpose import features
from superpose._jax.complex_numbers import scaled


class Sets(NamedTuple):
    """The sets of n features.

    `number` (n,) is each feature's set; `members` (n, L) its set's features, itself first, padded with n. `density` (n, ...) is
    that of the feature; `chance` (S, ...) the probability that a set is active. `removed` is how many active sets an elementary
    closed form still covers: 1, but 0 for features that come together. `equal`: independent features of one density.
    """

    kind: str
    number: np.ndarray
    members: np.ndarray
    density: Array
    chance: Array
    removed: int
    equal: bool

    @property
    def alone(self) -> bool:
        """Whether every set is a single feature."""
        return self.members.shape[1] == 1


def sets_of(distribution: features.Distribution, *, n: int, dtype: jnp.dtype) -> Sets:
    """The sets of a distribution, its densities in `dtype`; independent features are sets of one, and sets of one independent."""
    p = features.density(distribution, n=n).astype(dtype)
    grouped = () if isinstance(distribution, features.Sparse) else distribution.sets
    coupled = len(set(grouped)) < len(grouped)
    number = np.array(grouped if coupled else range(n))
    lists = [[i] + [j for j in range(n) if number[j] == number[i] and j != i] for i in range(n)] if coupled else None
    together = coupled and isinstance(distribution, features.Together)
    if coupled and not together:
        chance = jnp.minimum(jax.ops.segment_sum(p, number, number.max() + 1), 1)
    else:
        chance = p[np.unique(number, return_index=True)[1]]
    return Sets(
        kind="together" if together else "exclusive" if coupled else "independent",
        number=number,
        members=np.arange(n)[:, None] if lists is None else _padded(lists, n),
        density=p,
        chance=chance,
        removed=0 if together else 1,
        equal=isinstance(distribution, features.Sparse) and jnp.ndim(distribution.density) == 0,
    )


def _padded(lists: list[list[int]], n: int) -> np.ndarray:
    width = max(map(len, lists))
    return np.array([row + [n] * (width - len(row)) for row in lists])


def lift(x: Array, like: Array) -> Array:
    """`x` with the axes of `like` that it lacks put in behind the first: `(n, ...)` goes along `(n, outputs, ...)`."""
    return x.reshape(x.shape[:1] + (1,) * (like.ndim - x.ndim) + x.shape[1:])


def sets_along(x: Array, b: Array) -> Array:
    """A number for each feature, `(n,)` or `(n, ...)`, to go along outputs."""
    return x.reshape(x.shape + (1,) * (b.ndim - x.ndim))


def set_sums(sets: Sets, x: Float[Array, "n ..."]) -> Float[Array, "s ..."]:
    """The sum over the features of each set."""
    return x if sets.alone else jax.ops.segment_sum(x, sets.number, len(sets.chance))


def own_set(sets: Sets, x: Float[Array, "s n ..."]) -> Float[Array, "n ..."]:
    """The entry of each output's own set."""
    return x[sets.number, np.arange(len(sets.number))]


def _others(sets: Sets, psi: Array) -> Array:
    """`prod psi_l` over the other members of each feature's set; psi (n, ...) by feature."""
    padded = jnp.concatenate([psi, jnp.ones_like(psi[:1])])
    return reduce(mul, [padded[sets.members[:, k]] for k in range(1, sets.members.shape[1])], jnp.ones_like(psi))


def active_part(sets: Sets, psi: Array) -> Array:
    """The active part of each set, shape (S, ...), from psi(w g_j), shape (n, ...)."""
    parts = scaled(lift(sets.density, psi), psi)
    if sets.alone:
        return parts
    if sets.kind == "exclusive":
        return jax.ops.segment_sum(parts, sets.number, len(sets.chance))
    first = np.unique(sets.number, return_index=True)[1]
    return (parts * _others(sets, psi))[first]


def active_slope(sets: Sets, psi: Array, dpsi: Array) -> Array:
    """`d active / d (w g_j)` for each feature j, shape (n, ...)."""
    parts = scaled(lift(sets.density, dpsi), dpsi)
    return parts * _others(sets, psi) if sets.kind == "together" and not sets.alone else parts


def product(q: Array) -> tuple[Array, Array]:
    """Split `prod_s (1 + q_s) - 1` into `sum_s q_s` and the rest, the terms of two or more.

    A tree of pairs. Nothing is subtracted, so the rest keeps its digits where every q is small.

    Args:
        q: shape `(S, ...)`, complex or real.

    Returns:
        `one`, `rest`, each of shape `(...)`.
    """
    level, odd = (q, None), None
    while (count := len(level[0])) > 1:
        half = count // 2
        if count % 2:
            last = _take(level, 2 * half, count)
            odd = last if odd is None else combine(odd, last)
        level = combine(_take(level, 0, half), _take(level, half, 2 * half))
    one, rest = level if odd is None else combine(level, odd)
    return one[0], jnp.zeros_like(one[0]) if rest is None else rest[0]


def _take(level: tuple, start: int, stop: int) -> tuple:
    return tuple(None if x is None else x[start:stop] for x in level)


def combine(left: tuple, right: tuple) -> tuple:
    """(one, rest) of a union of sets: `rest = rest' + rest'' + (one' + rest')(one'' + rest'')`; None stands for 0."""
    (one_a, rest_a), (one_b, rest_b) = left, right
    rest = (one_a if rest_a is None else one_a + rest_a) * (one_b if rest_b is None else one_b + rest_b)
    for known in (rest_a, rest_b):
        rest = rest if known is None else rest + known
    return one_a + one_b, rest
