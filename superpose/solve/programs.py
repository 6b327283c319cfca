"""Compiled minimisations, kept from call to call: of one start or many, with data or without."""

from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from superpose.solve import inputs

PROGRAMS = 64
"""Compiled minimisations that are kept, with what their losses hold on to; the least recently used goes first."""

Losses = tuple[Any, ...]


def run(search: Callable, losses: Losses, settings: Hashable, starts: Any, data: Any) -> Any:
    """`search(losses, settings, starts, data)`, compiled once for the same search, losses, settings and shapes.

    Args:
        search: from losses of parameters and data, and starts and data with a leading axis, to arrays with that axis.
        losses: as a user gave them, with or without data; the first is not None.
        settings: what else a program is compiled for.
        starts: many starts, or one without the leading axis.
        data: one row for each start, or None.

    Raises:
        ValueError: no starts, none of floats, data of another number of rows, or a loss that is no scalar.
    """
    starts, data = jax.tree.map(jnp.asarray, (starts, data))
    inputs.check(starts)
    leaves, tree = jax.tree.flatten((starts, data))
    program = _runner if any(isinstance(x, Tracer) for x in leaves) else _program
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    return program(search, losses, inputs.takes_data(losses[0], data), settings, tree, shapes)(starts, data)


@lru_cache(maxsize=PROGRAMS)
def _program(*what: Any) -> Callable[[Any, Any], Any]:
    return jax.jit(_runner(*what))


def _runner(
    search: Callable, losses: Losses, with_data: bool, settings: Hashable, tree: Any, shapes: tuple
) -> Callable[[Any, Any], Any]:
    """The minimisation of one loss for inputs of these shapes: a function of starts and data."""
    if not with_data:
        losses = tuple(None if loss is None else partial(_alone, loss) for loss in losses)
    single = inputs.is_single(losses[0], tree, shapes)

    def run(starts: Any, data: Any) -> Any:
        if not single:
            return search(losses, settings, starts, data)
        starts, data = jax.tree.map(lambda x: x[None], (starts, data))
        return jax.tree.map(lambda x: x[0], search(losses, settings, starts, data))

    return run


def _alone(loss: Callable, params: Any, data: None) -> Any:  # noqa: ARG001
    return loss(params)
