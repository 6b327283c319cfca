"""JumpReLU: a latent is its pre-activation where that exceeds a threshold of its own, which is trained through the jump."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from superpose.autoencoder import Params
from superpose.sae.variant import Knobs, Variant, outputs, pre_activations, squared_error, unit_columns

FIRST, WIDTH = 0.05, 0.1
"""The first threshold, and the width of the kernel that stands for a jump's slope, in units of the activations' size."""


@struct.dataclass
class JumpReluParams(Params):
    """`threshold` (L,), >= 0; `width`, of the kernel, not trained."""

    threshold: Array
    width: Array


def _begin(params: Params, size: Array) -> JumpReluParams:
    return JumpReluParams(
        **vars(unit_columns(params)), threshold=jnp.full_like(params.b_enc, FIRST * size), width=WIDTH * size
    )


@jax.custom_jvp
def _jump(y: Array, threshold: Array, width: Array) -> tuple[Array, Array]:  # noqa: ARG001
    """`y 1[y > threshold]` and `1[y > threshold]`.

    The threshold's slopes are those of a jump as wide as the kernel: `-threshold / width` and `-1 / width` within half a width of
    it, else 0. In y the first has the slope `1[y > threshold]`, the second none.
    """
    on = y > threshold
    return jnp.where(on, y, 0), on.astype(y.dtype)


@_jump.defjvp
def _jump_slopes(primals: tuple, tangents: tuple) -> tuple:
    y, threshold, width = primals
    dy, dthreshold, _ = tangents
    z, on = _jump(y, threshold, width)
    slope = -(jnp.abs(y - threshold) < width / 2).astype(y.dtype) / width * dthreshold
    return (z, on), (on * dy + threshold * slope, slope)


def latents(params: JumpReluParams, h: Float[Array, "m samples"]) -> Float[Array, "L samples"]:
    """`y 1[y > threshold]`, `y = W_enc h + b_enc`."""
    y = pre_activations(params, h)
    return _jump(y, jnp.broadcast_to(params.threshold[:, None], y.shape), jnp.broadcast_to(params.width, y.shape))[0]


def _loss(params: JumpReluParams, h: Array, target: Array, knobs: Knobs) -> tuple[Array, Array]:
    params = unit_columns(params)
    y = pre_activations(params, h)
    z, on = _jump(y, jnp.broadcast_to(params.threshold[:, None], y.shape), jnp.broadcast_to(params.width, y.shape))
    active = jnp.mean(jnp.sum(on, axis=0))
    variance = jnp.sum(jnp.var(target, axis=1))
    apart = variance * (active / jnp.maximum(knobs.k, 1e-6) - 1) ** 2
    return squared_error(target, outputs(params, z)) + knobs.penalty * jnp.where(knobs.k > 0, apart, active), z


def _after(params: JumpReluParams, z: Array, knobs: Knobs) -> JumpReluParams:  # noqa: ARG001
    return unit_columns(params).replace(threshold=jnp.maximum(params.threshold, 0))


JUMP_RELU = Variant(_begin, latents, _loss, _after)
"""`|h - h'|^2 + penalty |z|_0`, or with a target k for the mean `|z|_0` `+ penalty var(h) (|z|_0 / k - 1)^2`; columns of length 1.

Thresholds are trained as such, not their logarithms, which hardly move under Adam.

Reference: Rajamanoharan et al. 2024, "Jumping ahead: improving reconstruction fidelity with JumpReLU sparse autoencoders",
sections 3 to 5 and appendix on training to a target.
"""
