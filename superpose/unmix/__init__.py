"""From cause to cure: features in superposition, found again by autoencoders, scored against the truth, steered and ablated."""

from superpose.unmix.run import best, compute, summary
from superpose.unmix.units import correlation, features_per_unit

__all__ = ["best", "compute", "correlation", "features_per_unit", "summary"]
