"""Scores of samples from sums over them: reconstruction, sparsity, and latents as detectors of features.

`counts` of a batch holds nothing but sums, so those of two batches add up: `jax.tree.map(jnp.add, a, b)`. The scores are functions
of the sums. A latent or a feature is on where it is not 0. Numbers of samples are int32: exact up to 1e9 samples, in batches of
up to 2^24.

Reference: "SynthSAEBench" 2026, arXiv:2602.14687.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from superpose.sae.scores.dictionary import calibrated
from superpose.sae.scores.matching import Plain


@struct.dataclass
class Counts:
    """Sums over samples; c is the center.

    `samples`: their number. `together` (L, n): those in which latent l and feature i are both on. `latents` (L,), `features` (n,):
    those in which each is on. `first` (m,), `second`: `sum (h - c)`, `sum |h - c|^2`. `hat_first` (m,), `hat_second`: the same of
    h_hat. `error`: `sum |h - h_hat|^2`. `ratio`: `sum |h_hat| / |h|` over the `nonzero` samples with h != 0. `finite`: those with
    finite h and x; `answered`: those with finite z and h_hat.
    """

    samples: Array
    together: Array
    latents: Array
    features: Array
    first: Array
    second: Array
    hat_first: Array
    hat_second: Array
    error: Array
    ratio: Array
    nonzero: Array
    finite: Array
    answered: Array


@struct.dataclass
class Detection:
    """Each latent as a detector of its feature, shape (L,): nan for a latent without a feature, 0 where a ratio is 0/0."""

    precision: Array
    recall: Array
    f1: Array
    calibrated: Array


@jax.jit
def counts(
    x: Float[Plain, "samples n"],
    z: Float[Plain, "samples L"],
    h: Float[Plain, "samples m"],
    h_hat: Float[Plain, "samples m"],
    center: Float[Plain, " m"] | Float[Plain, ""] | float = 0.0,
) -> Counts:
    """The sums over one batch; the co-activations are one product of matrices of zeros and ones.

    Args:
        x: true values of the features.
        z: latents.
        h: activations.
        h_hat: their reconstructions.
        center: a point near the mean of h, such as the first batch's mean, the same for all batches that are added: a mean far
            away loses `eps |mean - center|^2` of the variance to rounding.
    """
    active, on = z != 0, x != 0
    together = jnp.matmul(active.T.astype(jnp.float32), on.astype(jnp.float32))  # exact: zeros and ones
    off, hat_off = (a - jnp.broadcast_to(jnp.asarray(center, a.dtype), a.shape[1:])[None, :] for a in (h, h_hat))
    length, hat_length = jnp.linalg.norm(h, axis=1), jnp.linalg.norm(h_hat, axis=1)
    nonzero = length > 0
    return Counts(
        samples=jnp.asarray(len(h), jnp.int32),
        together=together.astype(jnp.int32),
        latents=_number(active),
        features=_number(on),
        first=jnp.sum(off, axis=0),
        second=jnp.sum(off**2),
        hat_first=jnp.sum(hat_off, axis=0),
        hat_second=jnp.sum(hat_off**2),
        error=jnp.sum((h - h_hat) ** 2),
        ratio=jnp.sum(jnp.where(nonzero, hat_length / jnp.where(nonzero, length, 1), 0)),
        nonzero=_number(nonzero),
        finite=_number(jnp.all(jnp.isfinite(h), axis=1) & jnp.all(jnp.isfinite(x), axis=1)),
        answered=_number(jnp.all(jnp.isfinite(z), axis=1) & jnp.all(jnp.isfinite(h_hat), axis=1)),
    )


def variation(first: Float[Array, " m"], second: Float[Array, ""], samples: Int[Array, ""]) -> Float[Array, ""]:
    """`sum |a - mean|^2 = second - |first|^2 / samples` from `first = sum (a - c)` and `second = sum |a - c|^2`."""
    return second - jnp.sum(first**2) / samples


def fvu(total: Counts) -> Float[Array, ""]:
    """Fraction of variance unexplained, `sum |h - h_hat|^2 / sum |h - mean|^2`: 0 at best, 1 for the mean as answer."""
    return total.error / variation(total.first, total.second, total.samples)


def l0(total: Counts) -> Float[Array, ""]:
    """Mean number of latents that are on: `sum_l latents_l / samples`."""
    return mean_active(total.latents, total)


def mean_active(active: Int[Array, " k"], total: Counts) -> Float[Array, ""]:
    """Mean number that are on, `sum_k active_k / samples`, of `total.latents` or of `total.features`."""
    return jnp.sum(_ratio(active, total.samples))


def dead_fraction(total: Counts) -> Float[Array, ""]:
    """Share of the latents that are on in no sample."""
    return jnp.mean(total.latents == 0, dtype=float)


def shrinkage(total: Counts) -> Float[Array, ""]:
    """`E |h_hat| / |h|` over the samples with h != 0: the others, which have no ratio, are left out. nan if none is left."""
    return total.ratio / jnp.where(total.nonzero > 0, total.nonzero, jnp.nan)


def detection(total: Counts, feature: Int[Plain, " L"]) -> Detection:
    """Each latent as a detector of the feature assigned to it.

    `precision = together / latents`, `recall = together / features`, `f1 = 2 together / (latents + features)`, and `calibrated =
    (f1 - f) / (1 - f)` with `f = 2 p / (1 + p)` at the feature's rate p: what a detector gets that is always on, the best of
    all that know nothing of the feature. A dead latent, or one whose feature is never on, has an f1 of 0, and 0 is also the
    calibrated value where the feature is always on.

    Args:
        total: sums over all samples.
        feature: of each latent, `nearest(C)` as in SynthSAEBench or `matching.feature`; -1 for none.
    """
    latent = jnp.arange(len(feature))
    both, on, due = total.together[latent, feature], total.latents, total.features[feature]
    rate = _ratio(due, total.samples)
    f1, always = _ratio(2 * both, on + due), 2 * rate / (1 + rate)
    found = (_ratio(both, on), _ratio(both, due), f1, jnp.where(rate < 1, calibrated(f1, always), 0))
    return Detection(*(jnp.where(jnp.asarray(feature) >= 0, a, jnp.nan) for a in found))


def _number(flags: Array) -> Array:
    return jnp.sum(flags, axis=0, dtype=jnp.int32)


def _ratio(above: Array, below: Array) -> Array:
    """`above / below`, 0 for 0/0, in the default float type: int32 by int32 is float32 to jax, whatever its setting."""
    return jnp.where(below == 0, 0, above.astype(float) / jnp.where(below == 0, 1, below))
