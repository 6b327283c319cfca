"""Who is active with whom, as a forest: a feature can be active only if its parent is.

Every coupling of the library is one. Independent features are roots; features of which at most one is active are roots of one set;
features that are active together are a root and children that are active whenever it is. What distributions and the exact loss
need of a forest are sums and products up and down its levels, so they cost as much as the features do.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import accumulate
from operator import add, mul
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


class Forest(NamedTuple):
    """The static part of a coupling of n features; hashable.

    `parent` of each feature, -1 for a root. `sets`, the number of each feature's set, from 0: sets are independent of each other,
    and roots of one set exclude each other. `exclusive`, whether the children of each feature do. `certain`, whether a feature is
    active whenever its parent is. `draw`, the number of the uniform number that decides whether a feature is active once its
    parent is: features that exclude each other share one.
    """

    parent: tuple[int, ...]
    sets: tuple[int, ...]
    exclusive: bool
    certain: tuple[bool, ...]
    draw: tuple[int, ...]

    @property
    def independent(self) -> bool:
        """Whether every set is a single feature."""
        return len(set(self.sets)) == len(self.sets)

    @property
    def roots(self) -> np.ndarray:
        """Numbers of the features without a parent."""
        return np.flatnonzero(np.array(self.parent) < 0)


def independent(n: int) -> Forest:
    """N features that know nothing of each other."""
    return Forest((-1,) * n, tuple(range(n)), False, (False,) * n, tuple(range(n)))


def exclusive(sets: tuple[int, ...]) -> Forest:
    """Sets of features of which at most one is active."""
    n = len(sets)
    return Forest((-1,) * n, sets, False, (False,) * n, sets)


def together(sets: tuple[int, ...]) -> Forest:
    """Sets of features that are active all at once: children of the first of each set."""
    first = [sets.index(s) for s in sets]
    parent = tuple(-1 if i == k else i for k, i in enumerate(first))
    return Forest(parent, sets, False, tuple(p >= 0 for p in parent), sets)


def tree(parents: tuple[int, ...], *, exclusive: bool) -> Forest:
    """Each root with all below it is a set; the children of a feature exclude each other or know nothing of each other.

    Raises:
        ValueError: a parent that is no feature, or a feature above itself.
    """
    n, top = len(parents), []
    for start in range(n):
        at, steps = start, 0
        while at >= 0 and parents[at] != -1:
            if not 0 <= parents[at] < n or steps > n:
                needs = f"the number of another of the n = {n} features, not below it, or -1"
                raise ValueError(f"parents = {parents}: feature {at} needs {needs}")
            at, steps = parents[at], steps + 1
        top.append(at)
    numbers = {root: k for k, root in enumerate(dict.fromkeys(top))}
    draw = tuple(p if exclusive and p >= 0 else n + k for k, p in enumerate(parents))
    order = {d: k for k, d in enumerate(dict.fromkeys(draw))}
    return Forest(parents, tuple(numbers[r] for r in top), exclusive, (False,) * n, tuple(order[d] for d in draw))


def in_order(forest: Forest) -> tuple[int, ...]:
    """The features with the roots first, then level by level; within a level the first child of each parent, then the second ones.

    What belongs to a rank or a level then stands in a row, and `rows` takes slices.
    """
    place, order = {-1: 0}, []
    for level in levels(forest):
        above = np.array(forest.parent if order else forest.sets)[level]
        number = [np.count_nonzero(above[:k] == up) for k, up in enumerate(above)]
        parents = [place[up] if order else up for up in above]
        order += [int(level[k]) for k in np.lexsort((parents, number))]
        place = {i: k for k, i in enumerate(order)}
    return tuple(order)


def reordered(forest: Forest, order: tuple[int, ...]) -> Forest:
    """The same forest with its features in another order."""
    place = {-1: -1} | {i: k for k, i in enumerate(order)}
    parent, sets, draw = (tuple(x[i] for i in order) for x in (forest.parent, forest.sets, forest.draw))
    certain = tuple(forest.certain[i] for i in order)
    return Forest(tuple(place[p] for p in parent), sets, forest.exclusive, certain, draw)


def levels(forest: Forest) -> list[np.ndarray]:
    """The features by depth, roots first."""
    parent, found = np.array(forest.parent), [forest.roots]
    while len(below := np.flatnonzero(np.isin(parent, found[-1]))):
        found.append(below)
    return found


def ancestors(forest: Forest) -> Bool[np.ndarray, "n n"]:
    """Whether feature j is i or above it, `[i, j]`."""
    above = np.eye(len(forest.parent), dtype=bool)
    for level in levels(forest)[1:]:
        above[level] |= above[np.array(forest.parent)[level]]
    return above


def marginal(forest: Forest, given: Array) -> Array:
    """Probability that each feature is active, from `given`, that once its parent is."""
    p = given
    for level in levels(forest)[1:]:
        p = p.at[level].set(p[level] * p[np.array(forest.parent)[level]])
    return p


def joint(forest: Forest, given: Float[Array, " n"]) -> Float[Array, "n n"]:
    """`P(i and j are active)`, p_i where i = j: `p_i P(j | i)`, with `P(j | i) = given_j P(parent of j | i)` down the forest.

    It is 1 for what is above i, and 0 for what excludes i or a feature above it.
    """
    above, parent = ancestors(forest), np.array(forest.parent)
    excluded = (above.astype(int) @ siblings(forest).astype(int) > 0) & ~above
    likely = jnp.zeros(above.shape, given.dtype)
    for level in levels(forest):
        on = jnp.where(parent[level][None] < 0, 1, likely[:, parent[level]])
        once = jnp.where(excluded[:, level], 0, given[level][None] * on)
        likely = likely.at[:, level].set(jnp.where(above[:, level], 1, once))
    return marginal(forest, given)[:, None] * likely


def siblings(forest: Forest) -> Bool[np.ndarray, "n n"]:
    """Whether features i and j exclude each other, below one parent or as roots; or are the same."""
    parent, sets = np.array(forest.parent), np.array(forest.sets)
    exclusive = np.where(parent < 0, True, forest.exclusive)
    return (np.equal.outer(parent, parent) & np.equal.outer(sets, sets) & exclusive) | np.eye(len(parent), dtype=bool)


def sampled(forest: Forest, given: Float[Array, " n"], v: Float[Array, " draws"]) -> Bool[Array, " n"]:
    """Which features are active, from a uniform number in [0, 1) for each draw.

    Feature i is if its parent is and its number lies between the cumulative `given` of those before it that it excludes and its
    own, so that no rounding can make two of them active.
    """
    n = len(forest.parent)
    up_to = siblings(forest) & np.tri(n, dtype=bool)
    end = jnp.where(up_to, given[None, :], 0).sum(1)
    before = up_to & ~np.eye(n, dtype=bool)
    start = jnp.where(before.any(1), end[n - 1 - np.argmax(before[:, ::-1], axis=1)], 0)
    number = v[np.array(forest.draw)]
    on = (number >= start) & (number < end)
    for level in levels(forest)[1:]:
        on = on.at[level].set(on[level] & on[np.array(forest.parent)[level]])
    return on


def active_part(
    forest: Forest,
    given: Array,
    weighed: Array,
    *,
    one: Array | float = 1.0,
    times: Callable[[Array, Array], Array] = mul,
) -> Array:
    """Each set's characteristic function less the probability that it is idle, `(sets, ...)`, from psi of each feature.

    Up the forest, `active_i = given_i psi_i prod_c (1 - given_c + active_c)` over the children c, or `(1 + sum_c (active_c -
    given_c))` where they exclude each other; a set's is the sum over its roots.

    Args:
        forest: of n features.
        given: probability of each feature once its parent is active, broadcast against psi.
        weighed: `given psi`, `(n, ...)`; or with anything else than psi that multiplies as independent sums do, such as moments.
        one: what stands for 1.
        times: their product.
    """
    depths = levels(forest)
    each = rows(weighed, depths[-1])
    for up, level in _upwards(depths):
        if forest.exclusive:
            brought = one + reduce(add, _by_parent(forest, up, level, each - rows(given, level) * one))
        else:
            brought = reduce(times, _factors(forest, up, level, each, rows(given, level), one))
        each = times(rows(weighed, up), brought)
    return over_roots(forest, each)


def active_part_and_slopes(forest: Forest, given: Array, weighed: Array) -> tuple[Array, Array]:
    """`active_part`, and the slope of its set's in each feature's `weighed`, `(n, ...)`: once up the forest and once down.

    The slope of a root is what its children bring. That of a child is its parent's times the parent's `weighed` and, where children
    are independent, what the other children bring. What JAX would make of `active_part` scatters rows, which is slow on a CPU.
    """
    depths, steps = levels(forest), []
    each = rows(weighed, depths[-1])
    for up, level in _upwards(depths):
        if forest.exclusive:
            brought = _by_parent(forest, up, level, each - rows(given, level))
            whole = 1 + reduce(add, brought)
        else:
            brought = _factors(forest, up, level, each, rows(given, level), jnp.ones_like(each[:1]))
            whole = reduce(mul, brought)
        steps.append((up, level, brought, whole))
        each = rows(weighed, up) * whole
    active, above, slopes = over_roots(forest, each), jnp.ones_like(each), []
    for up, level, brought, whole in reversed(steps):
        slopes.append(above * whole)
        passed = above * rows(weighed, up)
        below = [passed] * len(brought) if forest.exclusive else [passed * x for x in _products_of_others(brought)]
        above = _to_children(forest, up, level, below)
    order = np.argsort(np.concatenate(depths))
    return active, rows(jnp.concatenate([*slopes, above]), order)


def _factors(forest: Forest, parents: np.ndarray, children: np.ndarray, each: Array, given: Array, one: Any) -> list[Array]:
    """What the first ones of all parents bring, their second ones, and so on: `1 - given + active`; `one` where there are fewer."""
    if all(forest.certain[c] for c in children):
        return _by_parent(forest, parents, children, each, none=one)
    return [one + x for x in _by_parent(forest, parents, children, each - given * one)]


def _products_of_others(factors: list[Array]) -> list[Array]:
    """For each factor the product of all others; nothing is divided, as a factor may be 0."""
    one = jnp.ones_like(factors[0])
    before, after = list(accumulate(factors[:-1], mul, initial=one)), list(accumulate(factors[:0:-1], mul, initial=one))
    return [x * y for x, y in zip(before, reversed(after), strict=True)]


def _to_children(forest: Forest, parents: np.ndarray, children: np.ndarray, parts: list[Array]) -> Array:
    """The k-th part of a parent to its k-th child: what `_by_parent` undoes."""
    above = np.array(forest.parent)[children]
    number = np.array([np.count_nonzero(above[:k] == up) for k, up in enumerate(above)])
    return rows(jnp.concatenate(parts), number * len(parents) + np.searchsorted(parents, above))


def rows(x: Array, index: np.ndarray) -> Array:
    """`x[index]` of a static index; by a slice where it has equal steps, whose derivative is no scatter."""
    steps = set(np.diff(index).tolist())
    if len(steps) > 1 or min(steps, default=1) < 1:
        return x[index]
    return x[index[0] : index[-1] + 1 : min(steps, default=1)]


def _upwards(depths: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each level with the one below it, the deepest first."""
    return zip(depths[-2::-1], depths[:0:-1], strict=True)


