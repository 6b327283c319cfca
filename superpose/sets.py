"""How coupled features enter a sum: sets that switch independently of each other, and their characteristic functions.

The input is a sum over independent sets. A set is idle with probability `idle`; independent features are sets of one. What
the exact loss needs of a set is the *active part* of the characteristic function of its share of `y = sum_j g_j x_j`,

    independent    p_j psi(w g_j)
    exclusive      sum_{j in s} p_j psi(w g_j)
    together       p_s prod_{j in s} psi(w g_j)

so that the whole characteristic function is `prod_s (idle_s + active_s)`.
"""

from functools import reduce
from operator import mul
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from superpose import features
from superpose.ladder import scaled

MOST_PAIRS = 8
"""Features up to which pairs may be taken out in closed form: there are n^3 / 2 of them over all outputs."""
LEAST_IDLE = 0.05
"""In the weights of pairs a feature is idle at least so often, so that they can be a product; see `Pairs`."""


class Pairs(NamedTuple):
    """What is taken out of a product of factors `idle_j + active_j` beyond terms with at most one active feature.

    `scale sum_{j<l} spread_j active_j spread_l active_l`, `spread_j = 1 / idle_j`, `scale = prod_j idle_j`: all terms with
    exactly two active features while no idle_j is below `LEAST_IDLE`; there, where two features are hardly ever active alone, about
    these. `spread` (n,), `scale` ().
    """

    spread: Array
    scale: Array


class Sets(NamedTuple):
    """The sets of n features.

    `number` (n,) is each feature's set; `members` (n, L) its set's features, itself first, padded with n. `density` (n,) is
    that of the feature; `idle` (S,) the probability that a set is off, `others_idle` (S,) that all *other* sets are.
    `removed` is how many active sets an elementary closed form still covers: 1, but 0 for features that come together; `pairs`
    what is taken out beside, of few features with a flat law, or None. `equal`: independent features of one density.
    """

    kind: str
    number: np.ndarray
    members: np.ndarray
    density: Array
    idle: Array
    others_idle: Array
    removed: int
    pairs: Pairs | None
    equal: bool

    @property
    def alone(self) -> bool:
        """Whether every set is a single feature."""
        return self.members.shape[1] == 1


def sets_of(distribution: features.Distribution, *, n: int, dtype: jnp.dtype, pairs: bool = False) -> Sets:
    """The sets of a distribution, its densities in `dtype`; independent features are sets of one, and sets of one independent.

    With `pairs`, those are taken out where they can be: of up to `MOST_PAIRS` independent features with a flat law.
    """
    p = features.density(distribution, n=n).astype(dtype)
    grouped = () if isinstance(distribution, features.Sparse) else distribution.sets
    coupled = len(set(grouped)) < len(grouped)
    number = np.array(grouped if coupled else range(n))
    lists = [[i] + [j for j in range(n) if number[j] == number[i] and j != i] for i in range(n)] if coupled else None
    members = np.arange(n)[:, None] if lists is None else _padded(lists, n)
    together = coupled and isinstance(distribution, features.Together)
    if coupled and not together:
        idle = jnp.maximum(1 - jax.ops.segment_sum(p, number, number.max() + 1), 0)
    else:
        idle = 1 - p[np.unique(number, return_index=True)[1]]
    return Sets(
        kind="together" if together else "exclusive" if coupled else "independent",
        number=number,
        members=members,
        density=p,
        idle=idle,
        others_idle=_product_of_others(idle),
        removed=0 if together else 1,
        pairs=_pairs(idle) if pairs and not coupled and features.magnitude(distribution).flat and n <= MOST_PAIRS else None,
        equal=isinstance(distribution, features.Sparse) and jnp.ndim(distribution.density) == 0,
    )


def _pairs(idle: Float[Array, " n"]) -> Pairs:
    idle = jnp.maximum(idle, LEAST_IDLE)
    return Pairs(spread=1 / idle, scale=jnp.prod(idle))


