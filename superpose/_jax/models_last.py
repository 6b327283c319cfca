"""Functions of one model that `vmap` runs with the models on the last axis, where vector units can run along them.

`vmap` puts a new axis first. A toy model of five features has rows of five numbers, too few for a vector register; with the
models last, every operation runs along all of them. `models_last` says so once: single functions are written with a trailing
axis of models, and `vmap` of the result, once or nested, adds to that axis.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.custom_batching import custom_vmap
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

MOST = 2**14
"""Numbers in the largest argument that a CPU works on at once: more would fall out of its cache."""
NO_DERIVATIVE = "distribution: relu_output has no derivative in it; use stop_gradient or finite differences"
"""What is said of a derivative in `fixed`, which is the distribution wherever the library uses this."""
ROUND = 32
"""Models in a part are a multiple of this where they can be: whole vector registers."""


def models_last(core: Callable[..., Any], like: Any, *, apart: bool = False) -> Callable[..., Any]:
    """`f(varied, fixed)` on one model, from `core(varied, fixed)` on arrays with a trailing axis of models.

    `varied` and `fixed` are tuples of arrays; `like` a tree with the shapes and dtypes of `f`'s outputs. `f` has a forward
    derivative in `varied`, none in `fixed` (a ValueError), and no reverse one. On a CPU values, not derivatives, are worked out for
    so many models at a time that the largest array has at most `MOST` numbers, or for one.

    `apart` says that index i of the last axis but the models' means the same in all of `varied` and the outputs, and that outputs
    depend on no other i. Derivatives in more directions than there are numbers for each i are then made from those in each number.
    """
    core = jax.jit(core)  # traced once for each shape
    return partial(_bind, core, core, partial(_in_chunks, core), apart, like)


def one_at_a_time(single: Callable[..., Any]) -> Callable[..., Any]:
    """As `models_last`, from `single(varied, fixed)` on the arrays of one large model; a CPU works them out one after the other.

    There the arrays have no axis of models: XLA's reductions would run along it, of length 1, and take ten times as long.
    """

    def f(varied: tuple, fixed: tuple) -> Any:
        traced, like = jax.make_jaxpr(single, return_shape=True)(varied, fixed)  # once, for values and derivatives

        def run(varied: tuple, fixed: tuple) -> list[Array]:
            return jaxpr_as_fun(traced)(*jax.tree.leaves((varied, fixed)))

        core = jax.jit(jax.vmap(run, in_axes=-1, out_axes=-1))
        in_turn = partial(_in_turn, run)
        return _bind(core, lambda varied, fixed: in_turn((varied, fixed)), in_turn, False, like, varied, fixed)

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


def _bind(
    core: Callable, core_on_cpu: Callable, on_cpu: Callable, apart: bool, like: Any, varied: tuple, fixed: tuple
) -> Any:
    flat, tree = jax.tree.flatten((varied, fixed))
    outputs, tree_out = jax.tree.flatten(like)
    shapes = tuple((x.shape, x.dtype) for x in outputs)
    how = {"core": core, "core_on_cpu": core_on_cpu, "on_cpu": on_cpu, "apart": apart}
    out = _values.bind(*[x[..., None] for x in flat], tree=tree, shapes=shapes, **how)
    return jax.tree.unflatten(tree_out, [x[..., 0] for x in out])


# Primitives of their own, as each level of `vmap` would trace a `custom_vmap` anew, and a Hessian has two.
_values, _tangent = Primitive("models_last"), Primitive("models_last_tangent")
_values.multiple_results = _tangent.multiple_results = True


def _valued(*flat: Array, core: Callable, tree: Any, **how: Any) -> list[Array]:  # noqa: ARG001
    return jax.tree.leaves(core(*jax.tree.unflatten(tree, flat)))


def _valued_on_cpu(*flat: Array, on_cpu: Callable, tree: Any, **how: Any) -> list[Array]:  # noqa: ARG001
    return jax.tree.leaves(on_cpu(jax.tree.unflatten(tree, flat)))


def _pushed_on_cpu(*flat: Array, core: Callable, core_on_cpu: Callable, **how: Any) -> list[Array]:  # noqa: ARG001
    return _pushed(*flat, core=core_on_cpu, **how)


def _pushed(*flat: Array, core: Callable, tree: Any, apart: bool, **how: Any) -> list[Array]:  # noqa: ARG001
    """Values, and tangents in several directions, which come first; they share what belongs to the values alone."""
    varied, moves, fixed = jax.tree.unflatten(tree, flat)

    def along(move: tuple) -> Any:
        return jax.jvp(lambda *x: core(x, fixed), varied, move)

    def values_and_tangents(moves: tuple) -> Any:
        return jax.vmap(along, out_axes=(None, 0))(moves)

    numbers = [math.prod(x.shape[:-2]) for x in varied]
    if apart and len(moves[0]) > sum(numbers):
        return jax.tree.leaves(_combined(values_and_tangents, varied, moves, numbers))
    return jax.tree.leaves(values_and_tangents(moves))


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


def _value_shapes(*flat: Any, shapes: tuple, **how: Any) -> list[ShapedArray]:  # noqa: ARG001
    return [ShapedArray((*shape, flat[0].shape[-1]), dtype) for shape, dtype in shapes]


def _tangent_shapes(*flat: Any, tree: Any, shapes: tuple, **how: Any) -> list[ShapedArray]:  # noqa: ARG001
    varied, moves, _ = jax.tree.unflatten(tree, flat)
    models, directions = jax.tree.leaves(varied)[0].shape[-1], jax.tree.leaves(moves)[0].shape[0]
    lead = [(), (directions,)]
    return [ShapedArray((*first, *shape, models), dtype) for first in lead for shape, dtype in shapes]


def _in_front(flat: Sequence, axes: Sequence) -> tuple[list[Array], list[bool], int]:
    """What is mapped with its new axis first, which is, and the axis's length."""
    size = next(x.shape[axis] for x, axis in zip(flat, axes, strict=True) if axis is not None)
    front = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(flat, axes, strict=True)]
    return front, [axis is not None for axis in axes], size