def _by_parent(
    forest: Forest, parents: np.ndarray, children: np.ndarray, x: Array, *, none: Array | float = 0.0
) -> list[Array]:
    """Of a number for each child the first ones of all parents, their second ones, and so on; `none` where a parent has fewer."""
    above = np.array(forest.parent)[children]
    return _padded([np.flatnonzero(above == up) for up in parents], x, none)


def _padded(members: Sequence[np.ndarray], x: Array, none: Array | float = 0.0) -> list[Array]:
    """The k-th entry of x of each of some lists, `(lists, ...)`, for each k; `none` where a list is shorter."""
    most, found = max(map(len, members)), []
    for k in range(most):
        there = np.array([len(row) > k for row in members])
        taken = rows(x, np.array([row[k] if len(row) > k else 0 for row in members]))
        found.append(taken if there.all() else jnp.where(there.reshape(-1, *(1,) * (x.ndim - 1)), taken, none))
    return found


def below_roots(forest: Forest, given: Array, x: Array) -> Array:
    """`sum_j P(j active | root active) x_j` over each root and all below it, `(roots, ...)`."""
    depths = levels(forest)
    total = rows(x, depths[-1])
    for up, level in _upwards(depths):
        total = rows(x, up) + reduce(add, _by_parent(forest, up, level, rows(given, level) * total))
    return total


