"""Sparse autoencoders solved exactly: certified minima of the population loss on `h = W x`, from random starts and from the truth.

The columns of `W_dec` have length 1: a latent's scale would be a flat direction of the loss otherwise, and the penalty would vanish
along it. Inside, the loss is divided by `E |h - E h|^2`, and biases of latents are in units of the root of the mean density.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from superpose import autoencoder, features
from superpose import solve as exact
from superpose.autoencoder import Params
from superpose.expected_loss import autoencoder as population_loss
from superpose.expected_loss import rectified_moments
from superpose.weights import unit

FINER, FEWEST, MOST_NODES = 2, 32, 128
"""The loss with so many times the nodes goes into the certificate; nodes of the first search, and the most."""


@struct.dataclass
class Minima:
    """What each start led to; a leading axis of starts, the one from the truth last where there is one.

    `params`, with unit columns of `W_dec`. `loss`, and its parts: `error`, `E |h - h'|^2`; `activity` (start, L), `E z_l`.
    `cosine` (start, L, n), of each latent's direction with each feature's. `converged`, `gap` (in units of the loss) and `reason`
    as in `superpose.solve.Solution`. `eigenvalues` of the Hessian in natural units. `basin`: number of the start's basin, 0 the
    lowest, -1 where it did not converge. And without the axis: `best`, the start of least loss; `nodes`, of the series in `loss`.
    """

    params: Params
    loss: Array
    error: Array
    activity: Array
    cosine: Array
    converged: Array
    gap: Array
    reason: Array
    eigenvalues: Array
    basin: Array
    best: Array
    nodes: Array


class _Settings(NamedTuple):
    nodes: int
    tolerance: float
    steps: int
    escapes: int


def solve(
    key: Key[Array, ""],
    W: Float[Array, "m n"],
    distribution: features.Distribution,
    *,
    latents: int,
    penalty: Float[Array, ""] | float,
    restarts: int = 8,
    truth: bool = True,
    starts: Params | None = None,
    tolerance: float = 1e-6,
    nodes: int | None = None,
    steps: int = 500,
    escapes: int = 6,
) -> Minima:
    """Minimise `E |h - h'|^2 + penalty sum_l E z_l` over autoencoders with unit columns `d_l`, and certify what is found.

    Compiled once for sizes, a kind of distribution and settings; another penalty, density or W compiles nothing anew. Under `vmap`
    and `jit` as well, with `nodes` given.

    Args:
        key: of the random starts.
        W: directions of the n features, in columns.
        distribution: of the n features, any of `superpose.features`.
        latents: number of latents L, at least 1. Hessians are dense: up to about `2 L m = 100`.
        penalty: weight of the latents' mean size, >= 0.
        restarts: random starts, tied, with directions spread evenly at random; 0 where only the truth is to be tried.
        truth: whether to start from the features' own directions as well; latents beyond n start at random ones.
        starts: starts instead of the random ones, with a leading axis.
        tolerance: the largest gap of a certified minimum, as a share of its loss; the error of the loss counts.
        nodes: frequencies of each axis; None: 32, and where a minimum asks for more twice as many, up to 128.
        steps: at most so many quasi-Newton steps a start at once.
        escapes: how often a start begins again, as off a saddle point; 0 stays there, and says whether the truth's point is one.

    Returns:
        The minima, in the order of the starts.

    Raises:
        ValueError: sizes, shapes or numbers that do not fit, or no start at all.
    """
    first = _starts(key, W, latents=latents, restarts=restarts, truth=truth, given=starts)
    features.check(distribution, n=W.shape[1])
    traced = any(isinstance(x, Tracer) for x in jax.tree.leaves((first, distribution, penalty)))
    if traced and nodes is None:
        raise ValueError("nodes = None: needs a number under vmap or jit, where it cannot be chosen from the result")
    if not isinstance(penalty, Tracer) and not np.all(np.asarray(penalty) >= 0):
        raise ValueError(f"penalty = {penalty}: needs to be at least 0")
    data: tuple = (
        jnp.asarray(W, float),
        jax.tree.map(lambda x: jnp.asarray(x, float), distribution),
        jnp.asarray(penalty, float),
    )
    count = nodes or FEWEST
    found = _minima(first, data, _Settings(count, tolerance, steps, escapes))
    while nodes is None and count < MOST_NODES and jnp.any(found.reason == exact.REASONS.index("inexact")):
        count *= 2
        found = _minima(found.params, data, _Settings(count, tolerance, steps, escapes))
    return found


def _starts(key: Key[Array, ""], W: Array, *, latents: int, restarts: int, truth: bool, given: Params | None) -> Params:
    m, n = W.shape
    if latents < 1 or restarts < 0:
        raise ValueError(f"latents = {latents}, restarts = {restarts}: need at least 1 and at least 0")
    if restarts + truth + (given is not None) == 0:
        raise ValueError("restarts = 0, truth = False: needs a start")
    if given is not None:
        if given.W_enc.shape[1:] != (latents, m):
            raise ValueError(f"starts has W_enc {given.W_enc.shape}: needs (r, {latents}, {m})")
        parts = [given]
    else:
        D = jax.vmap(lambda k: unit(jax.random.normal(k, (m, latents))))(jax.random.split(key, max(restarts, 1)))[:restarts]
        parts = [jax.vmap(autoencoder.from_dictionary)(D)]
    if truth:
        more = unit(jax.random.normal(jax.random.fold_in(key, restarts), (m, max(latents - n, 0))))
        D = jnp.concatenate([unit(jnp.asarray(W, float)), more], axis=1)[:, :latents]
        parts.append(jax.tree.map(lambda x: x[None], autoencoder.from_dictionary(D)))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


@partial(jax.jit, static_argnums=2)
def _minima(starts: Params, data: tuple, settings: _Settings) -> Minima:
    W, distribution, penalty = data
    n = W.shape[1]
    scale = jnp.sqrt(features.density(distribution, n=n).mean())
    whole = jnp.sum((W @ features.covariance(distribution, n=n)) * W)

    def plain(q: Params) -> Params:
        return Params(q.W_enc, q.b_enc * scale, unit(q.W_dec), q.b_dec)

    def loss(q: Params, *, nodes: int) -> Float[Array, ""]:
        return population_loss(plain(q), W, distribution, penalty=penalty, weighted=False, nodes=nodes) / whole

    natural = Params(starts.W_enc, starts.b_enc / scale, starts.W_dec, starts.b_dec)
    found: exact.Solution = exact.minimize(
        partial(loss, nodes=settings.nodes),
        natural,
        finer=partial(loss, nodes=FINER * settings.nodes),
        tolerance=settings.tolerance,
        steps=settings.steps,
        escapes=settings.escapes,
    )
    params = jax.vmap(plain)(found.params)
    activity = jax.vmap(lambda q: rectified_moments(q.W_enc @ W, q.b_enc, distribution, nodes=2 * settings.nodes).mean)(
        params
    )
    total = found.loss * whole
    return Minima(
        params=params,
        loss=total,
        error=total - penalty * activity.sum(1),
        activity=activity,
        cosine=jnp.einsum("sml,mn->sln", params.W_dec, unit(W)),
        converged=found.converged,
        gap=found.gap * whole,
        reason=found.reason,
        eigenvalues=found.eigenvalues,
        basin=exact.basins(found.loss, found.converged)[0],
        best=jnp.argmin(jnp.where(jnp.isfinite(found.loss), found.loss, jnp.inf)),
        nodes=jnp.asarray(settings.nodes),
    )
