"""Feature dimensionality of very many features, in two passes over `W`, shape (m, n), column i the direction of feature i."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from superpose.many_features.blocks import MEMORY, Source, directions, double, stream, width, working_dtype

STRIPS = 4
"""Triangular products are taken in this many strips: 5/8 of the work of a full product."""


def feature_dimensionality(W: Source, *, memory: int = MEMORY) -> Float[np.ndarray, " n"]:
    """Fraction of a dimension each feature gets: `D_i = |W_i|^2 / sum_j (W_i_hat . W_j)^2`, in [0, 1].

    As `superpose.interference.feature_dimensionality`, which holds W whole. Two passes: `M = W W^T`, summed in float64, and its
    triangular factor, `M = R^T R`; then the sum over j as `|R W_i_hat|^2`. Each takes 2 n m^2 operations if done in full;
    triangles and symmetry spare 3/8 of them.

    Relative error, with l the largest eigenvalue of M, eps that of W's type (6e-8 or 1e-16) and `s_i = |W_i|^2 / D_i`: about
    eps, plus `(eps^2 + 1e-16) l / s_i`. So in float32 a feature alone in its dimension keeps 4 digits where it is 10^5 times
    shorter than `l^(1/2)`; one that shares its direction with many others has `s_i` near `l` and keeps them all.

    Args:
        W: shape (m, n); column i is the direction of feature i; see `superpose.blocks`.
        memory: bytes to work in; at least 48 m^2.

    Returns:
        `D_i`, shape `(n,)`, 0 for a zero column, in the type the blocks are worked on.

    Raises:
        ValueError: a block of the wrong shape, or a memory that does not hold one column.
    """
    m, size = W.shape[0], working_dtype(W).itemsize
    step = width(W, memory, fixed=48 * m * m, each=m * (4 * size + 24))
    R, shares = _factor(W, step), []
    for _, block in stream(W, step):
        jax.block_until_ready(shares[-1:])  # only now: a block is read while the one before is worked on
        shares.append(_shares(R, block))
    return np.concatenate(shares)[: W.shape[1]]


def _factor(W: Source, step: int) -> Float[np.ndarray, "m m"]:
    """Upper triangular `R` with `R^T R = W W^T`, large rows first, so that small ones keep their digits."""
    m = W.shape[0]
    strips = [np.zeros((len(range(m)[rows]), m - rows.start)) for rows in _strips(m)]
    for _, block in stream(W, step):
        jax.block_until_ready(strips)
        strips = _add_products(strips, block)
    M = np.zeros((m, m))
    for rows, strip in zip(_strips(m), strips, strict=True):
        M[rows, rows.start :] = strip
    eigenvalues, vectors = np.linalg.eigh(M, UPLO="U")
    root = np.sqrt(np.maximum(eigenvalues[::-1], 0))[:, None] * vectors.T[::-1]
    return np.asarray(np.linalg.qr(root, mode="r"), working_dtype(W))


def _strips(m: int) -> list[slice]:
    step = -(-m // STRIPS)
    return [slice(start, min(start + step, m)) for start in range(0, m, step)]


@partial(double, donate_argnums=0)
def _add_products(strips: list[Float64[Array, "_ _"]], block: Float[Array, "m b"]) -> list[Float64[Array, "_ _"]]:
    """The strips of the upper triangle of `W W^T`, with one more block of W."""
    block = block.astype(jnp.float64)
    added = [jnp.matmul(block[rows], block[rows.start :].T, precision="highest") for rows in _strips(len(block))]
    return [strip + more for strip, more in zip(strips, added, strict=True)]


@double
def _shares(R: Float[Array, "m m"], block: Float[Array, "m b"]) -> Float[Array, " b"]:
    """`D_i` of each column of a block."""
    square, unit = jnp.sum(block**2, axis=0), directions(block)
    products = [jnp.matmul(R[rows, rows.start :], unit[rows.start :], precision="highest") for rows in _strips(len(block))]
    energy = sum(jnp.sum(product**2, axis=0) for product in products)
    return jnp.where(square > 0, square / jnp.where(square > 0, energy, 1), 0)
