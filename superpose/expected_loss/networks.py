"""The population loss of an autoencoder's ReLU latents, and of any network with one ReLU layer and a linear output. No sampling.

With latents `z = r(c + G x)` and outputs `V z + a` for targets t the loss is

    sum_i I_i E (t_i - a_i - V_i.z)^2
        = sum_i I_i [E (t_i - a_i)^2 - 2 V_i.(E t_i z - a_i E z) + V_i.(E z z^T) V_i],

and `rectified_moments` and `pair_moments` have all of it. An autoencoder on `h = W x` is the case `G = W_enc W`, t = h.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from superpose import autoencoder as model
from superpose import features
from superpose.expected_loss.accuracy import SAFETY
from superpose.expected_loss.inputs import Importance, check_floats, check_importance, check_nodes, check_rows
from superpose.expected_loss.pair_moments import FINER, of_pairs, pair_moments
from superpose.expected_loss.pair_series import Pair
from superpose.expected_loss.rectified import rectified_moments

TRUER = 2
"""So many times the nodes are what an autoencoder's nodes are held against."""
MOST_NODES = 256
"""Nodes an axis that `autoencoder_nodes_for` tries at most."""

Targets = Literal["identity", "absolute"] | tuple[tuple[int, int], ...]


def autoencoder(
    params: model.Params,
    W: Float[Array, "m n"],
    distribution: features.Distribution,
    *,
    penalty: Float[Array, ""] | float,
    weighted: bool = True,
    nodes: int = 32,
) -> Float[Array, ""]:
    """`E |h - h'|^2 + penalty sum_l |d_l| E z_l` of an autoencoder on `h = W x`, exact up to the truncation of Fourier series.

    `z = r(W_enc h + b_enc)`, `h' = W_dec z + b_dec`, `d_l` column l of `W_dec`. Differentiable in `params`, W and `penalty`, twice
    (reverse mode first, then forward for Hessians); not in the distribution.

    Args:
        params: `W_enc` (L, m), `b_enc` (L,), `W_dec` (m, L), `b_dec` (m,).
        W: directions of the n features, in columns.
        distribution: of the n features.
        penalty: weight of the latents' mean size, >= 0.
        weighted: whether each latent counts times the length of its column; else `penalty sum_l E z_l`.
        nodes: frequencies of each axis of the pairs' series, at least 8; see `autoencoder_error`.

    Raises:
        ValueError: shapes that do not fit, numbers that are no floats, a penalty below 0, `nodes` below 8, a distribution that is
            none, or a derivative in it.
    """
    check_autoencoder(params, W, penalty, nodes)
    n = W.shape[1]
    moments = _of_latents(params, W, distribution, nodes)
    mean, cov = features.mean(distribution, n=n), features.covariance(distribution, n=n)
    away = W @ mean - params.b_dec
    spread = jnp.sum((W @ cov) * W) + away @ away
    return spread + _of_outputs(params, moments, penalty, weighted=weighted)


class LatentMoments(NamedTuple):
    """Of latents z and targets t: `mean` (L,), `E z`; `cross` (outputs, L), `E t z`; `pairs` (L, L), `E z z^T`."""

    mean: Array
    cross: Array
    pairs: Array


def latent_moments(
    A: Float[Array, "o n"], G: Float[Array, "L n"], c: Float[Array, " L"], distribution: features.Distribution, nodes: int
) -> LatentMoments:
    """All that a loss takes of latents `z = r(c + G x)`, of targets `t = A x`."""
    L, outputs = len(c), len(A)
    row, latent = np.repeat(np.arange(outputs), L), np.tile(np.arange(L), outputs + 1)
    first = jnp.concatenate([A[row], jnp.zeros_like(G)])  # of t and of 1
    constant = jnp.concatenate([jnp.zeros(outputs * L, c.dtype), jnp.ones_like(c)])
    pair = Pair(first.T, constant, G[latent].T, c[latent])
    line = of_pairs(pair, distribution, nodes=FINER * nodes, line=True).reshape(outputs + 1, L)
    return LatentMoments(line[-1], line[:-1], pair_moments(G, c, distribution, nodes=nodes))


