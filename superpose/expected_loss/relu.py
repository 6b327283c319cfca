"""The exact population loss of the ReLU model, `L = sum_i I_i E (x_i - r(y_i))^2`, `y = W^T W x + b`, and its gradient.

A pre-activation is a sum of independent terms, so the loss of each output is an integral in one dimension, whatever the
number of features. It is computed to a stated error at about the price of one minibatch step. No sampling anywhere.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose import features
from superpose._jax.models_last import NO_DERIVATIVE, models_last, one_at_a_time
from superpose._jax.precision import precisely
from superpose.expected_loss.contexts import over_contexts
from superpose.expected_loss.groups import Groups, groups_of
from superpose.expected_loss.inputs import Importance, check, check_importance
from superpose.expected_loss.methods import method_for
from superpose.toy_model import Params

MANY = 32
"""Features from which a CPU works on one model at a time, whose arrays of n^2 numbers then stay in its cache."""


def relu_output(
    params: Params, distribution: features.Distribution, importance: Importance = 1.0, *, nodes: int = 64
) -> Float[Array, ""]:
    """Population loss of the ReLU model, exact up to the truncation of a Fourier series.

    `sum_i I_i [p_i E u^2 - 2 E x_i r(y_i) + E r(y_i)^2]`, `y = W^T W x + b`. Terms with at most one active feature among those
    that matter to an output are taken in closed form, the rest by `fourier_series`. Up to three uniform features, or
    binary ones of at most 1,024 states, need no series and have no error. `error_estimate` says how large the error is for given
    parameters, `nodes_for` how many nodes a wanted accuracy takes.

    Differentiable in `params` and `importance`, twice: the gradient comes in the same pass (reverse mode first, then forward
    for Hessians); not in the distribution. The gradient is that of the number returned.

    Args:
        params: `W` (m, n), `b` (n,).
        distribution: of the n features.
        importance: weight of each feature, scalar or `(n,)`, >= 0.
        nodes: terms of the series, at least 8. The work is proportional to n^2 nodes; from 32 uniform features of one density on,
            to n^2 R + n nodes, R one and a half times `nodes` (`compressed_series`).

    Returns:
        The loss, a scalar >= 0.

    Raises:
        ValueError: shapes that do not fit, of importances too; `nodes` below 8; parameters or a law that are none, as where the
            two are exchanged; or a derivative in the distribution.

    Reference: "Toy Models of Superposition" (Elhage et al. 2022), section 2, for the model and loss.
    """
    losses = output_losses(params, distribution, nodes=nodes)
    check_importance(importance, len(losses))
    return jnp.sum(importance * losses)


def output_losses(params: Params, distribution: features.Distribution, *, nodes: int = 64) -> Float[Array, " n"]:
    """`E (x_i - r(y_i))^2` of each output, shape `(n,)`: `relu_output` before importances; see there."""
    check(params, distribution, nodes)
    law_values, law_tree = jax.tree.flatten(distribution)
    return _output_losses(params.W, params.b, law_values, law_tree, nodes)


def each(f: Callable[[tuple, tuple], Any], n: int) -> Callable[[tuple, tuple], Any]:
    """`f(varied, fixed)` of a model; with many features, of one model at a time on a CPU."""
    return f if n < MANY else one_at_a_time(f)


def _of_a_model(f: Callable[[Params, features.Distribution, int], Any]) -> Callable:
    """From `f(params, distribution, nodes)` `run(W, b, law_values, law_tree, nodes)`, compiled once for all uses with one shape."""

    @partial(jax.jit, static_argnums=(3, 4))
    def run(W: Array, b: Array, law_values: list, law_tree: Any, nodes: int) -> Any:
        @precisely
        def one(varied: tuple, fixed: tuple) -> Any:
            W, b = varied
            return f(Params(W=W, b=b), jax.tree.unflatten(law_tree, fixed), nodes)

        return each(one, len(b))((W, b), tuple(law_values))

    return run


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _output_losses(W: Array, b: Array, law_values: list, law_tree: Any, nodes: int) -> Float[Array, " n"]:
    """`output_losses`; plain arrays, as what `custom_vjp` passes to `_forward` would not do for fields of `Params`."""
    return _losses(W, b, law_values, law_tree, nodes)


@_of_a_model
@over_contexts
def _losses(params: Params, distribution: features.Sparse | features.Coupled, nodes: int) -> Float[Array, " n"]:
    groups, law, gram = setting(params, distribution)
    return _on_models(partial(method_for(groups, law).losses, nodes=nodes), groups, law, gram, params.b, params.b)


def setting(params: Params, distribution: features.Sparse | features.Coupled) -> tuple[Groups, features.Magnitude, Array]:
    """What every method takes: groups, magnitude and overlaps."""
    groups = groups_of(distribution, n=params.b.shape[0], dtype=params.b.dtype)
    return groups, features.magnitude(distribution), params.W.T @ params.W


def _on_models(f: Callable, groups: Groups, law: features.Magnitude, gram: Array, b: Array, like: Any) -> Any:
    """`f(groups, law, gram, b)`; of few features with the models last, where `vmap` puts several."""
    numbers, structure = jax.tree.flatten(groups)

    def core(varied: tuple, fixed: tuple) -> Any:
        return f(jax.tree.unflatten(structure, fixed), law, *varied)

    run = models_last(core, like, apart=True) if len(b) < MANY else core
    return run((gram, b), tuple(numbers))


def _forward(W: Any, b: Any, law_values: list, law_tree: Any, nodes: int) -> tuple[Array, tuple]:
    """Losses, and the slopes of each in g_ij, `(j, i)`, and in b_i, in one pass."""
    if any(x.perturbed for x in law_values):
        raise ValueError(NO_DERIVATIVE)
    loss, by_gram, by_bias = _value_and_slopes(W.value, b.value, [x.value for x in law_values], law_tree, nodes)
    return loss, (W.value, by_gram, by_bias)


@_of_a_model
@over_contexts
def _value_and_slopes(
    params: Params, distribution: features.Sparse | features.Coupled, nodes: int
) -> tuple[Array, Array, Array]:
    groups, law, gram = setting(params, distribution)
    like = params.b, gram, params.b
    return _on_models(partial(method_for(groups, law).losses_and_slopes, nodes=nodes), groups, law, gram, params.b, like)


def _backward(law_tree: Any, nodes: int, residuals: tuple, cotangent: Array) -> tuple[Array, Array, None]:  # noqa: ARG001
    W, by_gram, by_bias = residuals
    by_bias, by_weight = each(_pulled, len(by_bias))((W, by_gram, by_bias, cotangent), ())
    return by_weight, by_bias, None


@precisely
def _pulled(varied: tuple, fixed: tuple) -> tuple[Array, Array]:  # noqa: ARG001
    """The slopes in b and W of the outputs' losses, weighted with a cotangent."""
    W, by_gram, by_bias, cotangent = varied
    weighted = cotangent[None] * by_gram  # (input, output)
    both = weighted + weighted.T
    small = len(both) < MANY  # a batch of such products is slow on a CPU
    return cotangent * by_bias, (W[:, :, None] * both[None]).sum(1) if small else W @ both


_output_losses.defvjp(_forward, _backward, symbolic_zeros=True)
