"""Which features interfere most: nearest neighbours, top pairs and coherence of `W`, shape (m, n), column i feature i."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from superpose.many_features.blocks import MEMORY, Source, check, double, working_dtype
from superpose.many_features.tiles import Tile, products, tile_width, tiles


class Neighbours(NamedTuple):
    """For each feature the other one that interferes most, its `index`, and the `value`; both of shape `(n,)`."""

    index: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]


class Pairs(NamedTuple):
    """Pairs of features `i < j`, the most interfering first, with their `value`; each of shape `(k,)`."""

    i: Int[np.ndarray, " k"]
    j: Int[np.ndarray, " k"]
    value: Float[np.ndarray, " k"]


def nearest_neighbours(W: Source, *, signed: bool = False, unit: bool = True, memory: int = MEMORY) -> Neighbours:
    """For each feature i the j != i with the largest `|W_i_hat . W_j_hat|`, and that cosine with its sign.

    Takes n^2 m operations. Of equal ones the lowest j counts; a zero column has cosine 0 with every other.

    Args:
        W: shape (m, n), n >= 2; column i is the direction of feature i; see `Source`.
        signed: the largest cosine instead, as only positive overlap hurts nonnegative features.
        unit: False for interference `W_i . W_j` in place of cosines.
        memory: bytes to work in.

    Raises:
        ValueError: n < 2, `W` is not a matrix of finite real numbers, a block has the wrong shape, the memory does not hold one
            column, or products overflow.
    """
    check(W)
    step, n = tile_width(W, memory), W.shape[1]
    size = -(-n // step) * step
    state = (np.full(size, -np.inf, working_dtype(W)), np.zeros(size, working_dtype(W)), np.zeros(size, np.int32))
    for tile in tiles(W, step, memory, unit=unit):
        jax.block_until_ready(state)  # only now: a block is read while the tile before is worked on
        state = _nearer(state, tile, signed=signed, unit=unit)
    _, value, index = (np.asarray(x)[:n] for x in state)
    return Neighbours(index, value)


@partial(double, static_argnames=("signed", "unit"), donate_argnums=0)
def _nearer(state: tuple[Array, ...], tile: Tile, *, signed: bool, unit: bool) -> tuple[Array, ...]:
    """The nearest neighbours with one more tile: first for its columns, as theirs come before them, then for its rows."""
    value, score = _scored(tile, signed=signed, unit=unit)
    b = jnp.arange(len(score), dtype=jnp.int32)
    above, left = jnp.max(score, axis=0), jnp.max(score, axis=1)
    row = jnp.min(jnp.where(score == above[None, :], b[:, None], len(b) - 1), axis=0)
    column = jnp.min(jnp.where(score == left[:, None], b[None, :], len(b) - 1), axis=1)
    state = _improve(state, tile.j, (above, value[row, b], tile.i + row))
    return _improve(state, tile.i, (left, value[b, column], tile.j + column))


def _improve(state: tuple[Array, ...], place: Any, new: tuple[Array, ...]) -> tuple[Array, ...]:
    """The state of the features from `place` on, with `new` scores, values and neighbours where the score is larger."""
    old = tuple(jax.lax.dynamic_slice_in_dim(x, place, len(new[0])) for x in state)
    kept = tuple(jnp.where(new[0] > old[0], x, y) for x, y in zip(new, old, strict=True))
    return tuple(jax.lax.dynamic_update_slice_in_dim(x, y, place, 0) for x, y in zip(state, kept, strict=True))


def _scored(tile: Tile, *, signed: bool, unit: bool) -> tuple[Float[Array, "b b"], Float[Array, "b b"]]:
    """Values of a tile, and what they are judged by: -inf where there is no pair."""
    value, pair = products(tile, unit=unit)
    return value, jnp.where(pair, value if signed else jnp.abs(value), -jnp.inf)


def top_pairs(W: Source, k: int = 1, *, signed: bool = False, unit: bool = True, memory: int = MEMORY) -> Pairs:
    """The k pairs `i < j` with the largest `|W_i_hat . W_j_hat|`, largest first, and those cosines with their sign.

    Takes n^2 m operations. Of equal pairs the one with the lowest i, then the lowest j, comes first.

    Args:
        W: shape (m, n), n >= 2; column i is the direction of feature i; see `Source`.
        k: how many, 1 to n (n - 1) / 2.
        signed: the largest cosines instead.
        unit: False for interference `W_i . W_j` in place of cosines.
        memory: bytes to work in.

    Raises:
        ValueError: k out of range, or as `nearest_neighbours`.
    """
    check(W)
    step, n = tile_width(W, memory), W.shape[1]
    if not 1 <= k <= n * (n - 1) // 2:
        raise ValueError(f"k = {k}: needs 1 to {n * (n - 1) // 2}, the pairs of n = {n} features")
    none = np.full(k, n, np.int32)
    state = (np.full(k, -np.inf, working_dtype(W)), none, none, np.zeros(k, working_dtype(W)))
    for tile in tiles(W, step, memory, unit=unit):
        jax.block_until_ready(state)
        state = _merge(state, tile, signed=signed, unit=unit)
    return Pairs(*(np.asarray(x) for x in state[1:]))


@partial(double, static_argnames=("signed", "unit"))
def _merge(state: tuple[Array, ...], tile: Tile, *, signed: bool, unit: bool) -> tuple[Array, ...]:
    """The top pairs with one more tile: most tiles have none, and cost no more than a comparison."""
    value, score = _scored(tile, signed=signed, unit=unit)
    best = jnp.max(score, axis=1)

    def merged() -> tuple[Array, ...]:
        joined = [jnp.concatenate(x) for x in zip(state, _top(tile, value, score, best, len(state[0])), strict=True)]
        order = jnp.lexsort((joined[2], joined[1], -joined[0]))[: len(state[0])]
        return tuple(x[order] for x in joined)

    return jax.lax.cond(jnp.max(best) >= state[0][-1], merged, lambda: state)


def _top(
    tile: Tile, value: Float[Array, "b b"], score: Float[Array, "b b"], best: Float[Array, " b"], k: int
) -> tuple[Array, ...]:
    """The first k entries of a tile by score, row, column: they lie in the first k rows by largest score."""
    b = len(best)
    rows = jnp.sort(jax.lax.top_k(best, min(k, b))[1])
    top, flat = jax.lax.top_k(score[rows].ravel(), min(k, len(rows) * b))
    row, column = rows[flat // b], (flat % b).astype(jnp.int32)
    return top, row.astype(jnp.int32) + tile.i, column + tile.j, value[row, column]


def coherence(W: Source, *, memory: int = MEMORY) -> float:
    """Mutual coherence `max_{i != j} |W_i_hat . W_j_hat|`, in [0, 1]; n^2 m operations, see `top_pairs`."""
    return abs(float(top_pairs(W, memory=memory).value[0]))


def signed_coherence(W: Source, *, memory: int = MEMORY) -> float:
    """`max_{i != j} W_i_hat . W_j_hat`, in [-1, 1]; n^2 m operations, see `top_pairs`."""
    return float(top_pairs(W, signed=True, memory=memory).value[0])
