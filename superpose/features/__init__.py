"""Features as data: who is active, how often and how strongly, and how much each one's error counts."""

from superpose.features.distributions import (
    Coupled,
    Distribution,
    Exclusive,
    Mixture,
    Sparse,
    SparseBinary,
    SparseExponential,
    SparseSymmetric,
    SparseUniform,
    Together,
    Tree,
    check,
    coupling,
    given,
    magnitude,
)
from superpose.features.importance import geometric_importance, last_importance, power_law_importance
from superpose.features.magnitudes import Magnitude
from superpose.features.moments import characteristic_function, covariance, density, mean, second_moment, variance
from superpose.features.sampling import sample

__all__ = [
    "Coupled",
    "Distribution",
    "Exclusive",
    "Magnitude",
    "Mixture",
    "Sparse",
    "SparseBinary",
    "SparseExponential",
    "SparseSymmetric",
    "SparseUniform",
    "Together",
    "Tree",
    "characteristic_function",
    "check",
    "coupling",
    "covariance",
    "density",
    "geometric_importance",
    "given",
    "last_importance",
    "magnitude",
    "mean",
    "power_law_importance",
    "sample",
    "second_moment",
    "variance",
]
