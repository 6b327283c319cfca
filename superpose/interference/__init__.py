"""Interference: how much features that share dimensions overlap, and how much of a dimension each one gets.

`W` has shape `(m, n)`; its column `W_i = W[:, i]` is the direction of feature i. `superpose.many_features` has the same in
blocks, for what does not fit; `describe` takes both.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "The Geometry of Superposition".
"""

from superpose.interference.dense import (
    capacity_bound,
    coherence,
    dimensions_per_feature,
    feature_dimensionality,
    gram,
    interference,
    signed_coherence,
)
from superpose.interference.description import Description, describe

__all__ = [
    "Description",
    "capacity_bound",
    "coherence",
    "describe",
    "dimensions_per_feature",
    "feature_dimensionality",
    "gram",
    "interference",
    "signed_coherence",
]
