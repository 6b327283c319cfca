"""The exact population loss of the toy model, `L = sum_i importance_i E (x_i - f(W^T W x + b)_i)^2`, and its gradient.

A pre-activation is a sum of independent terms, so the loss of each output is an integral in one dimension, whatever the
number of features. `relu_output` computes it to a stated error at about the price of one minibatch step; `linear` and
`mean_field` are closed forms, the second an approximation for many active features. No sampling anywhere.

`W` has shape (m, n); its column i is the direction of feature i. The loss is summed over features.
"""

import math
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from superpose import binary_states, box_averages, compressed_series, features, fourier_series, series_error
from superpose.magnitudes import Magnitude
from superpose.models_last import NO_DERIVATIVE, models_last, one_at_a_time
from superpose.sets import Sets, sets_of
from superpose.toy_model import Params

Importance = Float[Array, " n"] | Float[Array, ""] | float

FEWEST = 8
"""Nodes below which a series says nothing."""
FINER = 4
"""So many times the nodes are the truth that nodes are held against."""
MOST_NODES = 1024
"""Nodes that `nodes_for` tries at most."""
SAFETY = 1.25
"""What is seen of an error counts so many times: a longer period cuts off a little as well."""
MANY = 32
"""Features from which a CPU works on one model at a time, whose arrays of n^2 numbers then stay in its cache."""


def _precisely(f: Callable) -> Callable:
    """`f` with products of matrices in full precision on a GPU, whose default for float32 keeps 3 digits."""

    @wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return f(*args, **kwargs)

    return run


def _each(f: Callable[[tuple, tuple], Any], n: int) -> Callable[[tuple, tuple], Any]:
    """`f(varied, fixed)` of a model; with many features, of one model at a time on a CPU."""
    return f if n < MANY else one_at_a_time(f)


def _of_a_model(f: Callable[[Params, features.Distribution, int], Any]) -> Callable:
    """From `f(params, distribution, nodes)` `run(W, b, law_values, law_tree, nodes)`, compiled once for all uses with one shape."""

    @partial(jax.jit, static_argnums=(3, 4))
    def run(W: Array, b: Array, law_values: list, law_tree: Any, nodes: int) -> Any:
        @_precisely
        def one(varied: tuple, fixed: tuple) -> Any:
            W, b = varied
            return f(Params(W=W, b=b), jax.tree.unflatten(law_tree, fixed), nodes)

        return _each(one, len(b))((W, b), tuple(law_values))

    return run


def relu_output(
    params: Params, distribution: features.Distribution, importance: Importance = 1.0, *, nodes: int = 64
) -> Float[Array, ""]:
    """Population loss of the ReLU model, exact up to the truncation of a Fourier series.

    `sum_i I_i [p_i E u^2 - 2 E x_i r(y_i) + E r(y_i)^2]`, `y = W^T W x + b`. Terms with at most one active feature among those
    that matter to an output are taken in closed form, the rest by `superpose.fourier_series`. Up to three uniform features, or
    binary ones of at most 1,024 states, need no series and have no error. `error_estimate` says how large the error is for given
    parameters, `nodes_for` how many nodes a wanted accuracy takes.

    Differentiable in `params` and `importance`, twice: the gradient comes in the same pass (reverse mode first, then forward
    for Hessians); not in the distribution. The gradient is that of the number returned.

    Args:
        params: `W` (m, n), `b` (n,).
        distribution: of the n features.
        importance: weight of each feature, scalar or `(n,)`, >= 0.
        nodes: terms of the series, at least 8. The work is proportional to n^2 nodes; from 32 uniform features of one density on,
            to n^2 R + n nodes, R one and a half times `nodes` (`superpose.compressed_series`).

    Returns:
        The loss, a scalar >= 0.

    Raises:
        ValueError: shapes that do not fit, of importances too; `nodes` below 8; parameters or a law that are none, as where the
            two are exchanged; or a derivative in the distribution.

    Reference: "Toy Models of Superposition" (Elhage et al. 2022), section 2, for the model and loss.
    """
    losses = output_losses(params, distribution, nodes=nodes)
    _check_importance(importance, len(losses))
    return jnp.sum(importance * losses)


