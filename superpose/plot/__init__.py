"""Figures from saved arrays: each function returns a plotly figure and reads or writes nothing."""

from superpose.plot.bars import norm_and_interference
from superpose.plot.gram import gram_matrix
from superpose.plot.label_regions import regions
from superpose.plot.neurons import neurons_and_features
from superpose.plot.phase import phase_diagram
from superpose.plot.plane import features_in_plane
from superpose.plot.template import restyle
from superpose.plot.unmix import answers, directions_found, latents_and_features, recovery, scores_against_l0

__all__ = [
    "answers",
    "directions_found",
    "features_in_plane",
    "gram_matrix",
    "latents_and_features",
    "neurons_and_features",
    "norm_and_interference",
    "phase_diagram",
    "recovery",
    "regions",
    "restyle",
    "scores_against_l0",
]
