"""Dictionary error and encoder error of an autoencoder, told apart by optimal codes with as many active latents."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from superpose.sae.ladder.inputs import check_dictionary
from superpose.sae.ladder.lasso import lasso
from superpose.sae.ladder.pursuit import pursuit
from superpose.sae.ladder.rungs import Rung, check_data, in_parts, scored
from superpose.sae.scores import match


@struct.dataclass
class Apart:
    """Where the error of an autoencoder comes from.

    `own`: its codes and its dictionary. `refit`: optimal codes on its dictionary. `truth`: optimal codes on the true dictionary.
    `encoder = own.fvu - refit.fvu`, >= 0: what its codes lose. `dictionary = refit.fvu - truth.fvu`: what its dictionary loses.
    In `own` and `refit` each feature is scored by the latent matched to it, with the latent's part along the feature.
    """

    own: Rung
    refit: Rung
    truth: Rung
    encoder: Array
    dictionary: Array


def apart(
    x: Float[Array, "_ _"],
    h: Float[Array, "_ _"],
    D: Float[Array, "m n"],
    W_dec: Float[Array, "_ _"],
    z: Float[Array, "_ _"],
    bias: Float[Array, " _"] | None = None,
    b_dec: Float[Array, " _"] | None = None,
    *,
    most: int | None = None,
) -> Apart:
    """Score an autoencoder's codes against optimal ones, with at most as many active in each sample as it has active latents.

    Optimal codes are the better of two: those of `pursuit`, and non-negative least squares on the support at hand, which is the
    autoencoder's own or, on the true dictionary and where no larger, that of x. The best support of all is not sought. Where
    m or more latents are active the pursuit is slow and says little: keep `most` small.

    Args:
        x: (samples, n), true values of the features, >= 0.
        h: (samples, m), activations `D x + bias`, with noise or without.
        D: true directions of the features, in columns.
        W_dec: (m, L), directions of the latents, in columns.
        z: (samples, L), latents, >= 0.
        bias: (m,); None: 0.
        b_dec: (m,), of the autoencoder; None: 0.
        most: features that the pursuit chooses at most; None: the most active latents in a sample, m at most.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, negative latents, or `most` above min(m, n, L).
    """
    centered, own = check_data(x, h, D, bias), check_data(x, h, D, b_dec)
    _check(W_dec, z, h)
    top = min(*D.shape, W_dec.shape[1])
    most = max(1, min(int(jnp.max(jnp.sum(z > 0, axis=1))), top)) if most is None else most
    if not 1 <= most <= top:
        raise ValueError(f"most = {most}: needs at least 1 and at most min(m, n, L) = {top}")
    feature, gain = _reading(W_dec, D)
    k = jnp.sum(z > 0, axis=1)
    best = _optimal(W_dec, own, z > 0, k, most=most)
    true = _optimal(D, centered, x > 0, k, most=most)
    codes = ((z, W_dec, own), (best, W_dec, own), (true, D, centered))
    read = (lambda z: z[:, feature] * gain[None],) * 2 + (lambda z: z,)
    rungs = [_scored(x, h, r(z), z @ W.T, z > 0) for r, (z, W, h) in zip(read, codes, strict=True)]
    return Apart(*rungs, encoder=rungs[0].fvu - rungs[1].fvu, dictionary=rungs[1].fvu - rungs[2].fvu)


@partial(jax.jit, static_argnames="most")
def _optimal(
    D: Float[Array, "m L"],
    h: Float[Array, "samples m"],
    on: Bool[Array, "samples L"],
    k: Int[Array, " samples"],
    *,
    most: int,
) -> Float[Array, "samples L"]:
    """The better codes of each sample: of the pursuit, or of the support at hand if no larger than k."""

    def one(h: Array, on: Array, k: Array) -> Array:
        greedy = pursuit(D, h, k, most=most)
        at_hand = lasso(D * on[None], h, 0.0).x
        worse = (jnp.sum((h - D @ at_hand) ** 2) > jnp.sum((h - D @ greedy) ** 2)) | (jnp.sum(on) > k)
        return jnp.where(worse, greedy, at_hand)

    return in_parts(one, h, on, k)


def _reading(W_dec: Array, D: Array) -> tuple[Array, Array]:
    """The latent of each feature, and how much of the feature one unit of the latent is, `d_l . D_i / |D_i|^2`; 0 for none."""
    latent = match(W_dec, D).latent
    square = jnp.sum(D**2, axis=0)
    gain = jnp.sum(W_dec[:, latent] * D, axis=0) / jnp.where(square > 0, square, 1)
    return latent, jnp.where(latent >= 0, gain, 0)


def _scored(x: Array, h: Array, read: Array, h_hat: Array, on: Array) -> Rung:
    return scored(x, h, read, h_hat, on, jnp.sum((x - read) ** 2) / len(x), jnp.asarray(jnp.nan))


def _check(W_dec: Any, z: Any, h: Any) -> None:
    check_dictionary(W_dec, "W_dec")
    if W_dec.shape[0] != h.shape[1]:
        raise ValueError(f"W_dec has shape {W_dec.shape}: needs (m, L) with m = {h.shape[1]}, as h has")
    if z.shape != (len(h), W_dec.shape[1]):
        raise ValueError(f"z has shape {z.shape}: needs (samples, L) = ({len(h)}, {W_dec.shape[1]})")
    if not isinstance(z, Tracer) and not np.all(np.isfinite(z) & (np.asarray(z) >= 0)):
        raise ValueError("z holds numbers that are negative or not finite: needs none")
