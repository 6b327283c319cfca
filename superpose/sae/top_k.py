"""TopK, BatchTopK and Matryoshka: so many latents stay active, the largest, and nothing is shrunk by a penalty."""

from functools import cache, partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from superpose.autoencoder import Params
from superpose.sae import relu
from superpose.sae.largest import largest_in_all, largest_in_columns
from superpose.sae.variant import Knobs, Variant, outputs, squared_error, unit_columns

AUXILIARY = 1 / 32
"""Weight of the dead latents' error."""
FOLLOWS = 0.01
"""The threshold's running mean moves so far towards each batch's."""


@struct.dataclass
class TopKParams(Params):
    """`k`, latents active in a sample; not trained."""

    k: Array


@struct.dataclass
class BatchTopKParams(Params):
    """`threshold`, which active latents reach after training: the running mean of the smallest active one; not trained."""

    threshold: Array


def _kept(z: Array, threshold: Array) -> Array:
    """Latents that reach the threshold, which has no slope."""
    return jnp.where(z >= jax.lax.stop_gradient(threshold), z, 0)


def _latents(params: TopKParams, h: Float[Array, "m samples"]) -> Float[Array, "L samples"]:
    """The k largest of `r(W_enc h + b_enc)` in each sample, the others 0."""
    z = relu.latents(params, h)
    return _kept(z, largest_in_columns(z, params.k)[None])


def _latents_of_batches(params: BatchTopKParams, h: Float[Array, "m samples"]) -> Float[Array, "L samples"]:
    """Those of `r(W_enc h + b_enc)` that reach the threshold, the others 0."""
    return _kept(relu.latents(params, h), params.threshold)


def _dead_error(params: Params, every: Array, target: Array, found: Array, dead: Array) -> Array:
    """`var(h) |e - W_dec z_dead|^2 / |e|^2`, z_dead the dead latents of `r(W_enc h + b_enc)`; `e = h - h'` has no slope."""
    residual = jax.lax.stop_gradient(target - found)
    others = params.W_dec @ jnp.where(dead[:, None], every, 0)
    size = jnp.maximum(squared_error(residual, jnp.zeros_like(residual)), jnp.finfo(residual.dtype).tiny)
    return jnp.any(dead) * jnp.sum(jnp.var(target, axis=1)) / size * squared_error(residual, others)


def _loss(params: TopKParams, h: Array, target: Array, knobs: Knobs) -> tuple[Array, Array]:
    params = unit_columns(params)
    every = relu.latents(params, h)
    z = _kept(every, largest_in_columns(jax.lax.stop_gradient(every), knobs.k)[None])
    found = outputs(params, z)
    return squared_error(target, found) + AUXILIARY * _dead_error(params, every, target, found, knobs.dead), z


def _loss_of_batch(
    ends: tuple[int, ...], params: BatchTopKParams, h: Array, target: Array, knobs: Knobs
) -> tuple[Array, Array]:
    params = unit_columns(params)
    every = relu.latents(params, h)
    z = _kept(every, largest_in_all(jax.lax.stop_gradient(every), knobs.k))
    error, found = 0.0, params.b_dec[:, None]
    for first, end in zip((0, *ends), (*ends, len(z)), strict=True):
        found = found + params.W_dec[:, first:end] @ z[first:end]
        error = error + squared_error(target, found)
    return error + AUXILIARY * _dead_error(params, every, target, found, knobs.dead), z


def _after_batch(params: BatchTopKParams, z: Array, _: Knobs) -> BatchTopKParams:
    least = jnp.min(jnp.where(z > 0, z, jnp.inf))
    known = jnp.where(jnp.isfinite(least), least, params.threshold)
    mean = jnp.where(params.threshold > 0, params.threshold + FOLLOWS * (known - params.threshold), known)
    return unit_columns(params).replace(threshold=mean)


TOP_K = Variant(
    begin=lambda params, _: TopKParams(**vars(unit_columns(params)), k=jnp.zeros((), params.b_enc.dtype)),
    latents=_latents,
    loss=_loss,
    after=lambda params, _, knobs: unit_columns(params).replace(k=knobs.k),
)
"""`|h - h'|^2 + var(h) |e - W_dec z_dead|^2 / (32 |e|^2)`: z the k largest of `r(W_enc h + b_enc)`, columns of length 1.

Dead latents learn to write what is missing, `e = h - h'`; all of them, where the source takes the largest.

Reference: Gao et al. 2024, "Scaling and evaluating sparse autoencoders".
"""


@cache
def matryoshka(*ends: int) -> Variant:
    """BatchTopK whose first latents have to do alone as well: `sum_j |h - h'_j|^2`, `h'_j` from latents before the j-th end.

    Args:
        ends: ascending, where the smaller dictionaries end; the whole one is the last.

    Reference: Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse autoencoders".
    """
    if any(a >= b for a, b in zip((0, *ends), ends, strict=False)):
        raise ValueError(f"ends = {ends}: need to be ascending and positive")
    return Variant(
        begin=lambda params, _: BatchTopKParams(**vars(unit_columns(params)), threshold=jnp.zeros((), params.b_enc.dtype)),
        latents=_latents_of_batches,
        loss=partial(_loss_of_batch, ends),
        after=_after_batch,
    )


BATCH_TOP_K = matryoshka()
"""TopK on average: of a batch of B samples the `k B` largest latents stay. Afterwards those that reach `threshold`.

Reference: Bussmann, Leask and Nanda 2024, "BatchTopK sparse autoencoders".
"""
