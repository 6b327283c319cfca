"""The exact population loss of the toy model, `L = sum_i importance_i E (x_i - f(W^T W x + b)_i)^2`, and its gradient.

A pre-activation is a sum of independent terms, so the loss of each output is an integral in one dimension, whatever the
number of features. `relu_output` computes it to a stated error at about the price of one minibatch step; `linear` and
`mean_field` are closed forms, the second an approximation for many active features. No sampling anywhere.

`W` has shape (m, n); its column i is the direction of feature i. The loss is summed over features.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from superpose import box_averages, compressed_series, cosine_series, features, few_active
from superpose.models_last import NO_DERIVATIVE, one_at_a_time
from superpose.sets import Sets, sets_of
from superpose.toy_model import Params

Importance = Float[Array, " n"] | Float[Array, ""] | float

FEWEST = 8
"""Nodes below which a series says nothing."""
FINE = 128
"""Nodes from which pairs of active features are taken in closed form too, where they can be: that costs as much as some 30 nodes,
and then the least smooth terms, of two features almost orthogonal to an output, decide about the error."""


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
    """Population loss of the ReLU model, exact up to the truncation of a cosine series.

    `sum_i I_i [p_i E u^2 - 2 E x_i r(y_i) + E r(y_i)^2]`, `y = W^T W x + b`. Terms with at most one active set are taken in
    closed form (and from 128 nodes on those with two active features, of up to 8 with a constant density of their magnitudes), the
    rest by `superpose.cosine_series`. Up to three uniform features, or binary ones of at most 1,024 states,
    need no series and have no error. `error_bound` says how large the error is for given parameters.

    Differentiable in `params` and `importance`, twice: the gradient comes in the same pass (reverse mode first, then forward
    for Hessians); not in the distribution.

    Args:
        params: `W` (m, n), `b` (n,).
        distribution: of the n features.
        importance: weight of each feature, scalar or `(n,)`, >= 0.
        nodes: terms of the series, at least 8. The work is proportional to n^2 nodes; from 32 uniform features of one density on,
            to n^2 R + n nodes, R = 32 or less (`superpose.compressed_series`).

    Returns:
        The loss, a scalar >= 0.

    Raises:
        ValueError: shapes that do not fit, `nodes` below 8, or a derivative in the distribution.

    Reference: "Toy Models of Superposition" (Elhage et al. 2022), section 2, for the model and loss.
    """
    return jnp.sum(importance * output_losses(params, distribution, nodes=nodes))


def output_losses(params: Params, distribution: features.Distribution, *, nodes: int = 64) -> Float[Array, " n"]:
    """`E (x_i - r(y_i))^2` of each output, shape `(n,)`: `relu_output` before importances; see there."""
    _check(params, distribution, nodes)
    law_values, law_tree = jax.tree.flatten(distribution)
    return _output_losses(params.W, params.b, law_values, law_tree, nodes)


def error_bound(
    params: Params, distribution: features.Distribution, importance: Importance = 1.0, *, nodes: int = 64
) -> Float[Array, ""]:
    """An estimate, tested to lie above the truth, of how far `relu_output` with these `nodes` is from the population loss.

    `sum_i I_i [2 max_{K/2 <= k < K} |S_K - S_k| + P(y_i outside [a, c]) (c - a)^2 + 4 eps sum_k |term_k| + sum_r |A_ri M_ri|]`,
    with S_k the series cut at node k and, for many features, the last quarter of Chebyshev terms; 0 where a closed form is used.
    Costs as much as the loss. For float64: it leaves out float32's rounding of many features, up to 1e-4 of the loss at n = 1,000.

    Returns:
        Absolute error, a scalar >= 0; raises as `relu_output`.
    """
    _check(params, distribution, nodes)
    law_values, law_tree = jax.tree.flatten(distribution)
    return jnp.sum(importance * _bounds(params.W, params.b, law_values, law_tree, nodes))


@_of_a_model
def _bounds(params: Params, distribution: features.Distribution, nodes: int) -> Float[Array, " n"]:
    """`error_bound` of each output."""
    exact, sets = _exact(params, distribution, nodes)
    law, gram = features.magnitude(distribution), params.W.T @ params.W
    if exact is not None or box_averages.complete(sets, law):
        return jnp.zeros_like(params.b)
    span = cosine_series.interval(sets, law, gram, params.b, nodes=nodes)
    if compressed_series.applies(sets, law):
        terms, beyond = compressed_series.node_values(sets, law, gram, params.b, span, nodes=nodes)
    else:
        terms, beyond = cosine_series.node_values(sets, law, gram, params.b, span, nodes=nodes), 0
    after = jnp.cumsum(terms[::-1], axis=0)[: nodes // 2]  # S_K - S_k for k = K-1 .. K/2
    rounding = 4 * jnp.finfo(terms.dtype).eps * jnp.abs(terms).sum(0)
    return 2 * jnp.abs(after).max(0) + span.tail * (span.c - span.a) ** 2 + rounding + beyond


@_precisely
def linear(params: Params, distribution: features.Distribution, importance: Importance = 1.0) -> Float[Array, ""]:
    """Population loss of the linear model `x' = W^T W x + b`, in closed form.

    `sum_i I_i [((1 - G) C (1 - G)^T)_ii + (mu - G mu - b)_i^2]` with G = W^T W, mu and C the features' mean and covariance.
    Differentiable in everything. At its minimum the m features of largest `I_i Var x_i` are kept, as in PCA.

    Returns:
        The loss, a scalar >= 0.
    """
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
    if params.W.ndim != 2 or params.b.shape != params.W.shape[1:]:
        raise ValueError(f"W has shape {params.W.shape}, b {params.b.shape}: needs (m, n) and (n,) for one model")
    if nodes < FEWEST:
        raise ValueError(f"nodes = {nodes}: needs at least {FEWEST}")
    features.check(distribution, n=params.b.shape[0])


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _output_losses(W: Array, b: Array, law_values: list, law_tree: Any, nodes: int) -> Float[Array, " n"]:
    """`output_losses`; plain arrays, as what `custom_vjp` passes to `_forward` would not do for fields of `Params`."""
    return _losses(W, b, law_values, law_tree, nodes)


@_of_a_model
def _losses(params: Params, distribution: features.Distribution, nodes: int) -> Float[Array, " n"]:
    exact, sets = _exact(params, distribution, nodes)
    gram, b, law = params.W.T @ params.W, params.b, features.magnitude(distribution)
    if exact is not None:
        return exact(gram, b)
    if box_averages.complete(sets, law):
        return box_averages.values(sets, law, gram, b)
    span = cosine_series.interval(sets, law, gram, b, nodes=nodes)
    if compressed_series.applies(sets, law):
        series = compressed_series.node_values(sets, law, gram, b, span, nodes=nodes)[0].sum(0)
    else:
        series = cosine_series.node_values(sets, law, gram, b, span, nodes=nodes).sum(0)
    pairs = 0 if sets.pairs is None else box_averages.values(sets, law, gram, b)
    return _closed_part(sets, law, span, gram, b) + pairs + series


def _forward(W: Any, b: Any, law_values: list, law_tree: Any, nodes: int) -> tuple[Array, tuple]:
    """Losses, and the slopes of each in g_ij and b_i, in one pass."""
    if any(x.perturbed for x in law_values):
        raise ValueError(NO_DERIVATIVE)
    loss, by_gram, by_bias = _value_and_slopes(W.value, b.value, [x.value for x in law_values], law_tree, nodes)
    return loss, (W.value, by_gram, by_bias)


@_of_a_model
def _value_and_slopes(params: Params, distribution: features.Distribution, nodes: int) -> tuple[Array, Array, Array]:
    gram, b, law = params.W.T @ params.W, params.b, features.magnitude(distribution)
    exact, sets = _exact(params, distribution, nodes)
    parts = []
    if sets.pairs is not None or box_averages.complete(sets, law):
        parts.append(box_averages.value_and_slopes(sets, law, gram, b))
    if exact is None and not box_averages.complete(sets, law):
        span = cosine_series.interval(sets, law, gram, b, nodes=nodes)
        way = compressed_series if compressed_series.applies(sets, law) else cosine_series
        parts.append(way.value_and_slopes(sets, law, gram, b, span, nodes=nodes))
        exact = partial(_closed_part, sets, law, span)
    if exact is not None:
        closed, pullback = jax.vjp(exact, gram, b)
        parts.append((closed, *pullback(jnp.ones_like(closed))))  # an output depends on its own row and bias alone
    return jax.tree.map(lambda *x: sum(x[1:], x[0]), *parts)


def _backward(law_tree: Any, nodes: int, residuals: tuple, cotangent: Array) -> tuple[Array, Array, None]:  # noqa: ARG001
    W, by_gram, by_bias = residuals
    by_bias, by_weight = _each(_pulled, len(by_bias))((W, by_gram, by_bias, cotangent), ())
    return by_weight, by_bias, None


@_precisely
def _pulled(varied: tuple, fixed: tuple) -> tuple[Array, Array]:  # noqa: ARG001
    """The slopes in b and W of the outputs' losses, weighted with a cotangent."""
    W, by_gram, by_bias, cotangent = varied
    weighted = cotangent[:, None] * by_gram
    both = weighted + weighted.T
    small = len(both) < MANY  # a batch of such products is slow on a CPU
    return cotangent * by_bias, (W[:, :, None] * both[None]).sum(1) if small else W @ both


