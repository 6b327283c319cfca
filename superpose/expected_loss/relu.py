"""The exact population loss of the ReLU model, `L = sum_i I_i E (x_i - r(y_i))^2`, `y = W^T W x + b`, and its gradient.

A pre-activation is a sum of independent terms, so the loss of each output is an integral in one dimension, whatever the
number of features. It is computed to a stated error at about the price of one minibatch step. No sampling anywhere.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose import features
from superpose._jax.models_last import NO_DERIVATIVE
from superpose._jax.precision import precisely
from superpose.expected_loss.contexts import over_contexts
from superpose.expected_loss.groups import Groups, as_given, groups_of, in_order
from superpose.expected_loss.inputs import Importance, check, check_importance
from superpose.expected_loss.methods import method_for
from superpose.expected_loss.programs import MANY, each, of_a_model, on_models
from superpose.toy_model import Params


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
        ValueError: shapes that do not fit, of importances too; `nodes` below 8; parameters or a distribution that are none, as
            where the two are exchanged; or a derivative in the distribution.

    Reference: "Toy Models of Superposition" (Elhage et al. 2022), section 2, for the model and loss.
    """
    losses = output_losses(params, distribution, nodes=nodes)
    check_importance(importance, len(losses))
    return jnp.sum(importance * losses)


def output_losses(params: Params, distribution: features.Distribution, *, nodes: int = 64) -> Float[Array, " n"]:
    """`E (x_i - r(y_i))^2` of each output, shape `(n,)`: `relu_output` before importances; see there."""
    check(params, distribution, nodes)
    numbers, structure = jax.tree.flatten(distribution)
    return _output_losses(params.W, params.b, numbers, structure, nodes)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _output_losses(W: Array, b: Array, numbers: list, structure: Any, nodes: int) -> Float[Array, " n"]:
    """`output_losses`; plain arrays, as what `custom_vjp` passes to `_forward` would not do for fields of `Params`."""
    return _losses((W, b), numbers, structure, nodes)


@of_a_model
@over_contexts
def _losses(model: tuple[Array, Array], distribution: features.Sparse | features.Coupled, nodes: int) -> Float[Array, " n"]:
    groups, law, gram = setting(model, distribution)
    return on_models(partial(method_for(groups, law).losses, nodes=nodes), groups, law, gram, model[1])


def setting(
    model: tuple[Array, Array], distribution: features.Sparse | features.Coupled
) -> tuple[Groups, features.Magnitude, Array]:
    """What every method takes: groups, magnitude and overlaps in their order, of W and b."""
    W, b = model
    groups = groups_of(distribution, n=len(b), dtype=b.dtype)
    return groups, features.magnitude(distribution), in_order(groups, W.T @ W)


def _forward(W: Any, b: Any, numbers: list, structure: Any, nodes: int) -> tuple[Array, tuple]:
    """Losses, and the slopes of each in g_ij, `(j, i)`, and in b_i, in one pass."""
    if any(x.perturbed for x in numbers):
        raise ValueError(NO_DERIVATIVE)
    loss, by_gram, by_bias = _value_and_slopes((W.value, b.value), [x.value for x in numbers], structure, nodes)
    return loss, (W.value, by_gram, by_bias)


@of_a_model
@over_contexts
def _value_and_slopes(
    model: tuple[Array, Array], distribution: features.Sparse | features.Coupled, nodes: int
) -> tuple[Array, Array, Array]:
    groups, law, gram = setting(model, distribution)
    run = partial(method_for(groups, law).losses_and_slopes, nodes=nodes)
    losses, by_gram, by_bias = on_models(run, groups, law, gram, model[1])
    return losses, as_given(groups, by_gram), by_bias


def _backward(structure: Any, nodes: int, residuals: tuple, cotangent: Array) -> tuple[Array, Array, None]:  # noqa: ARG001
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
