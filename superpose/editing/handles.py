"""Handles on concepts: a direction to write each along, and a number to read of how strongly it is there.

Concept t is a feature of the toy model. A handle says that `v_t s_t(h)` is what concept t adds to the activations h. So it is read
by `s_t`, steered by adding `v_t`, and ablated by taking `v_t s_t(h)` away. Three kinds are compared: the true directions, the
columns of a recovered dictionary, and single neurons.
"""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from superpose.toy_model import Params
from superpose.weights import unit


@struct.dataclass
class Handles:
    """`directions` (m, n), unit columns `v_t` (or 0 for a concept without a handle); `sizes` (samples, n), `s_t` of each sample."""

    directions: Array
    sizes: Array


def true_directions(params: Params, h: Float[Array, "samples m"]) -> Handles:
    """`v_t = W_t / |W_t|`, `s_t = v_t . h`: what linear algebra has, knowing the truth."""
    directions = unit(params.W)
    return Handles(directions, h @ directions)


def neurons(params: Params, h: Float[Array, "samples m"]) -> Handles:
    """The neuron that concept t drives most, with its sign: `v_t = sign(W_kt) e_k`, `k = argmax |W_kt|`, `s_t = v_t . h`."""
    strongest = jnp.argmax(jnp.abs(params.W), axis=0)
    columns = jnp.arange(params.W.shape[1])
    directions = jnp.zeros_like(params.W).at[strongest, columns].set(jnp.sign(params.W[strongest, columns]))
    return Handles(directions, h @ directions)


def latents(W_dec: Float[Array, "m L"], z: Float[Array, "samples L"], latent: Int[Array | np.ndarray, " n"]) -> Handles:
    """The latent that stands for concept t: `v_t = d_l / |d_l|`, `s_t = |d_l| z_l`; none where `latent` is -1.

    Args:
        W_dec: directions that latents write, in columns.
        z: latents of the samples.
        latent: number of each concept's latent, as `sae.scores.match(...).latent` has it, or -1.
    """
    latent = jnp.asarray(latent)
    there = (latent >= 0).astype(z.dtype)
    lengths = jnp.linalg.norm(W_dec, axis=0)
    directions, sizes = unit(W_dec)[:, latent], (z * lengths[None])[:, latent]
    return Handles(directions * there[None], sizes * there[None])