def largest(forest: Forest, x: Array) -> Array:
    """The largest sum of numbers >= 0 that features active at once can have, in each set; where some exclude each other, a norm.

    `x_i + sum_c` over the children, or the root of the sum of squares: at least the largest, and smooth.
    """
    depths = levels(forest)
    total = rows(x, depths[-1])
    for up, level in _upwards(depths):
        parts = _by_parent(forest, up, level, total)
        below = _norm(reduce(add, [y**2 for y in parts])) if forest.exclusive else reduce(add, parts)
        total = rows(x, up) + below
    if len(forest.roots) == len(set(forest.sets)):
        return over_roots(forest, total)
    return jnp.sqrt(over_roots(forest, total**2))


def _norm(square: Array) -> Array:
    """The root, with no slope where it is 0: of a feature without children."""
    there = square > 0
    return jnp.where(there, jnp.sqrt(jnp.where(there, square, 1)), 0)


def chances(forest: Forest, given: Array) -> Array:
    """Probability that each set is active, at most 1."""
    return jnp.minimum(over_roots(forest, given[forest.roots]), 1)


def over_roots(forest: Forest, each: Array) -> Array:
    """The sum over each set's roots, `(sets, ...)`, from a number for each root."""
    return sums(np.array(forest.sets)[forest.roots], each)


def sums(numbers: np.ndarray, x: Array) -> Array:
    """Sums of what has the same number, from 0; by rows, as a scatter is slow on a CPU."""
    parts = _padded([np.flatnonzero(numbers == k) for k in range(max(numbers) + 1)], x)
    return reduce(add, parts)


def alone(forest: Forest, given: Array) -> Array:
    """Probability that a feature is the only active one of its set, `(n, ...)`: 0 below a root."""
    if forest.independent:
        return given
    idle = 1 - given
    only = [jnp.zeros_like(given[0])] * len(forest.parent)
    for root in forest.roots:
        children = np.flatnonzero(np.array(forest.parent) == root)
        free = 1 - given[children].sum(0) if forest.exclusive else idle[children].prod(0)
        only[root] = given[root] * jnp.maximum(free, 0)
    return jnp.stack(only)
