"""Which restarts ended in the same basin: told apart by their loss."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def basins(
    losses: Float[Array, " r"], converged: Bool[Array, " r"], *, tolerance: float = 1e-6
) -> tuple[Int[Array, " r"], Int[Array, " r"]]:
    """Sort restarts into basins by their loss: two converged restarts share one if no gap above `tolerance` parts them.

    Args:
        losses: one loss a restart, shape `(r,)`; what is not finite counts as not converged.
        converged: whether each restart converged, shape `(r,)`.
        tolerance: largest gap within a basin, relative to the lowest loss.

    Returns:
        The basin of each restart, 0 the lowest, -1 where it did not converge; and how often each basin was reached, `(r,)`,
        filled up with zeros.
    """
    converged = converged & jnp.isfinite(losses)
    keyed = jnp.where(converged, losses, jnp.inf)
    order = jnp.argsort(keyed)
    ranked = keyed[order]
    gap = ranked[1:] > ranked[:-1] + tolerance * jnp.abs(ranked[0])
    number = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(gap.astype(jnp.int32))])
    basin = jnp.zeros_like(number).at[order].set(number)
    basin = jnp.where(converged, basin, -1)
    return basin, (basin[None, :] == jnp.arange(len(losses))[:, None]).sum(1).astype(jnp.int32)
