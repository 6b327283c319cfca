"""How exact the loss is with so many nodes, and how many nodes an accuracy takes."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose import features
from superpose._jax.precision import precisely
from superpose.expected_loss import truncation_error
from superpose.expected_loss.contexts import over_contexts
from superpose.expected_loss.inputs import FEWEST, Importance, check, check_importance, check_kinds
from superpose.expected_loss.methods import method_for
from superpose.expected_loss.programs import each
from superpose.expected_loss.relu import output_losses, relu_output, setting
from superpose.toy_model import Params

FINER = 4
"""So many times the nodes are the truth that nodes are held against."""
MOST_NODES = 1024
"""Nodes that `nodes_for` tries at most."""
SAFETY = 1.25
"""What is seen of an error counts so many times: a longer period cuts off a little as well."""


def error_estimate(
    params: Params, distribution: features.Distribution, importance: Importance = 1.0, *, nodes: int = 64
) -> Float[Array, ""]:
    """How far `relu_output` with these `nodes` is from the population loss, estimated to err on the large side.

    `1.25 |sum_i I_i (L_i(K) - L_i(4K))| + sum_i I_i sum_{k > 4K} |term_ik|`, L_i(K) output i's loss with K nodes and terms averaged
    over a few nodes in a row; and rounding.
    Costs as much as the loss with 4 K nodes and no compression of the product over features.

    Returns:
        Absolute error, a scalar >= 0; that of rounding where a closed form is used; NaN where the loss is. Raises as `relu_output`.
    """
    coarse = output_losses(params, distribution, nodes=nodes)
    check_importance(importance, len(coarse))
    numbers, structure = jax.tree.flatten(distribution)
    fine, beyond = _by_product(params.W, params.b, numbers, jnp.asarray(FINER * nodes), structure)
    return _estimate(importance, coarse, fine, beyond)


def _estimate(importance: Importance, coarse: Array, fine: Array, beyond: Array) -> Array:
    """The formula of `error_estimate`, outputs last."""
    return SAFETY * jnp.abs(jnp.sum(importance * (coarse - fine), -1)) + jnp.sum(importance * beyond, -1)


def nodes_for(
    params: Params, distribution: features.Distribution, importance: Importance = 1.0, *, tolerance: float = 1e-6
) -> int:
    """The fewest nodes, 8, 16, .. `MOST_NODES`, whose `error_estimate` is at most `tolerance` times the loss.

    Of several models with the same leading axis in `W` and `b`, the fewest that do for all. Not under `jit`: it chooses a program.

    Raises:
        ValueError: as `relu_output`; a tolerance that is not positive; or one that `MOST_NODES` do not reach.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance = {tolerance}: needs to be positive")
    check_kinds(params, distribution)
    W, b = (jnp.asarray(x) for x in (params.W, params.b))
    stack = Params(W=W.reshape(-1, *W.shape[-2:]), b=b.reshape(-1, b.shape[-1]))
    check(Params(W=stack.W[0], b=stack.b[0]), distribution, FEWEST)
    check_importance(importance, b.shape[-1])
    numbers, structure = jax.tree.flatten(distribution)
    weights = jnp.asarray(importance, float)

    @cache
    def by_product(nodes: int) -> tuple[Array, Array]:
        return _all_by_product(stack.W, stack.b, numbers, jnp.asarray(nodes), structure)

    def share(nodes: int) -> Array:
        fine, beyond = by_product(FINER * nodes)
        return _estimate(weights, by_product(nodes)[0], fine, beyond) / jnp.sum(weights * fine, -1)

    fewest = _fewest(share, FEWEST, tolerance)  # one program for all nodes; the loss itself may be compressed
    return _fewest(lambda nodes: _shares(stack, distribution, weights, nodes), fewest, tolerance)


def _fewest(share: Callable[[int], Array], nodes: int, tolerance: float) -> int:
    """The first of `nodes`, twice as many, .. where no share is above the tolerance."""
    worst = math.inf
    while nodes <= MOST_NODES:
        worst = float(share(nodes).max())
        if worst <= tolerance:
            return nodes
        nodes *= 2
    raise ValueError(f"tolerance = {tolerance}: needs at least {worst:.1e}, what {MOST_NODES} nodes reach here")


@partial(jax.jit, static_argnums=3)
def _shares(stack: Params, distribution: Any, importance: Array, nodes: int) -> Array:
    """`error_estimate` over the loss, of each model."""

    def one(params: Params) -> Array:
        loss = relu_output(params, distribution, importance, nodes=nodes)
        return error_estimate(params, distribution, importance, nodes=nodes) / loss

    return jax.vmap(one)(stack)


@over_contexts
def _of_contexts(
    model: tuple[Array, Array], distribution: features.Sparse | features.Coupled, nodes: Array
) -> tuple[Array, Array]:
    """Each output's loss by the direct product, and what may lie beyond these nodes."""
    b = model[1]
    groups, law, gram = setting(model, distribution)
    method, rounding = method_for(groups, law), truncation_error.rounding(groups, law, gram, b)
    if method.walk is None:
        return method.losses(groups, law, gram, b, nodes=0), rounding
    walk = method.walk(groups, law, gram, b, nodes)
    return truncation_error.fine_losses(walk, b, nodes), truncation_error.beyond(walk, b, nodes) + rounding


@partial(jax.jit, static_argnums=4)
def _by_product(W: Array, b: Array, numbers: list, nodes: Array, structure: Any) -> tuple[Array, Array]:
    """Each output's loss with so many nodes by the direct product, and what may lie beyond these; one program for all nodes."""

    @precisely
    def one(varied: tuple, fixed: tuple) -> tuple[Array, Array]:
        nodes, *numbers = fixed
        return _of_contexts(varied, jax.tree.unflatten(structure, numbers), nodes)

    return each(one, len(b))((W, b), (nodes, *numbers))


_all_by_product = jax.jit(jax.vmap(_by_product, in_axes=(0, 0, None, None, None)), static_argnums=4)
