"""Thresholds above which so many latents lie. No sorting: on a CPU that takes tens of times as long as all else in a step."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

HALVINGS = 24
"""The threshold of a batch is found to within 2^-24 of the largest latent."""


def largest_in_columns(z: Float[Array, "L samples"], k: Float[Array, ""]) -> Float[Array, " samples"]:
    """The k-th largest number of each column of z >= 0, or 0; equal ones count once. In k passes over z."""

    def next_largest(_: Any, above: Array) -> Array:
        return jnp.max(jnp.where(z < above[None], z, 0), axis=0)

    return jax.lax.fori_loop(0, jnp.round(k).astype(jnp.int32), next_largest, jnp.full_like(z[0], jnp.inf))


def largest_in_all(z: Float[Array, "L samples"], k: Float[Array, ""]) -> Float[Array, ""]:
    """A threshold that `k samples` numbers of z >= 0 reach, found by halving: within 2^-24 of the largest below the exact one."""
    wanted = jnp.round(k * z.shape[1])

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        in_columns = jax.lax.optimization_barrier(jnp.sum((z >= middle).astype(z.dtype), axis=0))  # else one slow sum of all
        enough = jnp.sum(in_columns) >= wanted
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    most = jnp.max(z)
    return jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(most), most))[0]
