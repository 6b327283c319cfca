"""Functions of one model that `vmap` runs with the models on the last axis, where vector units can run along them.

`vmap` puts a new axis first. A toy model of five features has rows of five numbers, too few for a vector register; with the
models last, every operation runs along all of them. `models_last` says so once: single functions are written with a trailing
axis of models, and `vmap` of the result, once or nested, adds to that axis.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array

MOST = 2**14
"""Numbers in the largest argument that a CPU works on at once: more would fall out of its cache."""
NO_DERIVATIVE = "distribution: relu_output has no derivative in it; use stop_gradient or finite differences"
"""What is said of a derivative in `fixed`, which is the distribution wherever the library uses this."""
ROUND = 32
"""Models in a part are a multiple of this where they can be: whole vector registers."""


def models_last(core: Callable[..., Any], *, apart: bool = False) -> Callable[..., Any]:
    """`f(varied, fixed)` on one model, from `core(varied, fixed)` on arrays with a trailing axis of models.

    `varied` and `fixed` are tuples of arrays. `f` has a forward derivative in `varied`, none in `fixed` (a ValueError), and no
    reverse one. On a CPU values, not derivatives, are worked out for so many models at a time that the largest array has at most
    `MOST` numbers, or for one.

    `apart` says that index i of the last axis but the models' means the same in all of `varied` and the outputs, and that outputs
    depend on no other i. Derivatives in more directions than there are numbers for each i are then made from those in each number.
    """
    core = jax.jit(core)  # traced once for each shape
    return _of_one(_values(core, partial(_in_chunks, core)), _tangents(partial(_pushed, core, apart)))


def one_at_a_time(single: Callable[..., Any]) -> Callable[..., Any]:
    """As `models_last`, from `single(varied, fixed)` on the arrays of one large model; a CPU works them out one after the other.

    There the arrays have no axis of models: XLA's reductions would run along it, of length 1, and take ten times as long.
    """

    def f(varied: tuple, fixed: tuple) -> Any:
        traced, like = jax.make_jaxpr(single, return_shape=True)(varied, fixed)  # once, for values and derivatives

        def run(varied: tuple, fixed: tuple) -> Any:
            return jax.tree.unflatten(jax.tree.structure(like), jaxpr_as_fun(traced)(*jax.tree.leaves((varied, fixed))))

        core, in_turn = jax.jit(jax.vmap(run, in_axes=-1, out_axes=-1)), partial(_in_turn, run)
        pushed = (partial(_pushed, x, False) for x in (core, in_turn))
        return _of_one(_values(core, in_turn), _tangents(*pushed))(varied, fixed)

    return f


def chosen(holds: Array, usual: Callable[..., Any], other: Callable[..., Any], *operands: Array) -> Any:
    """`usual(*operands)` where it `holds`, else `other(*operands)`, of one model of `one_at_a_time`.

    What works on all models at once works out both for all only if one of them needs the other.
    """
    usual, other = jax.jit(usual), jax.jit(other)  # each traced once
    one, at_once = (partial(f, holds, usual, other) for f in (jax.lax.cond, _chosen_at_once))
    return jax.lax.platform_dependent(*operands, cpu=one, default=at_once)


def _chosen_at_once(holds: Array, usual: Callable[..., Any], other: Callable[..., Any], *operands: Array) -> Any:
    def both(*operands: Array) -> Any:
        return jax.tree.map(partial(jnp.where, holds), usual(*operands), other(*operands))

    return jax.lax.cond(_in_every_model(holds), usual, both, *operands)


@custom_vmap
def _in_every_model(holds: Array) -> Array:
    return holds


@_in_every_model.def_vmap
def _in_every_model_rule(size: int, batched: list, holds: Array) -> tuple[Array, bool]:  # noqa: ARG001
    return jnp.all(holds), False


def _of_one(values: Callable[..., Any], tangents: Callable[..., Any]) -> Callable[..., Any]:
    """`f(varied, fixed)` of one model, from functions of arrays with a trailing axis of models."""

    @jax.custom_jvp
    def f(varied: tuple, fixed: tuple) -> Any:
        return jax.tree.map(lambda x: x[..., 0], values(*_with_models((varied, fixed))))

    @partial(f.defjvp, symbolic_zeros=True)
    def push(primals: tuple, moves: tuple) -> tuple[Any, Any]:  # pyright: ignore[reportUnusedFunction]
        if not all(map(_is_zero, jax.tree.leaves(moves[1], is_leaf=_is_zero))):
            raise ValueError(NO_DERIVATIVE)
        moved = tuple(jnp.zeros_like(x) if _is_zero(d) else d for x, d in zip(primals[0], moves[0], strict=True))
        varied, fixed, moved = _with_models((*primals, moved))
        value, slope = tangents(varied, tuple(x[None] for x in moved), fixed)
        return jax.tree.map(lambda x: x[..., 0], value), jax.tree.map(lambda x: x[0, ..., 0], slope)

    return f


def _is_zero(x: Any) -> bool:
    return isinstance(x, SymbolicZero)


def _with_models(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[..., None], tree)


def _values(core: Callable[..., Any], on_cpu: Callable[..., Any]) -> Callable[..., Any]:
    """`core(varied, fixed)` on arrays with a trailing axis of models, to which `vmap` adds."""

    @custom_vmap
    def values(varied: tuple, fixed: tuple) -> Any:
        return jax.lax.platform_dependent(varied, fixed, cpu=on_cpu, default=core)

    @values.def_vmap
    def rule(size: int, mapped: list, *arguments: tuple) -> tuple[Any, Any]:  # pyright: ignore[reportUnusedFunction]
        return _parts(values(*_merged(arguments, mapped, size)), size)

    return values


def _tangents(pushed: Callable[..., Any], on_cpu: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """`pushed(varied, moves, fixed)`: values, and tangents in several directions, which come first in `moves` and in what is found.

    Where `vmap` maps only directions, it adds to these: the values are shared.
    """

    @custom_vmap
    def tangents(varied: tuple, moves: tuple, fixed: tuple) -> tuple[Any, Any]:
        if on_cpu is None:
            return pushed(varied, moves, fixed)
        return jax.lax.platform_dependent(varied, moves, fixed, cpu=on_cpu, default=pushed)

    @tangents.def_vmap
    def rule(size: int, mapped: list, *arguments: tuple) -> tuple[Any, Any]:  # pyright: ignore[reportUnusedFunction]
        varied, moves, fixed = arguments
        if not any(jax.tree.leaves(tuple(mapped))):  # a derivative of all this is mapped, in several directions
            return (found := pushed(varied, moves, fixed)), jax.tree.map(lambda _: False, found)
        if any(jax.tree.leaves((mapped[0], mapped[2]))):
            return _parts(tangents(*_merged(arguments, mapped, size)), size)
        moves = tuple(_lengthen(x, here, size) for x, here in zip(moves, mapped[1], strict=True))
        value, slope = tangents(varied, moves, fixed)
        slope = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), slope)
        return (value, slope), (jax.tree.map(lambda _: False, value), jax.tree.map(lambda _: True, slope))

    return tangents


def _merged(arguments: tuple, mapped: Any, size: int) -> tuple:
    """A new leading axis, where there is one, put into that of the models."""
    return jax.tree.map(lambda x, here: _merge(x, here, size), tuple(arguments), tuple(mapped))


def _parts(found: Any, size: int) -> tuple[Any, Any]:
    """The inverse, of all that is found; and that all of it has the axis."""
    return jax.tree.map(lambda x: _part(x, size), found), jax.tree.map(lambda _: True, found)


def _pushed(core: Callable[..., Any], apart: bool, varied: tuple, moves: tuple, fixed: tuple) -> tuple[Any, Any]:
    """Values, and tangents in several directions, which come first; they share what belongs to the values alone."""

    def along(move: tuple) -> Any:
        return jax.jvp(lambda *x: core(x, fixed), varied, move)

    def values_and_tangents(moves: tuple) -> Any:
        return jax.vmap(along, out_axes=(None, 0))(moves)

    numbers = [math.prod(x.shape[:-2]) for x in varied]
    if apart and len(moves[0]) > sum(numbers):
        return _combined(values_and_tangents, varied, moves, numbers)
    return values_and_tangents(moves)


def _combined(values_and_tangents: Callable, varied: tuple, moves: tuple, numbers: list[int]) -> Any:
    """Tangents from those in each of the `numbers` of each index i: one after the other, times how far the directions go there."""
    ends, dtype = np.cumsum(numbers)[:-1], varied[0].dtype
    units = [jnp.asarray(x, dtype) for x in np.split(np.eye(sum(numbers)), ends, axis=1)]
    ones = [
        jnp.broadcast_to(u.reshape(len(u), *x.shape[:-2], 1, 1), (len(u), *x.shape))
        for u, x in zip(units, varied, strict=True)
    ]
    values, slopes = values_and_tangents(tuple(ones))
    along = jnp.concatenate([x.reshape(len(x), -1, *x.shape[-2:]) for x in moves], axis=1)

    def add(sums: Any, xs: tuple) -> tuple[Any, None]:
        far, slopes = xs

        def more(total: Array, slope: Array) -> Array:
            return total + slope[None] * far.reshape(len(far), *(1,) * (slope.ndim - 2), *far.shape[-2:])

        return jax.tree.map(more, sums, slopes), None

    none = jax.tree.map(lambda x: jnp.zeros((along.shape[0], *x.shape[1:]), x.dtype), slopes)
    return values, jax.lax.scan(add, none, (jnp.moveaxis(along, 1, 0), slopes))[0]


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


def _in_turn(single: Callable[..., Any], *arguments: tuple) -> Any:
    """`single` of each model."""
    models_first = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), arguments)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), jax.lax.map(lambda one: single(*one), models_first))


def _in_chunks(core: Callable[..., Any], *arguments: tuple) -> Any:
    """`core(*arguments)` in parts of so many models as keep the largest array within `MOST` numbers."""
    leaves = jax.tree.leaves(arguments)
    models = leaves[0].shape[-1]
    width = max(1, MOST // max(x.size // models for x in leaves))
    return in_parts(core, width // ROUND * ROUND or width, *arguments)


def in_parts(f: Callable[..., Any], width: int, *arguments: Any) -> Any:
    """`f(*arguments)` of so many at a time of what stands on the last axis of all arrays, the last part filled up with copies."""
    count = jax.tree.leaves(arguments)[0].shape[-1]
    if count <= width:
        return f(*arguments)
    parts = -(-count // width)

    def cut(x: Array) -> Array:
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, parts * width - count)], mode="edge")
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], parts, width), -2, 0)

    def join(x: Array) -> Array:
        return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)[..., :count]

    return jax.tree.map(join, jax.lax.map(lambda part: f(*part), jax.tree.map(cut, arguments)))