def _batch_models(primitive: Primitive, flat: Sequence, axes: Sequence, **how: Any) -> tuple[list[Array], list]:
    front, on, size = _in_front(flat, axes)
    out = primitive.bind(*[_merge(x, here, size) for x, here in zip(front, on, strict=True)], **how)
    return [_part(x, size) for x in out], [0] * len(out)


def _batch_tangent(flat: Sequence, axes: Sequence, *, tree: Any, shapes: tuple, **how: Any) -> tuple[list[Array], list]:
    front, on, size = _in_front(flat, axes)
    (varied, moves, fixed), mapped = jax.tree.unflatten(tree, front), jax.tree.unflatten(tree, on)
    if any(jax.tree.leaves((mapped[0], mapped[2]))):
        return _batch_models(_tangent, flat, axes, tree=tree, shapes=shapes, **how)
    moves = jax.tree.map(lambda x, here: _lengthen(x, here, size), moves, mapped[1])
    out = _tangent.bind(*jax.tree.leaves((varied, moves, fixed)), tree=tree, shapes=shapes, **how)
    value, slope = out[: len(shapes)], [x.reshape(size, -1, *x.shape[1:]) for x in out[len(shapes) :]]
    return [*value, *slope], [None] * len(value) + [0] * len(slope)


def _push(primals: Sequence, tangents: Sequence, *, tree: Any, on_cpu: Callable, **how: Any) -> tuple:  # noqa: ARG001
    """Values, and their tangents along those of `varied`."""
    varied, fixed = jax.tree.unflatten(tree, primals)
    moves, still = jax.tree.unflatten(tree, tangents)
    if not all(isinstance(x, ad.Zero) for x in jax.tree.leaves(still, is_leaf=lambda x: isinstance(x, ad.Zero))):
        raise ValueError(NO_DERIVATIVE)
    moves = jax.tree.map(lambda x: ad.instantiate_zeros(x)[None], moves, is_leaf=lambda x: isinstance(x, ad.Zero))
    flat, tree = jax.tree.flatten((varied, moves, fixed))
    out = _tangent.bind(*flat, tree=tree, **how)
    half = len(out) // 2
    return out[:half], [x[0] for x in out[half:]]


def _push_again(primals: Sequence, tangents: Sequence, **how: Any) -> tuple:
    """Derivatives of derivatives: of the plain function."""
    tangents = [ad.instantiate_zeros(x) for x in tangents]
    return jax.jvp(partial(_pushed, **how), tuple(primals), tuple(tangents))


for primitive, run, shapes_of, batch, push in (
    (_values, _valued, _value_shapes, partial(_batch_models, _values), _push),
    (_tangent, _pushed, _tangent_shapes, _batch_tangent, _push_again),
):
    primitive.def_impl(run)
    primitive.def_abstract_eval(shapes_of)
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=True))
    batching.primitive_batchers[primitive] = batch
    ad.primitive_jvps[primitive] = push
mlir.register_lowering(_values, mlir.lower_fun(_valued_on_cpu, multiple_results=True), platform="cpu")
mlir.register_lowering(_tangent, mlir.lower_fun(_pushed_on_cpu, multiple_results=True), platform="cpu")


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


def _in_turn(single: Callable[..., Any], arguments: tuple) -> Any:
    """`single` of each model."""
    models_first = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), arguments)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), jax.lax.map(lambda one: single(*one), models_first))


def _in_chunks(core: Callable[..., Any], arguments: tuple) -> Any:
    """`core(*arguments)` in parts of so many models as keep the largest array within `MOST` numbers."""
    leaves = jax.tree.leaves(arguments)
    models = leaves[0].shape[-1]
    width = max(1, MOST // max(x.size // models for x in leaves))
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
