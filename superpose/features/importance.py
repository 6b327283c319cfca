"""How much each feature's error counts: the schedules of importances in use."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def geometric_importance(decay: Array | float, *, n: int) -> Float[Array, " n"]:
    """Importances `decay^i`, i = 0 .. n-1, shape `(n,)`; the schedule of "Toy Models of Superposition", section 3."""
    return jnp.asarray(decay, float) ** jnp.arange(n)


def power_law_importance(exponent: Array | float, *, n: int) -> Float[Array, " n"]:
    """Importances `(i + 1)^-exponent`, i = 0 .. n-1, shape `(n,)`."""
    return jnp.arange(1, n + 1, dtype=float) ** -jnp.asarray(exponent, float)


def last_importance(importance: Array | float, *, n: int) -> Float[Array, " n"]:
    """Importance 1 for all features but the last, which has `importance`; shape `(n,)`: the axis of a phase diagram."""
    return jnp.ones(n).at[-1].set(importance)
