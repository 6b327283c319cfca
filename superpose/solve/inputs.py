"""What a user hands to a minimiser: a loss of one or two arguments, one start or many, data or none."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def takes_data(loss: Callable, data: Any) -> bool:
    """Whether `loss` is called with data: where data are given, or where it has two arguments without a default."""
    if data is not None:
        return True
    try:
        parameters = inspect.signature(loss).parameters.values()
    except ValueError:  # no signature is known of it
        return True
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) > 1


def check(starts: Any) -> None:
    """Raise a ValueError unless there are starts, of floats."""
    leaves = jax.tree.leaves(starts)
    if not leaves or 0 in {x.size for x in leaves}:
        raise ValueError("starts is empty: needs at least one start")
    if wrong := [x.dtype for x in leaves if not jnp.issubdtype(x.dtype, jnp.floating)]:
        raise ValueError(f"starts has dtype {wrong[0]}: needs floats")


def is_single(loss: Callable[[Any, Any], Any], tree: Any, shapes: Sequence[jax.ShapeDtypeStruct]) -> bool:
    """Whether starts are one start: `loss` refuses the rows of their leading axis and takes them as they are.

    Args:
        loss: of parameters and data.
        tree: the structure of (starts, data).
        shapes: of its leaves.

    Raises:
        ValueError: a loss that returns no scalar, or starts and data with different numbers of rows.
        Exception: what the loss itself raises for rows, where it does not take the whole either.
    """

    def result(shapes: Sequence[jax.ShapeDtypeStruct]) -> Any:
        """The shape of the loss, or what it raises."""
        try:
            return jax.eval_shape(lambda *leaves: loss(*jax.tree.unflatten(tree, leaves)), *shapes)
        except Exception as error:
            return error

    with_rows = all(x.shape for x in shapes)
    rows = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in shapes if x.shape]
    of_rows = result(rows) if with_rows else ValueError("starts, data: need a leading axis, of starts")
    if getattr(of_rows, "shape", None) == ():
        counts = [x.shape[0] for x in shapes]
        if len(set(counts)) > 1:
            raise ValueError(f"starts, data have leading axes of {counts}: need one row for each start")
        return False
    if getattr(result(shapes), "shape", None) == ():
        return True
    if isinstance(of_rows, Exception):
        raise of_rows
    raise ValueError(f"loss returns {jax.tree.map(lambda x: x.shape, of_rows)}: needs a scalar")
