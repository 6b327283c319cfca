"""Scores of a dictionary alone, without samples: how near its directions are to the true ones, and what chance would bring.

A matching pairs min(L, n) latents and features. In many features and few dimensions a random dictionary has a high mean cosine
too, so `mcc` is only to be read beside `chance`. `C` (L, n) is `cosines(W_dec, D)`.

Reference: Song et al. 2025, arXiv:2505.20254, for MCC; Sharkey et al. 2022, "Taking features out of superposition with sparse
autoencoders", for MMCS; "SynthSAEBench" 2026, arXiv:2602.14687, for uniqueness.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Key

from superpose.sae.scores.matching import Matching, Plain, match, nearest

FOUND = 0.9
"""A feature counts as found where its matched cosine is above."""


@struct.dataclass
class Chance:
    """Mean over random dictionaries, and its standard error `s / sqrt(draws)`, s the standard deviation of the draws."""

    mean: Array
    error: Array


def mcc(matching: Matching) -> Float[Array, ""]:
    """Mean cosine of the matched pairs, `1 - sum_pairs (1 - |C_li|) / min(L, n)`, in [0, 1]; signed if the matching is."""
    return 1 - jnp.sum(jnp.where(matching.feature >= 0, 1 - matching.cosine, 0)) / _pairs(matching)


def above(matching: Matching, threshold: float = FOUND) -> Float[Array, ""]:
    """Share of the matched pairs with a cosine above the threshold: `#(cosine > threshold) / min(L, n)`."""
    return _found(matching, threshold) / _pairs(matching)


def coverage(matching: Matching, threshold: float = FOUND) -> Float[Array, ""]:
    """Share of the true features that are found: `#(cosine > threshold) / n`, at most L/n."""
    return _found(matching, threshold) / len(matching.latent)


def latent_coverage(matching: Matching, threshold: float = FOUND) -> Float[Array, ""]:
    """Share of the latents that have found a feature each: `#(cosine > threshold) / L`, at most n/L."""
    return _found(matching, threshold) / len(matching.feature)


def chance(key: Key[Array, ""], D: Float[Plain, "m n"], *, latents: int, draws: int = 8, signed: bool = False) -> Chance:
    """The `mcc` with D of a dictionary of as many directions, each uniform on the sphere: mean and standard error.

    Draw t takes `fold_in(key, t)`. Near .46 for L = n = 128 and m = 32.

    Args:
        key: of the draws.
        D: directions of n features, in columns.
        latents: number of latents L, >= 1.
        draws: number of random dictionaries, >= 2; each costs a matching.
        signed: as in `match`.

    Raises:
        ValueError: `latents` below 1, `draws` below 2, or D no finite matrix.
    """
    if latents < 1:
        raise ValueError(f"latents = {latents}: needs at least 1")
    if draws < 2:
        raise ValueError(f"draws = {draws}: needs at least 2, for a standard error")
    shape, dtype = (D.shape[0], latents), jnp.asarray(D).dtype
    drawn = [jax.random.normal(jax.random.fold_in(key, t), shape, dtype) for t in range(draws)]
    scores = jnp.stack([mcc(match(W, D, signed=signed)) for W in drawn])
    return Chance(jnp.mean(scores), jnp.std(scores, ddof=1) / np.sqrt(draws))


def calibrated(score: Float[Array, "*shape"], expected: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`(score - expected) / (1 - expected) = 1 - (1 - score) / (1 - expected)`: 1 at best, 0 by chance, also elementwise.

    nan where chance alone brings 1, as the cosines of one dimension.
    """
    return 1 - (1 - score) / jnp.where(expected < 1, 1 - expected, jnp.nan)


def mmcs(C: Float[Plain, "L n"]) -> Float[Array, ""]:
    """Mean over latents of the maximum over the truth, signed: `mean_l max_i C_li`. Several latents may share a feature."""
    return jnp.mean(jnp.max(C, axis=1))


def representedness(C: Float[Plain, "L n"]) -> Float[Array, ""]:
    """Mean over the truth of the maximum over latents, signed: `mean_i max_l C_li`. Several features may share a latent."""
    return jnp.mean(jnp.max(C, axis=0))


def uniqueness(C: Float[Plain, "L n"]) -> Float[Array, ""]:
    """Number of different features that are some latent's nearest, over L: `#{argmax_i |C_li|} / L`, in (0, 1], at most n/L."""
    L, n = C.shape
    return jnp.sum(jnp.zeros(n, bool).at[nearest(C)].set(True)) / L


def _found(matching: Matching, threshold: float) -> Array:
    return jnp.sum(matching.cosine > threshold)


def _pairs(matching: Matching) -> int:
    return min(len(matching.feature), len(matching.latent))
