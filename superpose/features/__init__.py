"""Features as data: who is active, how often and how strongly, and how much each one's error counts."""

from superpose.features.distributions import (
    Distribution,
    Exclusive,
    Sparse,
    SparseBinary,
    SparseExponential,
    SparseSymmetric,
    SparseUniform,
    Together,
    characteristic_function,
    check,
    covariance,
    density,
    magnitude,
    mean,
    sample,
    variance,
)
from superpose.features.importance import geometric_importance, last_importance, power_law_importance
from superpose.features.magnitudes import Magnitude

__all__ = [
    "Distribution",
    "Exclusive",
    "Magnitude",
    "Sparse",
    "SparseBinary",
    "SparseExponential",
    "SparseSymmetric",
    "SparseUniform",
    "Together",
    "characteristic_function",
    "check",
    "covariance",
    "density",
    "geometric_importance",
    "last_importance",
    "magnitude",
    "mean",
    "power_law_importance",
    "sample",
    "variance",
]