def output_losses(params: Params, distribution: features.Distribution, *, nodes: int = 64) -> Float[Array, " n"]:
    """`E (x_i - r(y_i))^2` of each output, shape `(n,)`: `relu_output` before importances; see there."""
    _check(params, distribution, nodes)
    law_values, law_tree = jax.tree.flatten(distribution)
    return _output_losses(params.W, params.b, law_values, law_tree, nodes)


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
    _check_importance(importance, len(coarse))
    law_values, law_tree = jax.tree.flatten(distribution)
    fine, beyond = _by_product(params.W, params.b, law_values, jnp.asarray(FINER * nodes), law_tree)
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
    _check_kinds(params, distribution)
    W, b = (jnp.asarray(x) for x in (params.W, params.b))
    stack = Params(W=W.reshape(-1, *W.shape[-2:]), b=b.reshape(-1, b.shape[-1]))
    _check(Params(W=stack.W[0], b=stack.b[0]), distribution, FEWEST)
    _check_importance(importance, b.shape[-1])
    law_values, law_tree = jax.tree.flatten(distribution)
    weights = jnp.asarray(importance, float)

    @cache
    def by_product(nodes: int) -> tuple[Array, Array]:
        return _all_by_product(stack.W, stack.b, law_values, jnp.asarray(nodes), law_tree)

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


@_precisely
def linear(params: Params, distribution: features.Distribution, importance: Importance = 1.0) -> Float[Array, ""]:
    """Population loss of the linear model `x' = W^T W x + b`, in closed form.

    `sum_i I_i [((1 - G) C (1 - G)^T)_ii + (mu - G mu - b)_i^2]` with G = W^T W, mu and C the features' mean and covariance.
    Differentiable in everything. At its minimum the m features of largest `I_i Var x_i` are kept, as in PCA.

    Returns:
        The loss, a scalar >= 0.
    """
    _check_kinds(params, distribution)
    n = params.b.shape[0]
    error = jnp.eye(n, dtype=params.b.dtype) - params.W.T @ params.W
    spread = jnp.einsum("ij,jk,ik->i", error, features.covariance(distribution, n=n), error)
    return jnp.sum(importance * (spread + (error @ features.mean(distribution, n=n) - params.b) ** 2))


@_precisely
def mean_field(params: Params, distribution: features.Distribution, importance: Importance = 1.0) -> Float[Array, ""]:
    """`relu_output` with every pre-activation taken as Gaussian with its true mean and variance: for many active features.

    With `t = mu_y / s`: `E r = mu_y Phi(t) + s phi(t)`, `E r^2 = (mu_y^2 + s^2) Phi(t) + mu_y s phi(t)` and, by Stein's
    lemma, `E x_i r = E x_i E r + Cov(x_i, y_i) Phi(t)`. Exact as a sum of many small terms; it fails where few features are active:
    for 100 random unit columns in 20 dimensions it is off by 0.1 % at p = 0.9, 3 % at 0.5, 14 % at 0.1 and 21 % at 0.01.

    Returns:
        The approximate loss, a scalar; not a bound on either side.
    """
    _check_kinds(params, distribution)
    n, gram = params.b.shape[0], params.W.T @ params.W
    mean, covariance = features.mean(distribution, n=n), features.covariance(distribution, n=n)
    shared = gram @ covariance
    variance = jnp.maximum((shared * gram).sum(1), jnp.finfo(gram.dtype).tiny)
    mu, s = gram @ mean + params.b, jnp.sqrt(variance)
    below, peak = norm.cdf(mu / s), norm.pdf(mu / s)
    first, second = mu * below + s * peak, (mu**2 + variance) * below + mu * s * peak
    cross = mean * first + jnp.diagonal(shared) * below
    return jnp.sum(importance * (features.variance(distribution, n=n) + mean**2 - 2 * cross + second))


def _check(params: Params, distribution: features.Distribution, nodes: int) -> None:
    _check_kinds(params, distribution)
    if params.W.ndim != 2 or params.b.shape != params.W.shape[1:]:
        raise ValueError(f"W has shape {params.W.shape}, b {params.b.shape}: needs (m, n) and (n,) for one model")
    if nodes < FEWEST:
        raise ValueError(f"nodes = {nodes}: needs at least {FEWEST}")
    features.check(distribution, n=params.b.shape[0])


def _check_kinds(params: Any, distribution: Any) -> None:
    if not (hasattr(params, "W") and hasattr(params, "b")):
        given = f"params is a {type(params).__name__}, distribution a {type(distribution).__name__}"
        raise ValueError(f"{given}: needs toy_model.Params first, then one of superpose.features")


def _check_importance(importance: Importance, n: int) -> None:
    if jnp.shape(importance) not in ((), (n,)):
        raise ValueError(f"importance has shape {jnp.shape(importance)}: needs a scalar or ({n},)")


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _output_losses(W: Array, b: Array, law_values: list, law_tree: Any, nodes: int) -> Float[Array, " n"]:
    """`output_losses`; plain arrays, as what `custom_vjp` passes to `_forward` would not do for fields of `Params`."""
    return _losses(W, b, law_values, law_tree, nodes)


