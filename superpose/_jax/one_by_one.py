"""Factorisations of matrices that `vmap` runs one after the other on a CPU.

There JAX hands a batch of matrices to its threads in parts, and one of these very threads waits for the parts: with as many
programs at work as there are threads, all wait and none is left to compute. So a batch must not run beside another program,
and whatever a sweep may run comes from here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

Matrix = Float[Array, "rows columns"]


def _one_by_one(f: Callable[[Array], Any]) -> Callable[[Array], Any]:
    single = custom_vmap(f)

    @single.def_vmap
    def rule(size: int, batched: list, matrices: Array) -> tuple[Any, Any]:  # noqa: ARG001
        out = jax.lax.platform_dependent(matrices, cpu=partial(jax.lax.map, single), default=jax.vmap(f))
        return out, jax.tree.map(lambda _: True, out)

    return single


def eigh(matrix: Matrix) -> tuple[Float[Array, " rows"], Matrix]:
    """Eigenvalues, ascending, and eigenvectors, in columns, of a symmetric matrix; no derivative."""
    return _eigh(matrix)


def triangle(matrix: Matrix) -> Float[Array, "least columns"]:
    """R of the QR decomposition; no derivative."""
    return _triangle(matrix)


def singular_values(matrix: Matrix) -> Float[Array, " least"]:
    """Descending; no derivative."""
    return _singular_values(matrix)


_eigh = _one_by_one(lambda x: tuple(jnp.linalg.eigh(x)))
_triangle = _one_by_one(partial(jnp.linalg.qr, mode="r"))
_singular_values = _one_by_one(partial(jnp.linalg.svd, compute_uv=False))
