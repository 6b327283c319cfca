"""ReLU latents and an L1 penalty: `z = r(W_enc h + b_enc)`, r(y) = max(y, 0); the kind whose population loss is known exactly."""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose.autoencoder import Params, sizes
from superpose.sae.variant import Knobs, Variant, as_they_are, outputs, pre_activations, squared_error, unit_columns


def latents(params: Params, h: Float[Array, "m samples"]) -> Float[Array, "L samples"]:
    """`r(W_enc h + b_enc)`."""
    return jax.nn.relu(pre_activations(params, h))


def _loss(weigh: Callable[[Array], Array]) -> Callable:
    def loss(params: Params, h: Array, target: Array, knobs: Knobs) -> tuple[Array, Array]:
        z = latents(params, h)
        weighed = jnp.mean(weigh(params.W_dec) @ z)
        return squared_error(target, outputs(params, z)) + knobs.penalty * weighed, z

    return loss


def _unit_loss(params: Params, h: Array, target: Array, knobs: Knobs) -> tuple[Array, Array]:
    """Of columns divided by their length: so the gradient has no part along them."""
    return _loss(lambda D: sizes(D, weighted=False))(unit_columns(params), h, target, knobs)


RELU = Variant(as_they_are, latents, _loss(lambda D: sizes(D, weighted=True)), as_they_are)
"""`|h - h'|^2 + penalty sum_l |d_l| z_l`, columns of any length.

Reference: Conerly et al. 2024, "Update on how we train SAEs".
"""

UNIT_RELU = Variant(lambda params, _: unit_columns(params), latents, _unit_loss, lambda params, *_: unit_columns(params))
"""`|h - h'|^2 + penalty sum_l z_l`, columns of length 1; `fit(..., resample=)` begins dead latents anew.

Reference: Bricken et al. 2023, "Towards Monosemanticity".
"""


@cache
def crosscoder(*layers: int) -> Variant:
    """The crosscoder: h is the activations of several layers, one after another, and so is h'.

    `|h - h'|^2 + penalty sum_l z_l sum_layers |d_l of that layer|`.

    Args:
        layers: how many activations each layer has.

    Reference: Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing".
    """
    ends = [sum(layers[: k + 1]) for k in range(len(layers))]

    def weigh(D: Array) -> Array:
        if len(D) != ends[-1]:
            raise ValueError(f"layers = {layers}: add up to {ends[-1]}, and W_dec has {len(D)} rows")
        parts = [sizes(D[end - size : end], weighted=True) for size, end in zip(layers, ends, strict=True)]
        return jnp.sum(jnp.stack(parts), axis=0)

    return Variant(as_they_are, latents, _loss(weigh), as_they_are)