@_of_a_model
def _losses(params: Params, distribution: features.Distribution, nodes: int) -> Float[Array, " n"]:
    sets, law, gram = _setting(params, distribution)
    return _on_models(partial(_way(sets, law).losses, nodes=nodes), sets, law, gram, params.b, params.b)


@partial(jax.jit, static_argnums=4)
def _by_product(W: Array, b: Array, law_values: list, nodes: Array, law_tree: Any) -> tuple[Array, Array]:
    """Each output's loss with so many nodes by the direct product, and what may lie beyond these; one program for all nodes."""

    @_precisely
    def one(varied: tuple, fixed: tuple) -> tuple[Array, Array]:
        (W, b), (nodes, *values) = varied, fixed
        sets, law, gram = _setting(Params(W=W, b=b), jax.tree.unflatten(law_tree, values))
        way, rounding = _way(sets, law), series_error.rounding(sets, law, gram, b)
        if way in (binary_states, box_averages):
            return way.losses(sets, law, gram, b, nodes=0), rounding
        beyond = series_error.beyond(sets, law, gram, b, nodes)
        return series_error.fine_losses(sets, law, gram, b, nodes), beyond + rounding

    return _each(one, len(b))((W, b), (nodes, *law_values))


_all_by_product = jax.jit(jax.vmap(_by_product, in_axes=(0, 0, None, None, None)), static_argnums=4)


def _setting(params: Params, distribution: features.Distribution) -> tuple[Sets, Magnitude, Array]:
    sets = sets_of(distribution, n=params.b.shape[0], dtype=params.b.dtype)
    return sets, features.magnitude(distribution), params.W.T @ params.W


def _way(sets: Sets, law: Magnitude) -> Any:
    """The module whose `losses` and `losses_and_slopes` these features take."""
    if box_averages.complete(sets, law):
        return box_averages
    if binary_states.complete(sets, law):
        return binary_states
    return compressed_series if compressed_series.applies(sets, law) else fourier_series


def _on_models(f: Callable, sets: Sets, law: Magnitude, gram: Array, b: Array, like: Any) -> Any:
    """`f(sets, law, gram, b)`; of few features with the models last, where `vmap` puts several."""
    known = sets._replace(density=None, chance=None)

    def core(varied: tuple, fixed: tuple) -> Any:
        return f(known._replace(density=fixed[0], chance=fixed[1]), law, *varied)

    run = models_last(core, like, apart=True) if len(b) < MANY else core
    return run((gram, b), (sets.density, sets.chance))


def _forward(W: Any, b: Any, law_values: list, law_tree: Any, nodes: int) -> tuple[Array, tuple]:
    """Losses, and the slopes of each in g_ij, `(j, i)`, and in b_i, in one pass."""
    if any(x.perturbed for x in law_values):
        raise ValueError(NO_DERIVATIVE)
    loss, by_gram, by_bias = _value_and_slopes(W.value, b.value, [x.value for x in law_values], law_tree, nodes)
    return loss, (W.value, by_gram, by_bias)


@_of_a_model
def _value_and_slopes(params: Params, distribution: features.Distribution, nodes: int) -> tuple[Array, Array, Array]:
    sets, law, gram = _setting(params, distribution)
    like = params.b, gram, params.b
    return _on_models(partial(_way(sets, law).losses_and_slopes, nodes=nodes), sets, law, gram, params.b, like)


def _backward(law_tree: Any, nodes: int, residuals: tuple, cotangent: Array) -> tuple[Array, Array, None]:  # noqa: ARG001
    W, by_gram, by_bias = residuals
    by_bias, by_weight = _each(_pulled, len(by_bias))((W, by_gram, by_bias, cotangent), ())
    return by_weight, by_bias, None


@_precisely
def _pulled(varied: tuple, fixed: tuple) -> tuple[Array, Array]:  # noqa: ARG001
    """The slopes in b and W of the outputs' losses, weighted with a cotangent."""
    W, by_gram, by_bias, cotangent = varied
    weighted = cotangent[None] * by_gram  # (input, output)
    both = weighted + weighted.T
    small = len(both) < MANY  # a batch of such products is slow on a CPU
    return cotangent * by_bias, (W[:, :, None] * both[None]).sum(1) if small else W @ both


_output_losses.defvjp(_forward, _backward, symbolic_zeros=True)
