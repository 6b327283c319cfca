"""Which features share a dimension with which: the strongest partners of each column of `W`, shape (m, n), and what they bring."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from superpose import weights
from superpose.many_features.blocks import MEMORY, Source, check, double, stream, working_dtype
from superpose.many_features.tiles import Tile, products, tile_width, tiles

ROUNDINGS = 64
"""Two columns stand in one direction if their cosine is within so many roundings of 1."""


class Partners(NamedTuple):
    """What each feature shares its dimensions with; places and values are those of the features, in their order.

    Args:
        length: `|W_i|`.
        index: the k partners with the largest share, that first; -1 where there are fewer that overlap. Shares that differ by less
            than 1e-7 may change places.
        cosine: `W_i_hat . W_j_hat` with each, 0 where there is none.
        share: the part `(W_i_hat . W_j)^2 / S_i` of the whole interference that each brings, in [0, 1].
        interference: the whole, `S_i / |W_i|^2` with `S_i = sum_{j != i} (W_i_hat . W_j)^2`; so `D_i = 1 / (1 + S_i / |W_i|^2)`.
        coherence: the largest `|W_i_hat . W_j_hat|` of each, in [0, 1].
        twin: the lowest feature that stands in the same direction, up to a positive factor and 64 roundings of the cosine; i
            itself if there is none below it.
    """

    length: Float64[np.ndarray, " n"]
    index: Int[np.ndarray, "n k"]
    cosine: Float[np.ndarray, "n k"]
    share: Float[np.ndarray, "n k"]
    interference: Float64[np.ndarray, " n"]
    coherence: Float[np.ndarray, " n"]
    twin: Int[np.ndarray, " n"]


class _State(NamedTuple):
    """What the tiles have brought so far: scores, cosines and places of the best k, `S_i^(1/2)`, largest cosines, twins."""

    score: Any
    cosine: Any
    index: Any
    whole: Any
    largest: Any
    twin: Any


def strongest_partners(W: Source, k: int = 5, *, memory: int = MEMORY) -> Partners:
    """For each feature i the k others with the largest `(W_i_hat . W_j)^2`, what each brings, and what all bring together.

    Takes n^2 m operations. Of equal ones the lowest j comes first. A zero column has no partners, and is none. Overlaps have the
    rounding errors of cosines: eps, relative to `|W_j|`.

    Args:
        W: shape (m, n), n >= 2; column i is the direction of feature i; see `Source`.
        k: how many, >= 1; n - 1 if there are no more.
        memory: bytes to work in.

    Raises:
        ValueError: k out of range, n < 2, `W` is not a matrix of finite real numbers, a block has the wrong shape, or the memory
            does not hold one column.
    """
    check(W)
    if k < 1:
        raise ValueError(f"k = {k}: needs at least 1")
    step, n, dtype = tile_width(W, memory), W.shape[1], working_dtype(W)
    k, size = min(k, n - 1), -(-n // step) * step
    length = np.zeros(size)
    length[:n] = _all_lengths(W, step)
    weight = (length / (length.max() or 1)).astype(dtype)
    best = (np.full((size, k), -np.inf, dtype), np.zeros((size, k), dtype), np.full((size, k), -1, np.int32))
    state = _State(*best, np.zeros(size), np.zeros(size, dtype), np.arange(size, dtype=np.int32))
    for tile in tiles(W, step, memory, unit=True):
        jax.block_until_ready(state)  # only now: a block is read while the tile before is worked on
        state = _add_tile(state, tile, weight)
    return _finished(_State(*(np.asarray(x)[:n] for x in state)), length[:n], float(length.max()) or 1.0)


def _all_lengths(W: Source, step: int) -> Float64[np.ndarray, " n"]:
    """`|W_i|`, shape `(n,)`, in float64."""
    parts = []
    for _, block in stream(W, step):
        jax.block_until_ready(parts[-1:])
        parts.append(_lengths(block))
    return np.concatenate(parts)[: W.shape[1]]


@double
def _lengths(block: Float[Array, "m b"]) -> Float64[Array, " b"]:
    scale = weights.power_of_two(block, axis=0)
    return jnp.sqrt(jnp.sum((block / scale) ** 2, axis=0).astype(jnp.float64)) * scale[0]


@partial(double, donate_argnums=0)
def _add_tile(state: _State, tile: Tile, weight: Float[Array, " size"]) -> _State:
    """The state with one more tile: first for its columns, as their partners come before them, then for its rows."""
    value, pair = products(tile, unit=True)
    value = jnp.where(pair, value, 0)
    state = _add_rows(state, value.T, tile.j, tile.i, weight, later=True)
    return _add_rows(state, value, tile.i, tile.j, weight, later=False)


def _add_rows(state: _State, value: Float[Array, "b b"], i: Any, j: Any, weight: Array, *, later: bool) -> _State:
    """The state of features i, i + 1, .. with cosines to features j, j + 1, ..; `later`: the others come before them."""
    b, k = len(value), state.index.shape[1]
    old = _State(*(jax.lax.dynamic_slice_in_dim(x, i, b) for x in state))
    score = jnp.abs(value) * jax.lax.dynamic_slice_in_dim(weight, j, b)[None, :]
    unit = jnp.max(score, axis=1, keepdims=True)
    unit = jnp.where(unit > 0, unit, 1)
    ratio = score / unit  # so that no square vanishes
    _, place = jax.lax.top_k(ratio.astype(jnp.float32), min(k, b))  # of float64 XLA would sort all
    new = (*(jnp.take_along_axis(x, place, axis=1) for x in (score, value)), place.astype(jnp.int32) + j)
    joined = [jnp.concatenate(x, axis=1) for x in zip(old[:3], new, strict=True)]
    _, order = jax.lax.top_k(joined[0], k)
    part = unit[:, 0] * jnp.sqrt(jnp.sum(ratio**2, axis=1))
    whole = jnp.hypot(old.whole, part.astype(jnp.float64))
    largest = jnp.maximum(old.largest, jnp.max(jnp.abs(value), axis=1))
    twin = old.twin
    if later:
        same = value >= 1 - ROUNDINGS * jnp.finfo(value.dtype).eps
        first = jnp.where(same.any(axis=1), jnp.argmax(same, axis=1).astype(jnp.int32) + j, twin)
        twin = jnp.minimum(twin, first)
    best = [jnp.take_along_axis(x, order, axis=1) for x in joined]
    kept = _State(best[0], best[1], best[2], whole, largest, twin)
    return _State(*(jax.lax.dynamic_update_slice_in_dim(x, y, i, 0) for x, y in zip(state, kept, strict=True)))


def _finished(state: _State, length: Float64[np.ndarray, " n"], longest: float) -> Partners:
    none = ~(state.score > 0)
    whole = np.where(state.whole > 0, state.whole, 1)
    share = np.where(none, 0, np.minimum(state.score / whole[:, None], 1) ** 2)
    with np.errstate(over="ignore", divide="ignore"):
        interference = (state.whole / np.where(length > 0, length / longest, 1)) ** 2
    index, cosine = np.where(none, -1, state.index), np.where(none, 0, state.cosine)
    return Partners(length, index, cosine, share, interference, state.largest, state.twin)
