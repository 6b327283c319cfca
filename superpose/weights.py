"""Matrices `W` as people bring them: what is refused, in one line, what looks transposed, and at which scale it is worked on.

`W` has shape (m, n); its column i is the direction of feature i. Shapes and types are known to a compiler and always checked.
Values are checked where they are at hand; inside `jit`, `vmap` or `grad` nothing can be raised, and functions say what they
return there.
"""

import inspect
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

NAMED = 5
"""Columns at most that a message lists."""


def check(W: Any, name: str = "W") -> None:
    """Raise unless `W` is one matrix of real numbers.

    Raises:
        ValueError: `W` is no array; its shape is not (m, n) with m, n >= 1; or its entries are text, dates, records, complex
            numbers or objects.
    """
    if not (hasattr(W, "shape") and hasattr(W, "dtype")):
        raise ValueError(f"{name} is a {type(W).__name__}: needs an array of shape (m, n)")
    if len(W.shape) != 2 or min(W.shape) < 1:
        raise ValueError(f"{name} has shape {tuple(W.shape)}: needs (m, n) with m, n >= 1, one matrix")
    real = any(jnp.issubdtype(W.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))
    if not real or np.dtype(W.dtype).kind == "m":  # to NumPy a length of time is an integer
        raise ValueError(f"{name} has entries of type {W.dtype}: needs real numbers, such as float32 or float64")


def check_finite(W: Any, name: str = "W", first: int = 0) -> None:
    """Raise if an entry of `W` is nan or infinite; what is being traced passes.

    Args:
        W: shape `(m, n)`, a NumPy or jax array.
        name: of the parameter.
        first: the number of its first column.

    Raises:
        ValueError: an entry is not finite; names the columns.
    """
    if isinstance(W, Tracer):
        return
    numbers = jnp if isinstance(W, jax.Array) else np
    with np.errstate(all="ignore"):
        if np.isfinite(numbers.sum(W)):  # one pass without a copy; a sum that overflows is looked at below
            return
    bad = np.flatnonzero(~np.asarray(numbers.isfinite(W).all(axis=0)))
    if len(bad):
        raise ValueError(f"{name} has nan or inf in {listed(bad + first)}: needs finite numbers")


def listed(columns: np.ndarray) -> str:
    """`column 3`, or `3 columns: 3, 7, 9`, the first of them."""
    if len(columns) == 1:
        return f"column {columns[0]}"
    more = ", .." if len(columns) > NAMED else ""
    return f"{len(columns)} columns: " + ", ".join(map(str, columns[:NAMED])) + more


def warn_if_transposed(W: Any, name: str = "W") -> None:
    """Warn if `W`, shape (m, n), has more dimensions than features: decoders often come as (features, d).

    Silent where `W` is being traced, as in a sweep; for square matrices, whose shape tells nothing; and for a single column.
    """
    m, n = W.shape
    if m > n > 1 and not isinstance(W, Tracer):
        text = f"{name} has shape (m, n) = ({m}, {n}), more dimensions than features: column i is the direction of feature i"
        text += f"; if its rows are the features, as in a decoder of shape (features, d), pass {name}.T"
        warn(text)


def warn(text: str) -> None:
    """Warn at the line that called the library: Python shows a warning once for each line."""
    depth, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "superpose":
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, stacklevel=depth)


def power_of_two(W: Float[Array, "m n"], axis: int | None = None) -> Float[Array, "_ _"]:
    """The power of two s with `s <= max |W_ki| < 2 s`, over all entries or, with `axis=0`, each column.

    Dividing by it is exact and lets squares neither overflow nor vanish. 1 where all entries are 0, nan where one is not
    finite; a constant to derivatives. Its axes are kept, with length 1.
    """
    top = jnp.max(jnp.abs(jax.lax.stop_gradient(W)), axis=axis, keepdims=True)
    mantissa, _ = jnp.frexp(top)
    return jnp.where(top == 0, 1, top / jnp.where(top == 0, 1, 2 * mantissa))


def unit(W: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """Columns of length 1, `W_i / |W_i|`; a column of length 0 stays, with a finite slope."""
    return W / jnp.sqrt(jnp.sum(W**2, axis=0) + jnp.finfo(W.dtype).tiny)[None]
