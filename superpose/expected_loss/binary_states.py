"""The exact loss of binary features, while their states can be listed.

Arrays are (input j, output i, ...), with any further axes.
"""

from itertools import product as cartesian

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose.expected_loss.sets import Sets, set_sums
from superpose.features import Magnitude

MOST_STATES = 1024
"""States up to which they are summed."""


def applies(sets: Sets, law: Magnitude) -> bool:
    """Whether this is the way: binary features of at most `MOST_STATES` states."""
    return law.constant and states(sets) is not None


def states(sets: Sets) -> np.ndarray | None:
    """All patterns of active features, shape `(states, n)`, or None if they are more than `MOST_STATES`."""
    n = len(sets.number)
    options = []
    for s in range(len(sets.chance)):
        mates = sets.number == s
        options.append([np.zeros(n, bool)] + ([mates] if sets.kind == "together" else list(np.eye(n, dtype=bool)[mates])))
    if np.prod([float(len(o)) for o in options]) > MOST_STATES:
        return None
    return np.array([np.any(choice, axis=0) for choice in cartesian(*options)])


def losses(sets: Sets, law: Magnitude, g: Array, b: Array, *, nodes: int) -> Array:  # noqa: ARG001
    """`sum_A P(A) (1[i in A] - r(b_i + sum_{j in A} g_ji))^2` over all patterns A; shape `(n, ...)`. There are no nodes."""
    patterns = states(sets)
    assert patterns is not None
    x = jnp.asarray(patterns, b.dtype)
    y = b[None] + jnp.tensordot(x, g, 1, precision="highest")
    error = _lifted(x, y) - jnp.maximum(y, 0)
    probability = _probabilities(sets, patterns)
    return (probability.reshape(-1, *(1,) * (y.ndim - probability.ndim), *probability.shape[1:]) * error**2).sum(0)


def losses_and_slopes(sets: Sets, law: Magnitude, g: Array, b: Array, *, nodes: int) -> tuple[Array, Array, Array]:
    """`losses`; their slopes in g_ij, `(j, i, ...)`; and in b_i, `(n, ...)`."""
    value, pull = jax.vjp(lambda g, b: losses(sets, law, g, b, nodes=nodes), g, b)
    return value, *pull(jnp.ones_like(value))  # an output depends on its own row and bias alone


def _lifted(x: Array, like: Array) -> Array:
    return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))


def _probabilities(sets: Sets, patterns: np.ndarray) -> Array:
    """`P(A)` of each pattern, shape `(states, ...)`."""
    on = np.array([[np.any(row & (sets.number == s)) for s in range(len(sets.chance))] for row in patterns])
    along = (1,) * (sets.chance.ndim - 1)
    if sets.kind == "together":
        active = sets.chance[None]
    else:
        chosen = jnp.where(patterns.reshape(*patterns.shape, *along), sets.density[None], 0)
        active = jnp.swapaxes(set_sums(sets, jnp.swapaxes(chosen, 0, 1)), 0, 1)
    return jnp.prod(jnp.where(on.reshape(*on.shape, *along), active, 1 - sets.chance[None]), axis=1)
