"""The population loss of an autoencoder's ReLU latents, and of any network with one ReLU layer and a linear output. No sampling.

With latents `z = r(c + G x)` and outputs `V z + a` for targets t the loss is

    sum_i I_i E (t_i - a_i - V_i.z)^2
        = sum_i I_i [E (t_i - a_i)^2 - 2 V_i.(E t_i z - a_i E z) + V_i.(E z z^T) V_i],

and `rectified_moments` and `pair_moments` have all of it. An autoencoder on `h = W x` is the case `G = W_enc W`, t = h.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from superpose import autoencoder as model
from superpose import features
from superpose.expected_loss.accuracy import SAFETY
from superpose.expected_loss.inputs import Importance, check_floats, check_importance, check_nodes
from superpose.expected_loss.pair_moments import pair_moments
from superpose.expected_loss.rectified import RectifiedMoments, rectified_moments

FINER = 2
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
    moments = latent_moments(params.W_enc @ W, params.b_enc, distribution, nodes)
    mean, cov = features.mean(distribution, n=n), features.covariance(distribution, n=n)
    away = W @ mean - params.b_dec
    spread = jnp.sum((W @ cov) * W) + away @ away
    rest = _readout(moments, W @ moments.single.cross.T, params.W_dec, params.b_dec, jnp.ones_like(params.b_dec))
    return spread + rest + penalty * model.sizes(params.W_dec, weighted=weighted) @ moments.single.mean


class LatentMoments(NamedTuple):
    """Of latents `z = r(c + G x)`: `single`, those of each; `pairs` (L, L), `E z z^T`."""

    single: RectifiedMoments
    pairs: Array


def latent_moments(G: Array, c: Array, distribution: features.Distribution, nodes: int) -> LatentMoments:
    """All that a loss takes of latents."""
    single = rectified_moments(G, c, distribution, nodes=max(64, 2 * nodes))
    return LatentMoments(single, pair_moments(G, c, distribution, nodes=nodes))


def _readout(moments: LatentMoments, cross: Array, V: Array, a: Array, importance: Array) -> Array:
    """`sum_i I_i [V_i.(E z z^T) V_i - 2 V_i.(E t_i z - a_i E z)]`; `cross` (outputs, L) is `E t_i z`."""
    each = jnp.sum((V @ moments.pairs) * V, axis=1) - 2 * jnp.sum(V * (cross - a[:, None] * moments.single.mean), axis=1)
    return importance @ each


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

    `1.25 (|L(K) - L(2K)| + |sum_kl (D^T D)_kl (M(K) - M(2K))_kl| / 4)`, the second sum over sizes. Costs five times the loss.
    """
    check_autoencoder(params, W, penalty, nodes)
    G, overlap = params.W_enc @ W, params.W_dec.T @ params.W_dec
    coarse, fine = (latent_moments(G, params.b_enc, distribution, k) for k in (nodes, FINER * nodes))
    losses = (
        _readout(x, W @ x.single.cross.T, params.W_dec, params.b_dec, jnp.ones_like(params.b_dec))
        + penalty * model.sizes(params.W_dec, weighted=weighted) @ x.single.mean
        for x in (coarse, fine)
    )
    apart = jnp.sum(jnp.abs(overlap * (coarse.pairs - fine.pairs)))
    return SAFETY * (jnp.abs(next(losses) - next(losses)) + apart / 4)


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
    L, n = W_in.shape
    outputs = n if isinstance(target, str) else len(target)
    if b_in.shape != (L,) or W_out.shape != (outputs, L) or b_out.shape != (outputs,):
        given = f"W_in {W_in.shape}, b_in {b_in.shape}, W_out {W_out.shape}, b_out {b_out.shape}"
        raise ValueError(f"{given}: needs (L, n), (L,), ({outputs}, L) and ({outputs},)")
    check_floats(W_in=W_in, b_in=b_in, W_out=W_out, b_out=b_out)
    check_importance(importance, outputs)
    weights = jnp.broadcast_to(jnp.asarray(importance, b_out.dtype), (outputs,))
    second, mean, cross, moments = _targets(target, W_in, b_in, distribution, nodes)
    return weights @ (second - 2 * b_out * mean + b_out**2) + _readout(moments, cross, W_out, b_out, weights)


def _targets(
    target: Targets, W_in: Array, b_in: Array, distribution: features.Distribution, nodes: int
) -> tuple[Array, Array, Array, LatentMoments]:
    """`E t^2`, `E t`, `E t z` (outputs, L), and the moments of the latents."""
    L, n = W_in.shape
    second = features.second_moment(distribution, n=n)
    if target == "identity":
        moments = latent_moments(W_in, b_in, distribution, nodes)
        return second, features.mean(distribution, n=n), moments.single.cross.T, moments
    if target == "absolute":  # r(x) + r(-x), two neurons more for each feature
        eye = jnp.eye(n, dtype=W_in.dtype)
        more = latent_moments(
            jnp.concatenate([W_in, eye, -eye]), jnp.concatenate([b_in, jnp.zeros(2 * n, b_in.dtype)]), distribution, nodes
        )
        mean, cross = (x[L : L + n] + x[L + n :] for x in (more.single.mean, more.pairs[:, :L]))
        moments = LatentMoments(RectifiedMoments(*(x[:L] for x in more.single)), more.pairs[:L, :L])
        return second, mean, cross, moments
    if isinstance(target, str) or not isinstance(distribution, features.SparseBinary):
        raise ValueError(
            f"target = {target!r}, {type(distribution).__name__}: needs 'identity', 'absolute', or pairs of SparseBinary"
        )
    first, other = np.array(target).T
    p = features.density(distribution, n=n)
    both = jnp.where(first == other, p[first], p[first] * p[other])

    def once_both(j: Array, k: Array) -> Array:
        certain = features.SparseBinary(p.at[j].set(1).at[k].set(1))
        return rectified_moments(W_in, b_in, certain, nodes=max(64, 2 * nodes)).mean

    return both, both, both[:, None] * jax.vmap(once_both)(first, other), latent_moments(W_in, b_in, distribution, nodes)
