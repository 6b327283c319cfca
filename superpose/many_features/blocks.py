"""Blocks of columns: a matrix `W` of shape (m, n) that is read piece by piece, in a stated memory.

`W` is anything with `shape`, `dtype` and slices `W[:, start:stop]`: a NumPy or jax array, a memory-mapped `.npy` file
(`numpy.load(path, mmap_mode="r")`), an HDF5 data set; or `Columns`, which makes its blocks by a function. Blocks are worked on
in float64 if `W` is float64, else in float32; sums over all columns are float64 either way. Every block is checked as it is
read: an entry that is not finite is refused, with the number of its column.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from superpose import weights

MEMORY = 2**30
"""Default memory in bytes, 1 GiB."""
WIDEST = 1024
"""Columns of a block at most on a CPU, where wider ones leave the cache; elsewhere 16 times as many."""


@runtime_checkable
class Source(Protocol):
    """What blocks are read from: `shape` is `(m, n)`, and `W[:, start:stop]` has shape `(m, stop - start)`."""

    @property
    def shape(self) -> Any:
        """`(m, n)`."""

    @property
    def dtype(self) -> Any:
        """A type of real numbers."""

    def __getitem__(self, key: Any, /) -> Any:
        """The columns that `key`, `(slice(None), slice(start, stop))`, asks for."""


@dataclass(frozen=True)
class Columns:
    """A matrix whose columns `start .. stop - 1` are `read(start, stop)`, shape `(m, stop - start)`.

    `read` must give a column the same value whichever block it comes in: blocks are read several times, and their bounds depend
    on the memory. For a file in the safetensors format, `part = file.get_slice(name)` gives `read = lambda a, b: part[:, a:b]`.
    """

    read: Callable[[int, int], Any]
    n: int
    m: int
    dtype: Any = np.float32

    @property
    def shape(self) -> tuple[int, int]:
        """`(m, n)`."""
        return self.m, self.n

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        """The columns that `key`, `(slice(None), slice(start, stop))`, asks for."""
        return self.read(key[1].start, key[1].stop)


def working_dtype(W: Source) -> np.dtype:
    """The type in which blocks of `W` are worked on: float64 or float32."""
    return np.dtype(np.float64 if np.dtype(W.dtype) == np.float64 else np.float32)


def check(W: Source) -> None:
    """Raise unless `W` is a matrix of real numbers, and warn if it looks transposed; values are checked as they are read.

    Raises:
        ValueError: `W` is not of shape (m, n) with m, n >= 1, or its type is not of real numbers.
    """
    weights.check(W)
    weights.warn_if_transposed(W)


def width(W: Source, memory: int, *, fixed: int = 0, each: int = 0, square: int = 0) -> int:
    """The most columns B of a block, with `fixed + each B + square B^2 <= memory`, all in bytes; at most n.

    Raises:
        ValueError: the memory does not hold one column.
    """
    room = memory - fixed
    if room < each + square:
        least = fixed + each + square
        raise ValueError(f"memory = {memory}: needs at least {least} bytes for W of shape {tuple(W.shape)}")
    fits = math.floor(2 * room / (each + math.sqrt(each**2 + 4 * square * room)))
    return min(fits, W.shape[1], WIDEST if jax.default_backend() == "cpu" else 16 * WIDEST)


def read(W: Source, start: int, width: int) -> Float[Array, "m width"]:
    """Columns `start .. start + width - 1` of `W`, in its working type; zeros beyond the last.

    Raises:
        ValueError: `W` gives a block of another shape, or one with an entry that is not finite in the working type.
    """
    stop = min(start + width, W.shape[1])
    block = _raw(W, start, stop)
    with jax.enable_x64(True):
        weights.check_finite(block, first=start)
        block = jnp.asarray(block)
        return block if stop - start == width else jnp.pad(block, ((0, 0), (0, start + width - stop)))


def _raw(W: Source, start: int, stop: int) -> Any:
    """Columns `start .. stop - 1` of `W` in its working type, where they are: a NumPy or jax array."""
    block, due = W[:, start:stop], (W.shape[0], stop - start)
    if np.shape(block) != due:
        raise ValueError(f"W[:, {start}:{stop}] has shape {np.shape(block)}: needs {due}")
    with jax.enable_x64(True), np.errstate(over="ignore"):
        return (jnp if isinstance(block, jax.Array) else np).asarray(block, working_dtype(W))


def finite(W: Source, step: int) -> Bool[np.ndarray, " n"]:
    """Which columns of `W` are finite in its working type, read in blocks of `step` columns."""
    n = W.shape[1]
    blocks = (np.asarray(_raw(W, start, min(start + step, n))) for start in range(0, n, step))
    return np.concatenate([np.isfinite(block).all(axis=0) for block in blocks])


def stream(W: Source, width: int, first: int = 0) -> Iterator[tuple[int, Float[Array, "m width"]]]:
    """Each block from column `first` on, with the place of its first column."""
    for start in range(first, W.shape[1], width):
        yield start, read(W, start, width)


def double(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit(function, **options)` with float64 at hand, whatever jax's own setting."""
    compiled = jax.jit(function, **options)

    @wraps(function)
    def call(*arguments: Any, **static: Any) -> Any:
        with jax.enable_x64(True):
            return compiled(*arguments, **static)

    return call


def directions(block: Float[Array, "m b"]) -> Float[Array, "m b"]:
    """`W_i_hat`, column by column; a zero column stays zero."""
    part = block / weights.power_of_two(block, axis=0)
    square = jnp.sum(part**2, axis=0, keepdims=True)
    return part / jnp.sqrt(jnp.where(square > 0, square, 1))
