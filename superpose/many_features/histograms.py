"""How interference is distributed over the pairs of columns of `W`, shape (m, n), column i feature i."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int, Key

from superpose.many_features.blocks import MEMORY, Source, check, double, read, stream, width, working_dtype
from superpose.many_features.tiles import Tile, prepare, products, scaled, tile_width, tiles


class Histogram(NamedTuple):
    """`counts` of pairs, `(bins,)`, between `edges`, `(bins + 1,)`, and the counts' `standard_error`, 0 where all are counted."""

    edges: Float64[np.ndarray, " edges"]
    counts: Float64[np.ndarray, " bins"]
    standard_error: Float64[np.ndarray, " bins"]


def histogram(W: Source, *, bins: int = 200, limit: float = 1.0, unit: bool = True, memory: int = MEMORY) -> Histogram:
    """How many of the n (n - 1) / 2 pairs have a cosine in each of `bins` equal parts of [-limit, limit].

    Takes n^2 m operations; for very large n take `sampled_histogram`. A part includes its lower edge, to rounding; the first
    and the last also take what lies beyond, so the counts add up to all pairs.

    Args:
        W: shape (m, n), n >= 2; column i is the direction of feature i; see `Source`.
        bins: number of parts, >= 1.
        limit: end of the range, > 0.
        unit: False for interference `W_i . W_j` in place of cosines.
        memory: bytes to work in.

    Raises:
        ValueError: bins or limit out of range, n < 2, `W` is not a matrix of finite real numbers, a block has the wrong shape, the
            memory does not hold one column, or products overflow.
    """
    check(W)
    edges = _edges(bins, limit)
    step, counts = tile_width(W, memory), np.zeros(bins, np.int64)
    for tile in tiles(W, step, memory, unit=unit):
        jax.block_until_ready(counts)  # only now: a block is read while the tile before is worked on
        counts = _add_counts(counts, tile, limit, unit=unit)
    return Histogram(edges, np.asarray(counts, np.float64), np.zeros(bins))


def sampled_histogram(
    W: Source,
    key: Key[Array, ""],
    *,
    probes: int = 1000,
    bins: int = 200,
    limit: float = 1.0,
    unit: bool = True,
    memory: int = MEMORY,
) -> Histogram:
    """`histogram` estimated from some features, the probes, each with all others.

    With `h_i` the histogram of feature i with the n - 1 others, and s probes drawn without replacement, the counts are
    `n/2 mean h_i`, unbiased, and their standard error is `n/2 (1 - s/n)^(1/2) std(h_i) / s^(1/2)`; both are exact for s = n. A
    bin that few probes meet has a standard error as uncertain as its count: 0 where none does. Takes 2 n m s operations.

    Args:
        W: shape (m, n), n >= 2; column i is the direction of feature i; see `Source`.
        key: jax random key, from which the probes are drawn.
        probes: their number, 2 to n.
        bins: number of parts, >= 1.
        limit: end of the range, > 0.
        unit: False for interference `W_i . W_j` in place of cosines.
        memory: bytes to work in; the probes and their histograms are part of it.

    Raises:
        ValueError: probes, bins or limit out of range, or as `histogram`.
    """
    check(W)
    edges, (m, n), size = _edges(bins, limit), W.shape, working_dtype(W).itemsize
    if not 2 <= probes <= n:
        raise ValueError(f"probes = {probes}: needs 2 to n = {n}")
    fixed, each = 3 * size * m * probes + 40 * bins * probes, size * (4 * m + 6 * probes)
    step = width(W, memory, fixed=fixed, each=each)
    places = np.sort(np.asarray(jax.random.choice(key, n, (probes,), replace=False)))
    chosen = prepare(_columns(W, places, step), unit=unit)
    counts = np.zeros((probes, bins), np.int64)
    for start, block in stream(W, step):
        jax.block_until_ready(counts)
        counts = _add_probe_counts(counts, chosen, places, start, scaled(block, unit=unit), n, limit)
    each_probe = np.asarray(counts, np.float64)
    error = np.std(each_probe, axis=0, ddof=1) * math.sqrt((1 - probes / n) / probes)
    return Histogram(edges, n / 2 * each_probe.mean(axis=0), n / 2 * error)


def _edges(bins: int, limit: float) -> Float64[np.ndarray, " edges"]:
    if bins < 1:
        raise ValueError(f"bins = {bins}: needs at least 1")
    if not 0 < limit < math.inf:
        raise ValueError(f"limit = {limit}: needs to be positive and finite")
    return np.linspace(-limit, limit, bins + 1)


def _columns(W: Source, places: Int[np.ndarray, " s"], step: int) -> Float[np.ndarray, "m s"]:
    """Columns of `W` at ascending places; only blocks that hold one are read."""
    chosen = np.empty((W.shape[0], len(places)), working_dtype(W))
    for start in np.unique(places // step) * step:
        inside = (places >= start) & (places < start + step)
        chosen[:, inside] = np.asarray(read(W, int(start), step))[:, places[inside] - start]
    return chosen


@partial(double, static_argnames="unit", donate_argnums=0)
def _add_counts(counts: Int[Array, " bins"], tile: Tile, limit: Float[Array, ""], *, unit: bool) -> Int[Array, " bins"]:
    value, pair = products(tile, unit=unit)
    return counts + _count(value.ravel(), pair.ravel(), limit, len(counts))


@partial(double, donate_argnums=0)
def _add_probe_counts(
    counts: Int[Array, "s bins"],
    chosen: Float[Array, "s m"],
    places: Int[Array, " s"],
    start: Int[Array, ""],
    block: Float[Array, "m b"],
    n: Int[Array, ""],
    limit: Float[Array, ""],
) -> Int[Array, "s bins"]:
    value = jnp.matmul(chosen, block, precision="highest")
    j = start + jnp.arange(value.shape[1], dtype=jnp.int32)
    pair = (places.astype(jnp.int32)[:, None] != j[None, :]) & (j < n)[None, :]
    return counts + jax.vmap(lambda v, p: _count(v, p, limit, counts.shape[1]))(value, pair)


def _count(value: Float[Array, " k"], pair: Bool[Array, " k"], limit: Float[Array, ""], bins: int) -> Int[Array, " bins"]:
    """How many of the values that are pairs lie in each bin."""
    place = jnp.clip(jnp.floor((value / limit + 1) * (bins / 2)), 0, bins - 1).astype(jnp.int32)
    counts = jnp.zeros(bins + 1, jnp.int32).at[jnp.where(pair, place, bins)].add(1, mode="promise_in_bounds")
    return counts[:bins]
