"""The kinds of autoencoder that are tried, and what makes the latents of each sparse."""

from typing import Any, NamedTuple

import numpy as np

from superpose import sae
from superpose.settings import Unmixing

PENALTIES = (0.05, 0.4)
"""The least and the largest penalty, in units of the mean length of the model's columns."""
ACTIVE = (0.7, 2.0)
"""The fewest and the most active latents, in units of the mean number of active features."""
WINDOW, RESAMPLED = 20_000, 10
"""A latent that was silent for so many samples is dead; how many times in a run dead latents begin anew, where they do."""


class Kind(NamedTuple):
    """A variant, what is varied (`penalty` or `k`), its values, and what else `sae.fit` is told."""

    variant: sae.Variant
    varied: str
    values: np.ndarray
    more: dict[str, Any]


def kind(name: str, settings: Unmixing, size: float) -> Kind:
    """The kind of that name; `size` is the mean length of the model's columns."""
    L = settings.latents or settings.n
    penalties = size * np.geomspace(*PENALTIES, settings.values)
    k = np.clip(settings.density * settings.n * np.geomspace(*ACTIVE, settings.values), 0.1, L)
    again = {"resample": max(settings.steps // RESAMPLED, 1), "window": WINDOW}
    dead = {"window": WINDOW}
    smaller = sorted({max(L // 4, 1), max(L // 2, 1)} - {L})
    return {
        "relu": Kind(sae.RELU, "penalty", penalties, {}),
        "relu-2023": Kind(sae.UNIT_RELU, "penalty", penalties, again),
        "p-annealed": Kind(sae.P_ANNEALED, "penalty", penalties, {}),
        "gated": Kind(sae.GATED, "penalty", 2 * penalties, {}),
        "topk": Kind(sae.TOP_K, "k", np.clip(np.ceil(k), 1, L), dead),
        "batchtopk": Kind(sae.BATCH_TOP_K, "k", k, dead),
        "matryoshka": Kind(sae.matryoshka(*smaller), "k", k, dead),
        "jumprelu": Kind(sae.JUMP_RELU, "k", k, {"penalty": 1.0, **again}),
    }[name]
