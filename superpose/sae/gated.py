"""Gated latents: one half decides which are active, the other how strongly, so the penalty shrinks no magnitude."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from superpose.autoencoder import Params
from superpose.sae.variant import Knobs, Variant, outputs, pre_activations, squared_error, unit_columns


@struct.dataclass
class GatedParams(Params):
    """`b_enc` is the gates' bias; magnitudes are `r(exp(log_gain) W_enc h + b_size)`, both of shape (L,)."""

    log_gain: Array
    b_size: Array


def _begin(params: Params, _: Array) -> GatedParams:
    params = unit_columns(params)
    return GatedParams(**vars(params), log_gain=jnp.zeros_like(params.b_enc), b_size=params.b_enc)


def _gated(params: GatedParams, gate: Float[Array, "L samples"]) -> Float[Array, "L samples"]:
    """`1[gate > 0] r(exp(log_gain) (gate - b_enc) + b_size)`."""
    size = jnp.exp(params.log_gain)[:, None] * (gate - params.b_enc[:, None]) + params.b_size[:, None]
    return jnp.where(gate > 0, jax.nn.relu(size), 0)


def latents(params: GatedParams, h: Float[Array, "m samples"]) -> Float[Array, "L samples"]:
    """`1[W_enc h + b_enc > 0] r(exp(log_gain) W_enc h + b_size)`."""
    return _gated(params, pre_activations(params, h))


def _loss(params: GatedParams, h: Array, target: Array, knobs: Knobs) -> tuple[Array, Array]:
    params = unit_columns(params)
    gate = pre_activations(params, h)
    z, opened = _gated(params, gate), jax.nn.relu(gate)
    frozen = jax.lax.stop_gradient(params)
    sparsity = jnp.mean(jnp.sum(opened, axis=0))
    error = squared_error(target, outputs(params, z)) + squared_error(target, outputs(frozen, opened))
    return error + knobs.penalty * sparsity, z


GATED = Variant(_begin, latents, _loss, lambda params, *_: unit_columns(params))
"""`|h - h'|^2 + penalty sum_l r(pi_l) + |h - W_dec r(pi) - b_dec|^2`, gates `pi = W_enc h + b_enc`, columns of length 1.

The last term trains gates only.

Reference: Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders", section 3.2.
"""
