"""All scores of one autoencoder in one call; a collapsed autoencoder is named, not scored."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key

from superpose.sae.scores.absorption import absorption, absorption_counts
from superpose.sae.scores.counts import Counts, counts, dead_fraction, detection, fvu, l0, mean_active, shrinkage, variation
from superpose.sae.scores.dictionary import (
    Chance,
    above,
    calibrated,
    chance,
    coverage,
    latent_coverage,
    mcc,
    mmcs,
    representedness,
    uniqueness,
)
from superpose.sae.scores.hedging import turn
from superpose.sae.scores.matching import Matching, Plain, check_dictionaries, cosines, directions, match, nearest

ALONG = 0.999
"""Columns count as one direction where all their cosines with one of them are above in size: within 2.6 degrees."""

FLAT = 1e-6
"""Reconstructions count as constant where their variance is at most so many times that of the activations: then FVU > .998."""


@struct.dataclass
class Report:
    """The scores of an autoencoder; scalars but for `absorption` and `matching`.

    `collapse`: '' if there is none; else what has collapsed, and then every score is nan and the matching is empty.
    `mcc`, `chance` with its standard error `chance_error`, and `mcc_calibrated = (mcc - chance) / (1 - chance)`.
    `above`: share of matched pairs with a cosine above .9; `coverage`, `latent_coverage`: share of the features and of the latents
    in such pairs. `mmcs`, `representedness`, `uniqueness`: as the functions. `fvu`, `l0`, `true_l0` (mean number of features
    that are on), `dead_fraction`, `shrinkage`.
    `precision`, `recall`, `f1`, `f1_calibrated`: means over latents, each a detector of its nearest feature; `f1_matched`,
    `f1_matched_calibrated`: over matched latents, of their matched features. `turn`: mean angle of matched latents with their
    features, in radians. `absorption` (P,): of each pair of parent and child. `matching`: who stands for whom.
    """

    mcc: Array
    chance: Array
    chance_error: Array
    mcc_calibrated: Array
    above: Array
    coverage: Array
    latent_coverage: Array
    mmcs: Array
    representedness: Array
    uniqueness: Array
    fvu: Array
    l0: Array
    true_l0: Array
    dead_fraction: Array
    shrinkage: Array
    precision: Array
    recall: Array
    f1: Array
    f1_calibrated: Array
    f1_matched: Array
    f1_matched_calibrated: Array
    turn: Array
    absorption: Array
    matching: Matching
    collapse: str = struct.field(pytree_node=False, default="")


def report(
    key: Key[Array, ""],
    W_dec: Float[Plain, "_ _"],
    D: Float[Plain, "_ _"],
    x: Float[Plain, "_ _"],
    z: Float[Plain, "_ _"],
    h: Float[Plain, "_ _"],
    h_hat: Float[Plain, "_ _"],
    pairs: Int[Plain, "_ 2"] | None = None,
    *,
    draws: int = 8,
) -> Report:
    """Score an autoencoder on samples that fit in memory; or name its collapse, see `collapse`. Not under `jit`.

    Args:
        key: of the random dictionaries of `chance`.
        W_dec: (m, L), directions of the latents, in columns.
        D: (m, n), true directions of the features, in columns.
        x: (samples, n), true values of the features.
        z: (samples, L), latents.
        h: (samples, m), activations.
        h_hat: (samples, m), their reconstructions.
        pairs: (P, 2), numbers of a parent and of a child feature in each row, for `absorption`; None for none.
        draws: random dictionaries for `chance`, >= 2; each costs a matching.

    Raises:
        ValueError: shapes that do not fit, D or h or x not finite, h constant, fewer samples than latents, or `draws` below 2.
    """
    check_dictionaries(W_dec, D)
    (m, L), n = W_dec.shape, D.shape[1]
    for name, a, width in (("x", x, n), ("z", z, L), ("h", h, m), ("h_hat", h_hat, m)):
        if a.shape != (len(h), width):
            raise ValueError(f"{name} has shape {a.shape}: needs (samples, {width}) = ({len(h)}, {width})")
    pairs = _given(pairs, n)
    total = counts(x, z, h, h_hat, jnp.mean(jnp.asarray(h), axis=0))
    broken = _checked(W_dec, D, total)
    if broken:
        return _nothing(broken, W_dec, D, len(pairs))
    matching = match(W_dec, D)
    absorbed = absorption(absorption_counts(x, z, pairs, matching.latent[pairs[:, 0]]))
    return _scored(W_dec, D, total, matching, absorbed, chance(key, D, latents=L, draws=draws))


def report_from_counts(
    key: Key[Array, ""], W_dec: Float[Plain, "_ _"], D: Float[Plain, "_ _"], total: Counts, *, draws: int = 8
) -> Report:
    """As `report`, from the sums of `counts` over any number of batches; `absorption` is empty, see `absorption_counts`.

    Raises:
        ValueError: as `report`.
    """
    check_dictionaries(W_dec, D)
    if total.together.shape != (W_dec.shape[1], D.shape[1]):
        raise ValueError(
            f"total has {total.together.shape}: needs (L, n) = ({W_dec.shape[1]}, {D.shape[1]}), as W_dec and D"
        )
    broken = _checked(W_dec, D, total)
    if broken:
        return _nothing(broken, W_dec, D, 0)
    by_chance = chance(key, D, latents=W_dec.shape[1], draws=draws)
    return _scored(W_dec, D, total, match(W_dec, D), jnp.zeros(0), by_chance)


def collapse(W_dec: Float[Plain, "m L"], D: Float[Plain, "m n"], total: Counts) -> str:
    """What has collapsed, '' for nothing: in one line, the first of these that holds.

    W_dec is not finite; z or h_hat is not; W_dec is 0; all latents are dead; all columns of W_dec lie along one direction
    (cosines above .999) though those of D do not; h_hat is constant (its variance below 1e-6 of that of h); or FVU >= 1.
    """
    unanswered, dead = int(total.samples - total.answered), not np.any(total.latents)
    spread = variation(total.first, total.second, total.samples)
    hat_spread = variation(total.hat_first, total.hat_second, total.samples)
    kinds = (
        (not np.all(np.isfinite(W_dec)), "W_dec is not finite"),
        (unanswered > 0, f"z or h_hat is not finite in {unanswered} of {total.samples} samples"),
        (not np.any(W_dec), "W_dec is 0"),
        (dead, f"all {len(total.latents)} latents are dead in {total.samples} samples"),
        (
            W_dec.shape[1] > 1 and _one_direction(W_dec) and not _one_direction(D),
            "all columns of W_dec lie along one direction",
        ),
        (bool(hat_spread <= FLAT * spread), "h_hat is constant"),
        (bool(fvu(total) >= 1), f"FVU = {fvu(total):.3g}: h_hat is no better than the mean of h"),
    )
    return next((text for holds, text in kinds if holds), "")


def _checked(W_dec: Plain, D: Plain, total: Counts) -> str:
    """The collapse; raises where the samples themselves are at fault."""
    samples, L = int(total.samples), W_dec.shape[1]
    if total.finite < samples:
        raise ValueError(f"h or x has nan or inf in {samples - int(total.finite)} samples: needs finite numbers")
    if samples < L:
        raise ValueError(f"h has {samples} samples: needs at least as many as there are latents, {L}")
    first, second = total.first, total.second
    if variation(first, second, total.samples) <= 64 * jnp.finfo(second.dtype).eps * second:
        raise ValueError("h is constant up to rounding: needs samples that vary, or a center nearer to their mean")
    return collapse(W_dec, D, total)


@jax.jit
def _scored(W_dec: Plain, D: Plain, total: Counts, matching: Matching, absorbed: Array, by_chance: Chance) -> Report:
    C, score = cosines(W_dec, D), mcc(matching)
    near, own = detection(total, nearest(C)), detection(total, matching.feature)
    return Report(
        mcc=score,
        chance=by_chance.mean,
        chance_error=by_chance.error,
        mcc_calibrated=calibrated(score, by_chance.mean),
        above=above(matching),
        coverage=coverage(matching),
        latent_coverage=latent_coverage(matching),
        mmcs=mmcs(C),
        representedness=representedness(C),
        uniqueness=uniqueness(C),
        fvu=fvu(total),
        l0=l0(total),
        true_l0=mean_active(total.features, total),
        dead_fraction=dead_fraction(total),
        shrinkage=shrinkage(total),
        precision=jnp.mean(near.precision),
        recall=jnp.mean(near.recall),
        f1=jnp.mean(near.f1),
        f1_calibrated=jnp.mean(near.calibrated),
        f1_matched=jnp.nanmean(own.f1),
        f1_matched_calibrated=jnp.nanmean(own.calibrated),
        turn=jnp.nanmean(turn(W_dec, D, matching).angle),
        absorption=absorbed,
        matching=matching,
    )


def _nothing(broken: str, W_dec: Plain, D: Plain, pairs: int) -> Report:
    """A collapse without scores."""
    nan, L, n = jnp.asarray(jnp.nan), W_dec.shape[1], D.shape[1]
    scores = dict.fromkeys(Report.__dataclass_fields__, nan)
    matching = Matching(jnp.full(L, -1), jnp.full(n, -1), jnp.full(L, nan))
    return Report(**{**scores, "absorption": jnp.full(pairs, nan), "matching": matching, "collapse": broken})


def _one_direction(W: Plain) -> bool:
    """Whether all columns but zero ones lie along one direction, up to sign."""
    unit = directions(W)
    unit = unit[:, np.any(np.asarray(unit) != 0, axis=0)]
    return bool(jnp.all(jnp.abs(unit[:, :1].T @ unit) > ALONG))


def _given(pairs: Plain | None, n: int) -> Array:
    if pairs is None:
        return jnp.zeros((0, 2), int)
    if np.size(pairs) and (np.min(pairs) < 0 or np.max(pairs) >= n):
        raise ValueError(f"pairs names features {np.min(pairs)} to {np.max(pairs)}: needs 0 to n - 1 = {n - 1}")
    return jnp.asarray(pairs)
