"""Editing concepts of a toy model through its activations: read, traced, steered, ablated, and what else was hit.

Handles on concepts are true directions, latents of an autoencoder, or neurons. `steering` and `projection` say exactly what an edit
along directions moves on average; `answers` has the four questions' numbers from samples, for edits of every kind.
"""

from superpose.editing.exact import Ablation, collateral, flips, gain, leakage, projection, selectivity, steering
from superpose.editing.handles import Handles, latents, neurons, true_directions
from superpose.editing.questions import Answers, answers, summary

__all__ = [
    "Ablation",
    "Answers",
    "Handles",
    "answers",
    "collateral",
    "flips",
    "gain",
    "latents",
    "leakage",
    "neurons",
    "projection",
    "selectivity",
    "steering",
    "summary",
    "true_directions",
]
