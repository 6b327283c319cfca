"""Phases of the toy model: is a feature ignored, stored on its own, or in superposition; where that changes, and how."""

from superpose.labels import IGNORED as IGNORED
from superpose.labels import LABELS as LABELS
from superpose.labels import STORED as STORED
from superpose.labels import SUPERPOSED as SUPERPOSED
from superpose.labels import label as label
from superpose.phase.boundary import Transition as Transition
from superpose.phase.boundary import critical_importance as critical_importance
from superpose.phase.boundary import published_boundaries as published_boundaries
from superpose.phase.boundary import spinodal_importance as spinodal_importance
from superpose.phase.boundary import tricritical_points as tricritical_points
from superpose.phase.candidates import Candidate as Candidate
from superpose.phase.candidates import candidate_losses as candidate_losses
from superpose.phase.candidates import candidates as candidates
from superpose.phase.diagram import axes as axes
from superpose.phase.diagram import solve_row as solve_row
from superpose.phase.scores import agreement as agreement
from superpose.phase.scores import boundary_offset as boundary_offset
from superpose.phase.scores import largest_gap as largest_gap
from superpose.settings import Diagram as Diagram
