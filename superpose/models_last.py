"""Functions of one model that `vmap` runs with the models on the last axis, where vector units can run along them.

`vmap` puts a new axis first. A toy model of five features has rows of five numbers, too few for a vector register; with the
models last, every operation runs along all of them. `models_last` says so once: single functions are written with a trailing
axis of models, and `vmap` of the result, once or nested, adds to that axis.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array

MOST = 2**14
"""Numbers in the largest argument that are worked on at once: more would fall out of the cache."""


ROUND = 32
"""Models in a part are a multiple of this where they can be: whole vector registers."""


def models_last(core: Callable[..., Any], *, most: int = MOST) -> Callable[..., Any]:
    """`f(varied, fixed)` on one model, from `core(varied, fixed)` on arrays with a trailing axis of models.

    `varied` and `fixed` are tuples of arrays, the largest of at most `most` numbers at a time, or one model. `f` has a forward
    derivative in `varied`, none in `fixed`, and no reverse one.
    """
    core = jax.jit(core)

    def chunked(varied: tuple, fixed: tuple) -> Any:
        return _in_chunks(core, (varied, fixed), most)

    def pushed(varied: tuple, moves: tuple, fixed: tuple) -> Any:
        """Values, and tangents for each of `moves`, which lead with an axis of directions."""

        def along(move: tuple) -> Any:
            return jax.jvp(lambda *x: core(x, fixed), varied, move)

        return jax.vmap(along, out_axes=(None, 0))(moves)

    primal, tangent = custom_vmap(chunked), custom_vmap(pushed)

    @primal.def_vmap
    def primal_rule(size: int, mapped: list, varied: tuple, fixed: tuple) -> tuple[Any, Any]:
        merged = jax.tree.map(lambda x, on: _merge(x, on, size), (varied, fixed), tuple(mapped))
        out = jax.tree.map(lambda x: _part(x, size), primal(*merged))
        return out, jax.tree.map(lambda _: True, out)

    @tangent.def_vmap
    def tangent_rule(size: int, mapped: list, varied: tuple, moves: tuple, fixed: tuple) -> tuple[Any, Any]:
        if not any(jax.tree.leaves((mapped[0], mapped[2]))):  # more directions for the same models
            longer = jax.tree.map(lambda x, on: _lengthen(x, on, size), moves, tuple(mapped[1]))
            value, slope = tangent(varied, longer, fixed)
            slope = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), slope)
            return (value, slope), (jax.tree.map(lambda _: False, value), jax.tree.map(lambda _: True, slope))
        merged = jax.tree.map(lambda x, on: _merge(x, on, size), (varied, moves, fixed), tuple(mapped))
        out = jax.tree.map(lambda x: _part(x, size), tangent(*merged))
        return out, jax.tree.map(lambda _: True, out)

    @jax.custom_jvp
    def f(varied: tuple, fixed: tuple) -> Any:
        out = primal(*jax.tree.map(lambda x: x[..., None], (varied, fixed)))
        return jax.tree.map(lambda x: x[..., 0], out)

    @f.defjvp
    def f_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        last = jax.tree.map(lambda x: x[..., None], primals)
        value, slope = tangent(last[0], jax.tree.map(lambda x: x[None, ..., None], tangents[0]), last[1])
        return jax.tree.map(lambda x: x[..., 0], value), jax.tree.map(lambda x: x[0, ..., 0], slope)

    return f


def _merge(x: Array, mapped: bool, size: int) -> Array:
    """Put a new leading axis, or `size` copies, into the trailing one: `(size, ..., M)` to `(..., M size)`."""
    last = jnp.moveaxis(x, 0, -1) if mapped else jnp.broadcast_to(x[..., None], (*x.shape, size))
    return last.reshape(*last.shape[:-2], -1)


def _part(x: Array, size: int) -> Array:
    """The inverse: `(..., M size)` to `(size, ..., M)`."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], -1, size), -1, 0)


def _lengthen(x: Array, mapped: bool, size: int) -> Array:
    """`(size, T, ...)`, or `size` copies of `(T, ...)`, to `(size T, ...)`."""
    x = x if mapped else jnp.broadcast_to(x, (size, *x.shape))
    return x.reshape(-1, *x.shape[2:])


def _in_chunks(core: Callable[..., Any], arguments: tuple, most: int) -> Any:
    """`core(*arguments)` in parts of so many models as keep the largest array within `most` numbers."""
    leaves = jax.tree.leaves(arguments)
    models = leaves[0].shape[-1]
    width = max(1, most // max(x.size // models for x in leaves))
    if models <= width:
        return core(*arguments)
    width = width // ROUND * ROUND or width
    parts = -(-models // width)

    def cut(x: Array) -> Array:
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, parts * width - models)], mode="edge")
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], parts, width), -2, 0)

    def join(x: Array) -> Array:
        return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)[..., :models]

    return jax.tree.map(join, jax.lax.map(lambda chunk: core(*chunk), jax.tree.map(cut, arguments)))
