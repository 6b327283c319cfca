"""The exact loss of binary features, while their states can be listed.

Arrays are (input j, output i, ...), with any further axes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose.expected_loss.groups import Groups, along, own_rows
from superpose.features import Magnitude, forest

MOST_STATES = 1024
"""States up to which they are summed."""


def applies(groups: Groups, law: Magnitude) -> bool:
    """Whether this is the way: u = 1, and at most `MOST_STATES` states."""
    return law.constant and _patterns(groups) is not None


def _patterns(groups: Groups) -> np.ndarray | None:
    """`states`; what stands for no target is never active."""
    return states(groups.coupling, idle=() if groups.targets else (0,))


def states(known: forest.Forest, *, idle: tuple[int, ...] = ()) -> np.ndarray | None:
    """All patterns of active features, shape `(states, n)`, or None if they are more than `MOST_STATES`; some sets are `idle`."""
    patterns = np.zeros((1, len(known.parent)), bool)
    last = known.certain.count(False) - len(idle)  # each of these can be the last one down the forest that is active
    if last >= MOST_STATES:
        return None
    for root in dict.fromkeys(known.sets):
        roots = [int(i) for i in known.roots if known.sets[i] == root]
        if root in idle:
            continue
        found = np.concatenate([np.zeros((1, len(known.parent)), bool), *(_below(known, i) for i in roots)])
        if len(patterns) * len(found) > MOST_STATES:
            return None
        patterns = (patterns[:, None] | found[None]).reshape(-1, patterns.shape[1])
    return patterns


def _below(known: forest.Forest, i: int) -> np.ndarray:
    """All patterns of what is below feature i and active with it, `(patterns, n)`; a few more than `MOST_STATES` at most."""
    n = len(known.parent)
    children = [j for j in range(n) if known.parent[j] == i]
    none = np.zeros((1, n), bool)
    if known.exclusive:
        found = np.concatenate([none, *(_below(known, j) for j in children)])
    else:
        found = none
        for j in children:
            both = _below(known, j) if known.certain[j] else np.concatenate([none, _below(known, j)])
            found = (found[:, None] | both[None]).reshape(-1, n)[: MOST_STATES + 1]
    return found | (np.arange(n) == i)[None]


def losses(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int) -> Array:  # noqa: ARG001
    """`sum_A P(A) (1[i in A] - r(b_i + sum_{j in A} g_ji))^2` over all patterns A; shape `(n, ...)`. There are no nodes."""
    patterns = _patterns(groups)
    assert patterns is not None
    x = jnp.asarray(patterns, b.dtype)
    y = b[None] + jnp.tensordot(x, g, 1, precision="highest")
    targets = jnp.asarray(patterns[:, own_rows(groups, len(b))], b.dtype)
    error = along(targets, y) - jnp.maximum(y, 0)
    probability = _probabilities(groups, patterns)
    return (probability.reshape(-1, *(1,) * (y.ndim - probability.ndim), *probability.shape[1:]) * error**2).sum(0)


def losses_and_slopes(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int) -> tuple[Array, Array, Array]:
    """`losses`; their slopes in g_ij, `(j, i, ...)`; and in b_i, `(n, ...)`."""
    value, pull = jax.vjp(lambda g, b: losses(groups, law, g, b, nodes=nodes), g, b)
    return value, *pull(jnp.ones_like(value))  # an output depends on its own row and bias alone


def pair_moments_and_slopes(
    groups: Groups,
    law: Magnitude,  # noqa: ARG001
    pair: tuple,
    *,
    nodes: int,  # noqa: ARG001
    line: bool,
) -> tuple[Array, tuple]:
    """`E r(y) r(z)`, or if `line` `E y r(z)`, of `y = c + g.x` and `z = d + h.x`, g and h of shape (n, pairs); and its slopes."""
    patterns = _patterns(groups)
    assert patterns is not None
    x, likely = jnp.asarray(patterns, pair[1].dtype), _probabilities(groups, patterns)

    def moments(pair: tuple) -> Array:
        y, z = (c[None] + jnp.tensordot(x, g, 1, precision="highest") for g, c in (pair[:2], pair[2:]))
        return (likely * (y if line else jnp.maximum(y, 0)) * jnp.maximum(z, 0)).sum(0)

    found, pull = jax.vjp(moments, pair)
    return found, *pull(jnp.ones_like(found))


def _probabilities(groups: Groups, patterns: np.ndarray) -> Array:
    """`P(A)` of each pattern, shape `(states, ...)`: of each feature whose parent is active, that it is or is not."""
    parent = np.array(groups.coupling.parent)
    free = np.where(parent[None] < 0, True, patterns[:, parent])  # whose parent is active
    likely, excluded = groups.given[None], forest.siblings(groups.coupling)
    axes = (1,) * (groups.given.ndim - 1)

    def of(mask: np.ndarray) -> np.ndarray:
        return mask.reshape(*mask.shape, *axes)

    on = jnp.where(of(patterns), likely, 1).prod(1)
    first = np.array([np.flatnonzero(row)[0] for row in excluded])  # one of each that exclude each other stands for all
    total = jnp.tensordot(jnp.asarray(excluded, groups.given.dtype), groups.given, 1)[None]
    nobody = free & ~((patterns.astype(int) @ excluded.astype(int)) > 0) & (first == np.arange(len(parent)))[None]
    return on * jnp.where(of(nobody), jnp.maximum(1 - total, 0), 1).prod(1)
