"""The continuous symmetry of a tied model: rotations of its hidden space, along which the Hessian of a loss is 0."""

from typing import Any

import jax.numpy as jnp

from superpose._jax.one_by_one import eigh


def without_rotations(params: Any, direction: Any) -> Any:
    """A direction less its part along rotations of `params.W`, (m, n), which leave a loss of `W^T W` as it is.

    Rotations move W by `A W` with A antisymmetric. The nearest of these to V has `A S + S A = V W^T - W V^T`, `S = W W^T`.
    """
    W, V = params.W, direction.W
    size, axes = eigh(W @ W.T)
    turning = axes.T @ (V @ W.T - W @ V.T) @ axes
    both = size[:, None] + size[None, :]
    known = both > jnp.finfo(both.dtype).eps * size[-1]
    along = jnp.where(known, turning / jnp.where(known, both, 1), 0)
    return direction.replace(W=V - axes @ along @ (axes.T @ W))
