"""Sums over inputs of several arrays for all outputs, in one pass. Arrays are (input j, output i, ...)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


@jax.custom_jvp
def sums_of(arrays: list[Array]) -> list[Array]:
    """Each summed over its first axis, in one pass over all."""
    zeros = [jnp.zeros((), x.dtype) for x in arrays]
    return list(jax.lax.reduce(arrays, zeros, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (0,)))


@sums_of.defjvp
def _sums_of_jvp(primals: tuple[list], tangents: tuple[list]) -> tuple[list[Array], list[Array]]:
    """Tangents one by one: JAX transposes no reduction of several arrays."""
    return sums_of(*primals), [x.sum(0) for x in tangents[0]]
