"""Who is active with whom, as the exact loss needs it, and products over groups that are independent of each other.

The pre-activation `y = b + sum_j g_j x_j` is a sum over independent groups of features: single ones, or the sets of a
`superpose.features.forest`. So its characteristic function is `prod_s (1 - chance_s + active_s)`, with `active_s` the part of
inputs that have somebody of group s active, `p_j psi(w g_j)` of a single feature.

Arrays of features have the features first; any further axes go along: outputs, models.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array

from superpose import features
from superpose.features import forest


@struct.dataclass
class Groups:
    """The groups of n features: their structure is static, their numbers are traced.

    `coupling`: who is active with whom. `equal`: independent features of one density. `order`: features as given stand in this
    order here, so that `forest` takes slices. `targets`: whether output i is to give feature i; else see `without_targets`.
    `density` (n, ...) of each feature; `given`, the same once its parent is active; `alone`, the probability that it is the only
    active one of its group; `chance` (S, ...), that a group is active.
    """

    density: Array
    given: Array
    alone: Array
    chance: Array
    coupling: forest.Forest = struct.field(pytree_node=False)
    equal: bool = struct.field(pytree_node=False)
    order: tuple[int, ...] = struct.field(pytree_node=False)
    targets: bool = struct.field(pytree_node=False, default=True)

    @property
    def independent(self) -> bool:
        """Whether every group is a single feature."""
        return self.coupling.independent

    @property
    def deep(self) -> bool:
        """Whether several features of a group can be active at once."""
        return any(parent >= 0 for parent in self.coupling.parent)

    @property
    def member(self) -> Any:
        """The number of each feature's group, as an index."""
        return slice(None) if self.independent else np.array(self.coupling.sets)


def group_sums(groups: Groups, x: Array) -> Array:
    """The sum over the features of each group, `(S, ...)` from `(n, ...)`."""
    return x if groups.independent else forest.sums(groups.member, x)


def own_rows(groups: Groups, outputs: int) -> np.ndarray:
    """The own feature of each output: what it is to give."""
    return np.argsort(groups.order) if groups.targets else np.zeros(outputs, int)


def of_own(groups: Groups, g: Array) -> Array:
    """What `(n, outputs, ...)` has for each output's own feature, `(outputs, ...)`."""
    return g[own_rows(groups, g.shape[1]), np.arange(g.shape[1])] if groups.targets else g[0]


def of_own_group(groups: Groups, x: Array) -> Array:
    """What `(S, outputs, ...)` has for the group of each output's own feature, `(outputs, ...)`."""
    outputs = x.shape[1]
    return x[np.array(groups.coupling.sets)[own_rows(groups, outputs)], np.arange(outputs)]


def at_own(groups: Groups, g: Array) -> Array:
    """Where an input is the output's own feature, `(n, outputs, 1...)`."""
    found = np.arange(len(g))[:, None] == own_rows(groups, g.shape[1])[None]
    return jnp.asarray(found.reshape(*g.shape[:2], *(1,) * (g.ndim - 2)))


def own_number(groups: Groups, x: Array, b: Array) -> Array:
    """A number for each feature, `(n,)` or `(n, ...)`, as one for each output's own, to go along b, `(outputs, ...)`."""
    return along(as_given(groups, x) if groups.targets else jnp.broadcast_to(x[:1], (len(b), *x.shape[1:])), b)


def groups_of(distribution: features.Sparse | features.Coupled, *, n: int, dtype: jnp.dtype) -> Groups:
    """The groups of a distribution, its densities in `dtype`."""
    features.check(distribution, n=n, absent=True)
    known, p = features.coupling(distribution, n=n), features.given(distribution, n=n).astype(dtype)
    equal = isinstance(distribution, features.Sparse) and jnp.ndim(distribution.density) == 0
    if known.independent:  # so of coupled ones in sets of one
        return Groups(p, p, p, p, forest.independent(n), equal, tuple(range(n)))
    order = forest.in_order(known)
    known, p = forest.reordered(known, order), p[np.array(order)]
    return Groups(forest.marginal(known, p), p, forest.alone(known, p), forest.chances(known, p), known, equal, order)


def in_order(groups: Groups, g: Array) -> Array:
    """What has a row for each feature as given, in the order of the groups."""
    return forest.rows(g, np.array(groups.order))


def as_given(groups: Groups, g: Array) -> Array:
    """The inverse."""
    return forest.rows(g, np.argsort(groups.order))


def without_targets(groups: Groups) -> Groups:
    """The same features, of which outputs are to give none: any number of outputs, for `E r(y)^2` alone.

    A feature of density 0 comes before them, whose overlaps are to be 0. It is the own feature of every output.
    """
    known, none, order = groups.coupling, jnp.zeros_like(groups.density[:1]), (0, *(x + 1 for x in groups.order))
    shifted = tuple(p if p < 0 else p + 1 for p in known.parent)
    sets, draw = (tuple(x + 1 for x in numbers) for numbers in (known.sets, known.draw))
    coupling = forest.Forest((-1, *shifted), (0, *sets), known.exclusive, (False, *known.certain), (0, *draw))
    density, given, alone, chance = (
        jnp.concatenate([none, x]) for x in (groups.density, groups.given, groups.alone, groups.chance)
    )
    return Groups(density, given, alone, chance, coupling, groups.equal, order, targets=False)


def lift(x: Array, like: Array) -> Array:
    """`x` with the axes of `like` that it lacks put in behind the first: `(n, ...)` goes along `(n, outputs, ...)`."""
    return x.reshape(x.shape[:1] + (1,) * (like.ndim - x.ndim) + x.shape[1:])


def along(x: Array, b: Array) -> Array:
    """A number for each feature, `(n,)` or `(n, ...)`, to go along outputs."""
    return x.reshape(x.shape + (1,) * (b.ndim - x.ndim))


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
