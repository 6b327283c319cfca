"""Whether a point is a local minimum, judged by its gradient and the spectrum of its Hessian."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from superpose.solve.solution import CERTIFIED, NOT_FINITE, SADDLE, UNFINISHED


def judge(
    value: Float[Array, ""],
    gradient: Float[Array, " d"],
    eigenvalues: Float[Array, " d"],
    vectors: Float[Array, "d d"],
    *,
    tolerance: float,
    curvature_tolerance: float,
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The Newton decrement `g^T H^+ g / 2` on the directions that are not flat, and the reason."""
    size = jnp.abs(eigenvalues)
    flat = size <= curvature_tolerance * size.max()
    gap = jnp.sum(jnp.where(flat, 0, (vectors.T @ gradient) ** 2 / jnp.where(flat, 1, size))) / 2
    norm = jnp.linalg.norm(gradient)
    reason = jnp.where(norm <= tolerance, CERTIFIED, UNFINISHED)
    reason = jnp.where(eigenvalues[0] >= -curvature_tolerance * size.max(), reason, SADDLE)
    return gap, jnp.where(jnp.isfinite(value) & jnp.isfinite(norm), reason, NOT_FINITE)