def _readout(moments: LatentMoments, V: Array, a: Array, importance: Array) -> Array:
    """`sum_i I_i [V_i.(E z z^T) V_i - 2 V_i.(E t_i z - a_i E z)]`."""
    crossed = moments.cross - a[:, None] * moments.mean[None]
    return importance @ (jnp.sum((V @ moments.pairs) * V, axis=1) - 2 * jnp.sum(V * crossed, axis=1))


def _of_latents(params: model.Params, W: Array, distribution: features.Distribution, nodes: int) -> LatentMoments:
    return latent_moments(W, params.W_enc @ W, params.b_enc, distribution, nodes)


def _of_outputs(params: model.Params, moments: LatentMoments, penalty: Array | float, *, weighted: bool) -> Array:
    """The loss less `E |h - b_dec|^2`."""
    rest = _readout(moments, params.W_dec, params.b_dec, jnp.ones_like(params.b_dec))
    return rest + penalty * model.sizes(params.W_dec, weighted=weighted) @ moments.mean


def autoencoder_error(
    params: model.Params,
    W: Float[Array, "m n"],
    distribution: features.Distribution,
    *,
    penalty: Float[Array, ""] | float,
    weighted: bool = True,
    nodes: int = 32,
) -> Float[Array, ""]:
    """How far `autoencoder` with these nodes is from the population loss, estimated to err on the large side: an absolute error.

    `1.25 (|L(K) - L(2K)| + sum_kl |(D^T D)_kl (M(K) - M(2K))_kl|)`, L the loss and M the pair moments. Costs five times the loss.
    """
    check_autoencoder(params, W, penalty, nodes)
    coarse, fine = (_of_latents(params, W, distribution, k) for k in (nodes, TRUER * nodes))
    losses = [_of_outputs(params, x, penalty, weighted=weighted) for x in (coarse, fine)]
    apart = jnp.sum(jnp.abs(params.W_dec.T @ params.W_dec * (coarse.pairs - fine.pairs)))
    return SAFETY * (jnp.abs(losses[0] - losses[1]) + apart)


