"""From cause to cure: features in superposition, found again by autoencoders, scored against the truth, steered and ablated."""

from superpose.unmix.recovery import solve_recovery
from superpose.unmix.recovery import summary as recovery_summary
from superpose.unmix.run import best, compute, summary
from superpose.unmix.units import correlation, features_per_unit

__all__ = ["best", "compute", "correlation", "features_per_unit", "recovery_summary", "solve_recovery", "summary"]
