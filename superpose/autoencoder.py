"""A sparse autoencoder with one ReLU layer: latents `z = r(W_enc h + b_enc)` of activations h, `h' = W_dec z + b_dec`.

`W_enc` has shape (L, m), its row l what latent l reads; `W_dec` has shape (m, L), its column l the direction that latent l writes,
called `d_l`. In a toy model h = W x.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class Params:
    """`W_enc` (L, m), `b_enc` (L,), `W_dec` (m, L), `b_dec` (m,)."""

    W_enc: Array
    b_enc: Array
    W_dec: Array
    b_dec: Array


def encode(params: Params, h: Float[Array, " m"]) -> Float[Array, " L"]:
    """`z = r(W_enc h + b_enc)` of one activation."""
    return jax.nn.relu(params.W_enc @ h + params.b_enc)


def decode(params: Params, z: Float[Array, " L"]) -> Float[Array, " m"]:
    """`h' = W_dec z + b_dec`."""
    return params.W_dec @ z + params.b_dec


def loss(
    params: Params, h: Float[Array, " m"], penalty: Float[Array, ""] | float = 0.0, *, weighted: bool = True
) -> Float[Array, ""]:
    """`|h - h'|^2 + penalty sum_l |d_l| z_l` at one activation; unless `weighted`, `+ penalty sum_l z_l`.

    Reference: Bricken et al. 2023, "Towards Monosemanticity", for the plain penalty with unit columns; Conerly et al. 2024,
    "Update on how we train SAEs", for the weighted one.
    """
    z = encode(params, h)
    return jnp.sum((h - decode(params, z)) ** 2) + penalty * jnp.sum(sizes(params.W_dec, weighted=weighted) * z)


def sizes(W_dec: Float[Array, "m L"], *, weighted: bool) -> Float[Array, " L"]:
    """What each latent weighs in the penalty: the length of its column, with a slope at length 0 too; or 1."""
    return jnp.sqrt(jnp.sum(W_dec**2, axis=0) + jnp.finfo(W_dec.dtype).tiny) if weighted else jnp.ones_like(W_dec[0])


def from_dictionary(D: Float[Array, "m L"], *, bias: Float[Array, ""] | float = 0.0) -> Params:
    """The tied start from directions: `W_dec = D`, `W_enc = D^T`, `b_enc = bias`, `b_dec = 0`."""
    return Params(W_enc=D.T, b_enc=jnp.full(D.shape[1], bias, D.dtype), W_dec=D, b_dec=jnp.zeros(D.shape[0], D.dtype))
