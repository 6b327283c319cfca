"""Models, laws and couplings that tests of the exact loss share, and the losses as they take them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from exact_oracles import uniform_losses

from superpose import expected_loss, features
from superpose.toy_model import Params

SETS = (0, 1, 0, 1, 1)
LAWS = {
    "uniform": features.SparseUniform,
    "binary": features.SparseBinary,
    "symmetric": features.SparseSymmetric,
    "exponential": features.SparseExponential,
}
DENSITIES = (0.001, 0.03, 0.3, 0.9, 1.0)


def make_models(n, m, count, seed, *, shortest=0.2):
    """Columns of norm `shortest` to 1.5, biases of both signs; every other model has a zero column."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((count, m, n))
    W *= rng.uniform(shortest, 1.5, (count, 1, n)) / np.linalg.norm(W, axis=1, keepdims=True)
    W[::2, :, 0] = 0
    return jnp.asarray(W), jnp.asarray(rng.uniform(-0.5, 0.5, (count, n)))


def make_params(n=5, m=2, seed=0):
    W, b = make_models(n, m, 2, seed)
    return Params(W=W[1], b=b[1])


def of_kind(law, density, kind):
    """Five features, in sets of two and three where they are coupled."""
    if kind == "independent":
        return LAWS[law](density)
    return {"together": features.Together, "exclusive": features.Exclusive}[kind](LAWS[law](density), SETS)


outputs, total, bound = expected_loss.output_losses, expected_loss.relu_output, expected_loss.error_estimate
"""Called as they are: each compiles its parts by itself, so tests share programs."""


def uniform_outputs(W, b, p, nodes):
    """Each output's loss, for a leading axis of models, one after the other."""
    each = zip(W, b, p, strict=True)
    return np.stack([outputs(Params(W=W, b=b), features.SparseUniform(p), nodes=nodes) for W, b, p in each])


def side_by_side(W, b, p, nodes):
    """The same under `vmap`."""
    one = lambda W, b, p: outputs(Params(W=W, b=b), features.SparseUniform(p), nodes=nodes)  # noqa: E731
    return jax.jit(jax.vmap(one))(W, b, p)


def value_and_gradient(params, distribution, importance):
    return jax.value_and_grad(expected_loss.relu_output)(params, distribution, importance, nodes=512)


def zoo(n, count=4):
    """Models times densities, the last of them one per feature: flat arrays and the losses by corner sums."""
    W, b = make_models(n, max(1, n // 2), count, seed=n)
    mixed = np.resize(np.array([0.9, 0.001, 0.3, 1.0, 0.03]), n)
    p = jnp.asarray(np.array([np.full(n, d) for d in DENSITIES] + [mixed]))
    pairs = list(itertools.product(range(count), range(len(p))))
    models, rows = (np.array(x) for x in zip(*pairs, strict=True))
    W, b, p = W[models], b[models], p[rows]
    truth = np.array([uniform_losses(*(np.asarray(x, float) for x in one)) for one in zip(W, b, p, strict=True)])
    return W, b, p, truth


def almost_orthogonal():
    """Two overlaps of 1e-3 with one output and no bias: the terms of the pair fall off late. W, b and p."""
    W = (
        [1.0846708, -0.2189876, 0.52092948, 0.54577575, -1.38701586],
        [0.71461276, 0.3311797, 0.7421649, -0.83147142, 0.56219823],
    )
    return np.array(W), np.zeros(5), np.full(5, 0.02158575)


def big_model(n):
    """N random columns of norm about 1 in n/5 dimensions."""
    rng = np.random.default_rng(n)
    m = n // 5
    return Params(W=jnp.asarray(rng.standard_normal((m, n)) / np.sqrt(m)), b=jnp.asarray(rng.uniform(-0.3, 0.3, n)))


def models(params):
    """One after the other."""
    return [Params(W=W, b=b) for W, b in zip(params.W, params.b, strict=True)]
