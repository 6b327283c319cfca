"""Functions of one model that `vmap` runs with the models on the last axis, where vector units can run along them.

`vmap` puts a new axis first. A toy model of five features has rows of five numbers, too few for a vector register; with the
models last, every operation runs along all of them. `models_last` says so once: single functions are written with a trailing
axis of models, and `vmap` of the result, once or nested, adds to that axis.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.custom_batching import custom_vmap
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
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
    core = jax.jit(core)  # traced once for each shape

    def chunked(varied: tuple, fixed: tuple) -> Any:
        return _in_chunks(core, (varied, fixed), most)

    primal = custom_vmap(chunked)

    @primal.def_vmap
    def primal_rule(size: int, mapped: list, varied: tuple, fixed: tuple) -> tuple[Any, Any]:
        merged = jax.tree.map(lambda x, on: _merge(x, on, size), (varied, fixed), tuple(mapped))
        out = jax.tree.map(lambda x: _part(x, size), primal(*merged))
        return out, jax.tree.map(lambda _: True, out)

    @jax.custom_jvp
    def f(varied: tuple, fixed: tuple) -> Any:
        out = primal(*jax.tree.map(lambda x: x[..., None], (varied, fixed)))
        return jax.tree.map(lambda x: x[..., 0], out)

    @f.defjvp
    def f_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        varied, fixed = jax.tree.map(lambda x: x[..., None], primals)
        moves = jax.tree.map(lambda x: x[None, ..., None], tangents[0])
        value, slope = _push(core, jax.eval_shape(core, varied, fixed), varied, moves, fixed)
        return jax.tree.map(lambda x: x[..., 0], value), jax.tree.map(lambda x: x[0, ..., 0], slope)

    return f


_tangent = Primitive("models_last_tangent")
"""Values, and tangents in several directions that share what belongs to the values alone. A primitive of its own, as each level of
`vmap` would trace a `custom_vmap` anew, and a Hessian has two."""
_tangent.multiple_results = True


def _push(core: Callable, like: Any, varied: tuple, moves: tuple, fixed: tuple) -> tuple[Any, Any]:
    """`core(varied, fixed)`, with leaves like those of `like` but for the models; tangents along `moves`, directions first."""
    flat, tree = jax.tree.flatten((varied, moves, fixed))
    shapes = tuple((x.shape[:-1], x.dtype) for x in jax.tree.leaves(like))
    out = _tangent.bind(*flat, core=core, tree=tree, shapes=shapes)
    back = jax.tree.structure(like).unflatten
    return back(out[: len(shapes)]), back(out[len(shapes) :])


def _pushed(*flat: Array, core: Callable, tree: Any, shapes: tuple) -> list[Array]:  # noqa: ARG001
    varied, moves, fixed = jax.tree.unflatten(tree, flat)

    def along(move: tuple) -> Any:
        return jax.jvp(lambda *x: core(x, fixed), varied, move)

    return jax.tree.leaves(jax.vmap(along, out_axes=(None, 0))(moves))


@_tangent.def_abstract_eval
def _shaped(*flat: Any, core: Callable, tree: Any, shapes: tuple) -> list[ShapedArray]:  # noqa: ARG001
    varied, moves, _ = jax.tree.unflatten(tree, flat)
    models, directions = jax.tree.leaves(varied)[0].shape[-1], jax.tree.leaves(moves)[0].shape[0]
    lead = [(), (directions,)]
    return [ShapedArray((*first, *shape, models), dtype) for first in lead for shape, dtype in shapes]


def _batched(flat: Sequence, axes: Sequence, *, core: Callable, tree: Any, shapes: tuple) -> tuple[list[Array], list]:
    size = next(x.shape[axis] for x, axis in zip(flat, axes, strict=True) if axis is not None)
    front = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(flat, axes, strict=True)]
    on = [axis is not None for axis in axes]
    (varied, moves, fixed), mapped = jax.tree.unflatten(tree, front), jax.tree.unflatten(tree, on)
    if any(jax.tree.leaves((mapped[0], mapped[2]))):
        flat = [_merge(x, here, size) for x, here in zip(front, on, strict=True)]
        out = _tangent.bind(*flat, core=core, tree=tree, shapes=shapes)
        return [_part(x, size) for x in out], [0] * len(out)
    moves = jax.tree.map(lambda x, here: _lengthen(x, here, size), moves, mapped[1])  # more directions for the same models
    out = _tangent.bind(*jax.tree.leaves((varied, moves, fixed)), core=core, tree=tree, shapes=shapes)
    value, slope = out[: len(shapes)], [x.reshape(size, -1, *x.shape[1:]) for x in out[len(shapes) :]]
    return [*value, *slope], [None] * len(value) + [0] * len(slope)


def _again(primals: Sequence, tangents: Sequence, **how: Any) -> tuple:
    """Derivatives of derivatives: of the plain function."""
    tangents = [ad.instantiate_zeros(x) for x in tangents]
    return jax.jvp(partial(_pushed, **how), tuple(primals), tuple(tangents))


_tangent.def_impl(_pushed)
mlir.register_lowering(_tangent, mlir.lower_fun(_pushed, multiple_results=True))
batching.primitive_batchers[_tangent] = _batched
ad.primitive_jvps[_tangent] = _again


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
