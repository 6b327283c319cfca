"""The lowest rung: read along each feature's own direction, and cut off what is small."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose.sae.ladder.inputs import check, check_number


def threshold(
    D: Float[Array, "m n"], h: Float[Array, " _"], t: Float[Array, ""] | Float[Array, " n"] | float
) -> Float[Array, " n"]:
    """`r(D_i . h / |D_i|^2 - t)`, r(y) = max(y, 0): 0 for a zero column.

    Args:
        D: directions of the features, in columns.
        h: one activation, shape (m,).
        t: threshold >= 0, one for all features or one for each.

    Raises:
        ValueError: shapes that do not fit, `h` with nan or inf, or a negative threshold.
    """
    check(D, h)
    check_number("t", t)
    square = jnp.sum(D**2, axis=0)
    return jax.nn.relu(D.T @ h / jnp.where(square > 0, square, 1) - t)