def pair_sums(pairs: Pairs, active: Array) -> tuple[Array, Array]:
    """`sum_j spread_j active_j`, and all that is taken out; from active parts of shape `(n, ...)`, shapes `(...)`."""
    times = scaled if jnp.iscomplexobj(active) else mul
    spread = times(_lift(pairs.spread, active), active)
    total = spread.sum(0)
    return total, times(pairs.scale / 2, total * total - (spread * spread).sum(0))


def _padded(lists: list[list[int]], n: int) -> np.ndarray:
    width = max(map(len, lists))
    return np.array([row + [n] * (width - len(row)) for row in lists])


def _product_of_others(x: Float[Array, " s"]) -> Float[Array, " s"]:
    """`prod_{l != s} x_l` for each s, without dividing: some x may be 0."""
    one = jnp.ones_like(x[:1])
    before = jnp.cumprod(jnp.concatenate([one, x[:-1]]))
    after = jnp.cumprod(jnp.concatenate([one, x[:0:-1]]))[::-1]
    return before * after


def _lift(x: Array, like: Array) -> Array:
    """`x` with trailing axes to go along `like`."""
    return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))


def _others(sets: Sets, psi: Array) -> Array:
    """`prod psi_l` over the other members of each feature's set; psi (n, ...) by feature."""
    padded = jnp.concatenate([psi, jnp.ones_like(psi[:1])])
    return reduce(mul, [padded[sets.members[:, k]] for k in range(1, sets.members.shape[1])], jnp.ones_like(psi))


def active_part(sets: Sets, psi: Array) -> Array:
    """The active part of each set, shape (S, ...), from psi(w g_j), shape (n, ...)."""
    parts = scaled(_lift(sets.density, psi), psi)
    if sets.alone:
        return parts
    if sets.kind == "exclusive":
        return jax.ops.segment_sum(parts, sets.number, len(sets.idle))
    first = np.unique(sets.number, return_index=True)[1]
    return (parts * _others(sets, psi))[first]


def active_slope(sets: Sets, psi: Array, dpsi: Array) -> Array:
    """`d active / d (w g_j)` for each feature j, shape (n, ...)."""
    parts = scaled(_lift(sets.density, dpsi), dpsi)
    return parts * _others(sets, psi) if sets.kind == "together" and not sets.alone else parts


def product(idle: Float[Array, "s ..."], active: Array) -> tuple[Array, Array]:
    """Split `prod_s (idle_s + active_s) - prod_s idle_s` into the terms with one active set and those with more.

    A tree of pairs. Nothing is subtracted, so the rest keeps its digits where hardly anything is active.

    Args:
        idle: shape `(S,)`, or `(S, 1, ...)` to go along `active`.
        active: shape `(S, ...)`, complex or real.

    Returns:
        `one`, `rest`, each of shape `(...)`.
    """
    level, odd = (idle, active, None), None
    while (count := len(level[0])) > 1:
        half = count // 2
        if count % 2:
            last = _take(level, 2 * half, count)
            odd = last if odd is None else combine(odd, last)
        level = combine(_take(level, 0, half), _take(level, half, 2 * half))
    _, one, rest = level if odd is None else combine(level, odd)
    return one[0], jnp.zeros_like(one[0]) if rest is None else rest[0]


def _take(level: tuple, start: int, stop: int) -> tuple:
    return tuple(None if x is None else x[start:stop] for x in level)


def combine(left: tuple, right: tuple) -> tuple:
    """(idle, one, rest) of a union of sets: `rest = idle rest' + rest idle' + (one + rest)(one' + rest')`; None stands for 0."""
    (idle_a, one_a, rest_a), (idle_b, one_b, rest_b) = left, right
    times = scaled if jnp.iscomplexobj(one_a) else mul
    a, b = _lift(idle_a, one_a), _lift(idle_b, one_b)
    one = times(a, one_b) + times(b, one_a)
    rest = (one_a if rest_a is None else one_a + rest_a) * (one_b if rest_b is None else one_b + rest_b)
    if rest_a is not None:
        rest = rest + times(b, rest_a)
    if rest_b is not None:
        rest = rest + times(a, rest_b)
    return idle_a * idle_b, one, rest
