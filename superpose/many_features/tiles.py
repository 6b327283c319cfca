"""All pairs of columns of `W`, shape (m, n), tile by tile: products of two blocks, each pair once."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from superpose.many_features.blocks import Source, directions, double, read, stream, width, working_dtype

BLOCKS, SQUARES = 5, 6
"""Copies of a block, and of a tile's products, that are in memory at once."""


class Tile(NamedTuple):
    """Two blocks of features, transposed, with the places i <= j of their first ones; the same block twice on the diagonal."""

    i: int
    rows: Float[Array, "b m"]
    j: int
    columns: Float[Array, "b m"]
    n: int


def tile_width(W: Source, memory: int) -> int:
    """Columns of the blocks that tiles are made of.

    Raises:
        ValueError: n < 2, a shape that is not (m, n), or a memory that does not hold one column.
    """
    if W.shape[-1] < 2:
        raise ValueError(f"n = {W.shape[-1]}, the columns of W: needs n >= 2, a pair to compare")
    size = working_dtype(W).itemsize
    return width(W, memory, each=BLOCKS * size * W.shape[0], square=SQUARES * size)


def tiles(W: Source, step: int, memory: int, *, unit: bool) -> Iterator[Tile]:
    """Tiles of `step` columns that hold each pair once; those with a given feature come in ascending order of the other.

    As many blocks as the memory holds stay in it, and those after them are read once for all of these. `unit`: columns are
    scaled to length 1.
    """
    (m, n), size = W.shape, working_dtype(W).itemsize
    room = memory - size * step * (BLOCKS * m + SQUARES * step)
    held = step * (1 + room // (size * step * m))
    for first in range(0, n, held):
        starts = range(first, min(first + held, n), step)
        panel = [(start, prepare(read(W, start, step), unit=unit)) for start in starts]
        for place, (i, rows) in enumerate(panel):
            for j, columns in panel[place:]:
                yield Tile(i, rows, j, columns, n)
        for j, block in stream(W, step, first + held):
            columns = prepare(block, unit=unit)
            for i, rows in panel:
                yield Tile(i, rows, j, columns, n)


def prepare(block: Float[Array, "m b"] | Float[np.ndarray, "m b"], *, unit: bool) -> Float[Array, "b m"]:
    """A block as tiles hold it: transposed, as the product is fastest so, and its columns at length 1 if `unit`.

    Raises:
        ValueError: as `scaled`.
    """
    return _turned_directions(block) if unit else scaled(block, unit=False).T


def scaled(block: Float[Array, "m b"] | Float[np.ndarray, "m b"], *, unit: bool) -> Float[Array, "m b"]:
    """Columns at length 1 if `unit`, else as they are.

    Raises:
        ValueError: not `unit`, and products of two such columns could overflow.
    """
    if unit:
        return _directions(block)
    with jax.enable_x64(True):
        top, kind = float(jnp.max(jnp.abs(block))), jnp.finfo(block.dtype)
        if top > (float(kind.max) / len(block)) ** 0.5:
            raise ValueError(
                f"unit = False with entries of W up to {top:.3g}: products overflow in {kind.dtype}; scale W down"
            )
        return jnp.asarray(block)


_directions = double(directions)
_turned_directions = double(lambda block: directions(block).T)


def products(tile: Tile, *, unit: bool) -> tuple[Float[Array, "b b"], Bool[Array, "b b"]]:
    """`W_i . W_j` of a tile, cosines cut off at +-1 if `unit`; and which entries are pairs i < j < n."""
    value = jnp.matmul(tile.rows, tile.columns.T, precision="highest")
    place = jnp.arange(len(value), dtype=jnp.int32)
    i, j = (tile.i + place)[:, None], (tile.j + place)[None, :]
    return jnp.clip(value, -1, 1) if unit else value, (i < j) & (j < tile.n)
