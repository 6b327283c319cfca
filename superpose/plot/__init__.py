"""Figures from saved arrays: each function returns a plotly figure and reads or writes nothing."""

from superpose.plot.bars import norm_and_interference
from superpose.plot.gram import gram_matrix
from superpose.plot.phase import phase_diagram
from superpose.plot.plane import features_in_plane

__all__ = ["features_in_plane", "gram_matrix", "norm_and_interference", "phase_diagram"]
