"""What makes a kind of autoencoder: four pure functions, which `fit` takes through training.

Within a variant samples are columns: activations h have shape (m, samples), latents z (L, samples). All kinds read
`W_enc h + b_enc`, and write `W_dec z + b_dec`. They differ in what becomes of a pre-activation, and in what keeps latents few.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from superpose.autoencoder import Params
from superpose.weights import unit

ABSENT = -1e9
"""Bias of a latent that is not there."""


@struct.dataclass
class Knobs:
    """What a training step is told; traced, so one compilation serves a sweep.

    Args:
        penalty: weight of the sparsity term, >= 0.
        k: latents to be active on average, or at most; 0 where the kind has none.
        progress: share of all steps that are done, from 0 to 1.
        dead: (L,), latents that have been silent for longer than the window.
    """

    penalty: Array
    k: Array
    progress: Array
    dead: Array


class Variant(NamedTuple):
    """A kind of autoencoder; static, made once and used again.

    `begin(params, size)`: its parameters, from plain ones and the root mean square of centred activations.
    `latents(params, h)`: latents of columns h, as they are used after training.
    `loss(params, h, target, knobs)`: the mean loss over columns, and the latents.
    `after(params, z, knobs)`: parameters after a step, from its latents.
    """

    begin: Callable[[Params, Array], Any]
    latents: Callable[[Any, Array], Array]
    loss: Callable[[Any, Array, Array, Knobs], tuple[Array, Array]]
    after: Callable[[Any, Array, Knobs], Any]


def latents(params: Any, h: Float[Array, "samples m"], *, variant: Variant) -> Float[Array, "samples L"]:
    """Latents of samples in rows, as the variant has them after training."""
    return variant.latents(params, h.T).T


def reconstruction(params: Params, z: Float[Array, "samples L"]) -> Float[Array, "samples m"]:
    """`h' = W_dec z + b_dec` of samples in rows."""
    return outputs(params, z.T).T


def pre_activations(params: Params, h: Float[Array, "m samples"]) -> Float[Array, "L samples"]:
    """`W_enc h + b_enc`."""
    return params.W_enc @ h + params.b_enc[:, None]


def outputs(params: Params, z: Float[Array, "L samples"]) -> Float[Array, "m samples"]:
    """`h' = W_dec z + b_dec`."""
    return params.W_dec @ z + params.b_dec[:, None]


def squared_error(target: Float[Array, "m samples"], found: Float[Array, "m samples"]) -> Float[Array, ""]:
    """`|h - h'|^2`, the mean over samples."""
    return jnp.mean(jnp.sum((target - found) ** 2, axis=0))


def present(params: Params) -> Bool[Array, " L"]:
    """Which latents are there: where autoencoders of several widths share an array, the narrower ones leave some out."""
    return params.b_enc > ABSENT / 2


def unit_columns(params: Any) -> Any:
    """The same with columns of `W_dec` of length 1."""
    return params.replace(W_dec=unit(params.W_dec))


def as_they_are(params: Any, *_: Any) -> Any:
    """For a kind that needs nothing there."""
    return params
