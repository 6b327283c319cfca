"""One script per question or figure; each reads or makes saved results and draws from them."""

EXPERIMENTS = (
    "dimensions_per_feature",
    "feature_geometry",
    "one_feature_differs",
    "correlated",
    "energy_levels",
    "adversarial_examples",
)
"""Modules of the experiments, in the paper's order."""
