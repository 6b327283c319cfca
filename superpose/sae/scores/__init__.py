"""Scores of sparse autoencoders against known features: how much of the truth a dictionary and its latents have found.

Every function takes plain arrays, so that any kind of autoencoder can be scored: `W_dec` (m, L), its column `d_l` the direction
that latent l writes; true directions `D` (m, n), in columns too; latents `z` (samples, L) and true values of the features `x`
(samples, n), where a latent or a feature is on where it is not 0; activations `h` and reconstructions `h_hat` (samples, m).
`report` gives all scores of one autoencoder, and a collapsed one by name. For more samples than fit, add `counts` over batches
and call `report_from_counts`.
"""

from superpose.sae.scores.absorption import AbsorptionCounts, absorption, absorption_counts
from superpose.sae.scores.counts import Counts, Detection, counts, dead_fraction, detection, fvu, l0, shrinkage
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
from superpose.sae.scores.hedging import Turn, hedging_angle, turn
from superpose.sae.scores.matching import Matching, cosines, directions, match, nearest
from superpose.sae.scores.report import Report, collapse, report, report_from_counts

__all__ = [
    "AbsorptionCounts",
    "Chance",
    "Counts",
    "Detection",
    "Matching",
    "Report",
    "Turn",
    "above",
    "absorption",
    "absorption_counts",
    "calibrated",
    "chance",
    "collapse",
    "cosines",
    "counts",
    "coverage",
    "dead_fraction",
    "detection",
    "directions",
    "fvu",
    "hedging_angle",
    "l0",
    "latent_coverage",
    "match",
    "mcc",
    "mmcs",
    "nearest",
    "report",
    "report_from_counts",
    "representedness",
    "shrinkage",
    "turn",
    "uniqueness",
]