def autoencoder_nodes_for(
    params: model.Params,
    W: Float[Array, "m n"],
    distribution: features.Distribution,
    *,
    penalty: Float[Array, ""] | float,
    weighted: bool = True,
    tolerance: float = 1e-6,
) -> int:
    """The fewest nodes, 8, 16, .. 256, whose `autoencoder_error` is at most `tolerance` times the loss. Not under `jit`.

    Raises:
        ValueError: as `autoencoder`; a tolerance that is not positive; or one that 256 nodes do not reach.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance = {tolerance}: needs to be positive")
    nodes, how = 8, {"penalty": penalty, "weighted": weighted}
    while True:
        share = float(
            autoencoder_error(params, W, distribution, nodes=nodes, **how)
            / autoencoder(params, W, distribution, nodes=nodes, **how)
        )
        if share <= tolerance:
            return nodes
        if nodes == MOST_NODES:
            raise ValueError(f"tolerance = {tolerance}: needs at least {share:.1e}, what {MOST_NODES} nodes reach here")
        nodes *= 2


def check_autoencoder(params: model.Params, W: Array, penalty: Array | float, nodes: int) -> None:
    """Raise ValueError unless all of it is one autoencoder on the activations of W, and enough nodes."""
    L, m = params.W_enc.shape if params.W_enc.ndim == 2 else (None, None)
    wanted = {"W": (m, W.shape[-1]), "b_enc": (L,), "W_dec": (m, L), "b_dec": (m,)}
    shapes = {"W": W.shape, **{k: getattr(params, k).shape for k in ("b_enc", "W_dec", "b_dec")}}
    wrong = [f"{k} {v}" for k, v in shapes.items() if v != wanted[k]]
    if L is None or wrong:
        given = ", ".join(wrong)
        raise ValueError(
            f"W_enc has shape {params.W_enc.shape}, {given}: needs (L, m), W (m, n), b_enc (L,), W_dec (m, L), b_dec (m,)"
        )
    check_floats(W=W, W_enc=params.W_enc, b_enc=params.b_enc, W_dec=params.W_dec, b_dec=params.b_dec)
    check_nodes(nodes)
    if not isinstance(penalty, Tracer) and not np.all(np.asarray(penalty) >= 0):
        raise ValueError(f"penalty = {penalty}: needs to be at least 0")


def one_hidden_layer(
    W_in: Float[Array, "L n"],
    b_in: Float[Array, " L"],
    W_out: Float[Array, "o L"],
    b_out: Float[Array, " o"],
    distribution: features.Distribution,
    importance: Importance = 1.0,
    *,
    target: Targets = "identity",
    nodes: int = 32,
) -> Float[Array, ""]:
    """`sum_i I_i E (t_i - W_out,i . r(W_in x + b_in) - b_out,i)^2`: a network with one ReLU layer and a linear output, exactly.

    Args:
        W_in: what each neuron reads.
        b_in: biases of the neurons.
        W_out: what each output reads.
        b_out: biases of the outputs.
        distribution: of the n features.
        importance: weight of each output, scalar or one for each, >= 0.
        target: "identity", `t = x`; "absolute", `t_i = |x_i|`; or pairs of features, `t = (x_j x_k, ...)`, the logical AND of
            binary ones, which need to be independent.
        nodes: frequencies of each axis, at least 8.

    Raises:
        ValueError: shapes, numbers or a target that do not fit.
    """
    check_rows(distribution, nodes, sizes="(L, n)", W_in=W_in, b_in=b_in)
    L, n = W_in.shape
    _check_target(target, distribution, n)
    outputs = n if isinstance(target, str) else len(target)
    if W_out.shape != (outputs, L) or b_out.shape != (outputs,):
        raise ValueError(f"W_out has shape {W_out.shape}, b_out {b_out.shape}: needs ({outputs}, {L}) and ({outputs},)")
    check_floats(W_out=W_out, b_out=b_out)
    check_importance(importance, outputs)
    weights = jnp.broadcast_to(jnp.asarray(importance, b_out.dtype), (outputs,))
    second, mean, moments = _targets(target, W_in, b_in, distribution, nodes)
    return weights @ (second - 2 * b_out * mean + b_out**2) + _readout(moments, W_out, b_out, weights)


def _targets(
    target: Targets, W_in: Array, b_in: Array, distribution: features.Distribution, nodes: int
) -> tuple[Array, Array, LatentMoments]:
    """`E t^2`, `E t`, and the moments of the latents."""
    n = W_in.shape[1]
    moments = latent_moments(jnp.eye(n, dtype=W_in.dtype), W_in, b_in, distribution, nodes)
    second = features.second_moment(distribution, n=n)
    if target == "identity":
        return second, features.mean(distribution, n=n), moments
    if target == "absolute":  # |x| = 2 r(x) - x, and x is r(x) where no feature is negative
        eye, zero = jnp.eye(n, dtype=W_in.dtype), jnp.zeros(n, W_in.dtype)
        L, which = len(b_in), np.arange(n * len(b_in))
        pair = Pair(eye[which // L].T, zero[which // L], W_in[which % L].T, b_in[which % L])
        cross = 2 * of_pairs(pair, distribution, nodes=nodes).reshape(n, L) - moments.cross
        mean = 2 * rectified_moments(eye, zero, distribution).mean - features.mean(distribution, n=n)
        return second, mean, moments._replace(cross=cross)
    first, other = np.array(target).T
    p = features.density(distribution, n=n)
    both = jnp.where(first == other, p[first], p[first] * p[other])

    def once_both(j: int, k: int) -> Array:
        certain = features.SparseBinary(p.at[j].set(1).at[k].set(1))
        return latent_moments(jnp.zeros((0, n), W_in.dtype), W_in, b_in, certain, nodes).mean

    cross = jnp.stack([once_both(j, k) for j, k in target])
    return both, both, moments._replace(cross=both[:, None] * cross)


def _check_target(target: Targets, distribution: features.Distribution, n: int) -> None:
    if target in ("identity", "absolute"):
        return
    pairs = np.array(target) if isinstance(target, tuple) else np.zeros(0)
    known = pairs.shape == (len(target), 2) and pairs.size and pairs.min() >= 0 and pairs.max() < n
    if not (known and isinstance(distribution, features.SparseBinary)):
        given = f"target = {target!r}, {type(distribution).__name__}"
        raise ValueError(
            f"{given}: needs 'identity', 'absolute', or pairs of numbers below n = {n} with SparseBinary features"
        )
