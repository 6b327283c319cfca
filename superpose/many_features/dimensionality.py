"""Feature dimensionality of very many features, in two passes over `W`, shape (m, n), column i the direction of feature i."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64

from superpose import weights
from superpose.many_features.blocks import MEMORY, Source, check, directions, double, stream, width, working_dtype

TINY = float(np.finfo(np.float64).tiny)
STRIPS = 4
"""Triangular products are taken in this many strips: 5/8 of the work of a full product."""


def feature_dimensionality(W: Source, *, memory: int = MEMORY) -> Float[np.ndarray, " n"]:
    """Fraction of a dimension each feature gets: `D_i = |W_i|^2 / sum_j (W_i_hat . W_j)^2`, in [0, 1].

    As `superpose.interference.feature_dimensionality`, which holds W whole. Two passes: `M = W W^T`, summed in float64, and its
    triangular factor, `M = R^T R`; then the sum over j as `|R W_i_hat|^2`. Each takes 2 n m^2 operations if done in full;
    triangles and symmetry spare 3/8 of them.

    Relative error, with l the largest eigenvalue of M, eps that of W's type (6e-8 or 1e-16) and `s_i = |W_i|^2 / D_i`: about
    eps, plus `(eps^2 + 1e-16) l / s_i`. So in float32 a feature alone in its dimension keeps 4 digits where it is 10^5 times
    shorter than `l^(1/2)`; one that shares its direction with many others has `s_i` near `l` and keeps them all. A warning names
    the features that keep less than two; `superpose.interference.describe`, which goes over all pairs, has no such error.

    Args:
        W: shape (m, n); column i is the direction of feature i; see `Source`.
        memory: bytes to work in; at least 48 m^2.

    Returns:
        `D_i`, shape `(n,)`, 0 for a zero column, in the type the blocks are worked on.

    Raises:
        ValueError: `W` is not a matrix of finite real numbers, a block has the wrong shape, or the memory does not hold one column.
    """
    check(W)
    m, size = W.shape[0], working_dtype(W).itemsize
    step = width(W, memory, fixed=48 * m * m, each=m * (4 * size + 24))
    R, scale, least = _factor(W, step)
    shares = []
    for _, block in stream(W, step):
        jax.block_until_ready(shares[-1:])  # only now: a block is read while the one before is worked on
        shares.append(_shares(R, block, scale, least))
    D, lost = (np.concatenate(x)[: W.shape[1]] for x in zip(*shares, strict=True))
    if lost.any():
        weights.warn(f"D_i is lost in rounding for {weights.listed(np.flatnonzero(lost))}, far shorter than others of W")
    return D


def capacity_bound(W: Source, *, memory: int = MEMORY) -> int:
    """`rank W`, the dimensions there are to share: `sum_i D_i <= rank W`.

    As `superpose.interference.capacity_bound`, which holds W whole: the rank counts the singular values above `max(m, n) eps`
    times the largest, eps that of W's working type. They are those of R, with `W^T = Q R`, found block by block in float64: a
    product `W W^T` would keep half their digits only.

    Args:
        W: shape (m, n); column i is the direction of feature i; see `Source`.
        memory: bytes to work in; at least 48 m^2.

    Raises:
        ValueError: as `feature_dimensionality`.
    """
    weights.check(W)
    m, dtype = W.shape[0], working_dtype(W)
    step = width(W, memory, fixed=48 * m * m, each=m * (4 * dtype.itemsize + 24))
    R, scale = np.zeros((m, m)), np.full((1, 1), TINY)
    for _, block in stream(W, step):
        jax.block_until_ready(R)
        R, scale = _triangle(R, scale, block)
    values = np.linalg.svd(np.asarray(R), compute_uv=False)
    return int(np.sum(values > max(W.shape) * np.finfo(dtype).eps * values[0]))


@partial(double, donate_argnums=0)
def _triangle(
    R: Float64[Array, "m m"], scale: Float64[Array, "1 1"], block: Float[Array, "m b"]
) -> tuple[Float64[Array, "m m"], Float64[Array, "1 1"]]:
    """R of W^T with one more block of W, in units of the scale that is now needed."""
    block = block.astype(jnp.float64)
    larger = jnp.maximum(scale, jnp.where(jnp.any(block != 0), weights.power_of_two(block), 0))
    return jnp.linalg.qr(jnp.concatenate([R * (scale / larger), block.T / larger]), mode="r"), larger


def _factor(W: Source, step: int) -> tuple[Float[np.ndarray, "m m"], Float[np.ndarray, "1 1"], float]:
    """Upper triangular `R` with `R^T R = W W^T / scale^2`, large rows first, so that small ones keep their digits.

    Also the scale, a power of two; and the least `|R W_i_hat|^2` of which two digits are left.
    """
    m = W.shape[0]
    strips, scale = [np.zeros((len(range(m)[rows]), m - rows.start)) for rows in _strips(m)], np.full((1, 1), TINY)
    for _, block in stream(W, step):
        jax.block_until_ready(strips)
        strips, scale = _add_products(strips, scale, block)
    M = np.zeros((m, m))
    for rows, strip in zip(_strips(m), strips, strict=True):
        M[rows, rows.start :] = strip
    eigenvalues, vectors = np.linalg.eigh(M, UPLO="U")
    root = np.sqrt(np.maximum(eigenvalues[::-1], 0))[:, None] * vectors.T[::-1]
    R = np.asarray(np.linalg.qr(root, mode="r"), working_dtype(W))
    return R, np.asarray(scale), 100 * ((np.finfo(R.dtype).eps / 2) ** 2 + 1e-16) * eigenvalues[-1]


def _strips(m: int) -> list[slice]:
    step = -(-m // STRIPS)
    return [slice(start, min(start + step, m)) for start in range(0, m, step)]


@partial(double, donate_argnums=0)
def _add_products(
    strips: list[Float64[Array, "_ _"]], scale: Float64[Array, "1 1"], block: Float[Array, "m b"]
) -> tuple[list[Float64[Array, "_ _"]], Float64[Array, "1 1"]]:
    """The strips of the upper triangle of `W W^T / scale^2`, with one more block of W; and the scale that is now needed."""
    block = block.astype(jnp.float64)
    larger = jnp.maximum(scale, jnp.where(jnp.any(block != 0), weights.power_of_two(block), 0))
    block, shrink = block / larger, (scale / larger) ** 2
    added = [jnp.matmul(block[rows], block[rows.start :].T, precision="highest") for rows in _strips(len(block))]
    return [shrink * strip + more for strip, more in zip(strips, added, strict=True)], larger


@double
def _shares(
    R: Float[Array, "m m"], block: Float[Array, "m b"], scale: Float64[Array, "1 1"], least: Float64[Array, ""]
) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
    """`D_i` of each column of a block, and for which of them it is lost."""
    column = weights.power_of_two(block, axis=0)
    part, unit = jnp.sqrt(jnp.sum((block / column) ** 2, axis=0)), directions(block)
    length = (part * (column[0] / scale[0])).astype(block.dtype)
    products = [jnp.matmul(R[rows, rows.start :], unit[rows.start :], precision="highest") for rows in _strips(len(block))]
    energy = sum(jnp.sum(product**2, axis=0) for product in products)
    whole = jnp.maximum(jnp.sqrt(energy), length)  # which it is at least, but for rounding
    return jnp.where(length > 0, length / jnp.where(length > 0, whole, 1), 0) ** 2, (part > 0) & (energy < least)
