"""Closed forms for large or linear models: the linear model's loss, exactly, and the ReLU model's in mean field."""

import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from superpose import features
from superpose._jax.precision import precisely
from superpose.expected_loss.contexts import over_contexts
from superpose.expected_loss.inputs import Importance, check_kinds
from superpose.toy_model import Params


@precisely
def linear(params: Params, distribution: features.Distribution, importance: Importance = 1.0) -> Float[Array, ""]:
    """Population loss of the linear model `x' = W^T W x + b`, in closed form.

    `sum_i I_i [((1 - G) C (1 - G)^T)_ii + (mu - G mu - b)_i^2]` with G = W^T W, mu and C the features' mean and covariance.
    Differentiable in everything. At its minimum the m features of largest `I_i Var x_i` are kept, as in PCA.

    Returns:
        The loss, a scalar >= 0.
    """
    check_kinds(params, distribution)
    n = params.b.shape[0]
    error = jnp.eye(n, dtype=params.b.dtype) - params.W.T @ params.W
    spread = jnp.einsum("ij,jk,ik->i", error, features.covariance(distribution, n=n), error)
    return jnp.sum(importance * (spread + (error @ features.mean(distribution, n=n) - params.b) ** 2))


@precisely
def mean_field(params: Params, distribution: features.Distribution, importance: Importance = 1.0) -> Float[Array, ""]:
    """`relu_output` with every pre-activation taken as Gaussian with its true mean and variance: for many active features.

    With `t = mu_y / s`: `E r = mu_y Phi(t) + s phi(t)`, `E r^2 = (mu_y^2 + s^2) Phi(t) + mu_y s phi(t)` and, by Stein's
    lemma, `E x_i r = E x_i E r + Cov(x_i, y_i) Phi(t)`. Exact as a sum of many small terms; it fails where few features are active:
    for 100 random unit columns in 20 dimensions it is off by 0.1 % at p = 0.9, 3 % at 0.5, 14 % at 0.1 and 21 % at 0.01.

    Of a mixture it is the mean over its contexts, each Gaussian by itself.

    Returns:
        The approximate loss, a scalar; not a bound on either side.
    """
    check_kinds(params, distribution)
    features.check(distribution, n=params.b.shape[0])
    return _gaussian(params, distribution, importance)


@over_contexts
def _gaussian(params: Params, distribution: features.Sparse | features.Coupled, importance: Importance) -> Float[Array, ""]:
    n, gram = params.b.shape[0], params.W.T @ params.W
    context = features.Mixture((distribution,), jnp.ones(1))  # where a density may be 0
    mean, covariance = features.mean(context, n=n), features.covariance(context, n=n)
    shared = gram @ covariance
    variance = jnp.maximum((shared * gram).sum(1), jnp.finfo(gram.dtype).tiny)
    mu, s = gram @ mean + params.b, jnp.sqrt(variance)
    below, peak = norm.cdf(mu / s), norm.pdf(mu / s)
    first, second = mu * below + s * peak, (mu**2 + variance) * below + mu * s * peak
    cross = mean * first + jnp.diagonal(shared) * below
    return jnp.sum(importance * (jnp.diagonal(covariance) + mean**2 - 2 * cross + second))