_output_losses.defvjp(_forward, _backward, symbolic_zeros=True)


def _exact(params: Params, distribution: features.Distribution, nodes: int) -> tuple[Any, Sets]:
    """The closed form as a function of (gram, b), where there is one beside `box_averages`."""
    law = features.magnitude(distribution)
    sets = sets_of(distribution, n=params.b.shape[0], dtype=params.b.dtype, pairs=nodes >= FINE)
    if box_averages.complete(sets, law):
        return None, sets
    if law.name == "binary" and (patterns := few_active.states(sets)) is not None:
        return partial(few_active.binary, sets, patterns), sets
    if sets.removed and len(sets.idle) == 1:
        return partial(few_active.low_order, sets, law), sets
    return None, sets


def _closed_part(sets: Sets, law: Any, span: cosine_series.Interval, gram: Array, b: Array) -> Float[Array, " n"]:
    """Everything but the series: few active sets, `E x_i^2` of the rest, and the parabolas with F_0."""
    probability, square, active, tilt, cross = few_active.moments(sets, law, gram, b - span.a)
    square_factor, square_zero, cross_factor, cross_zero = cosine_series.parabola(span)
    of_square = square_factor * square + square_zero * probability
    of_cross = cross_factor * cross + cross_zero * law.moments[0] * active + jnp.where(span.on, tilt, 0)
    return few_active.low_order(sets, law, gram, b) + law.moments[1] * active + of_square - 2 * of_cross
