"""One script per question or figure; each reads or makes saved results and draws from them."""

EXPERIMENTS = (
    "loss_parts",
    "dimensions_per_feature",
    "one_feature_differs",
    "correlated",
)
"""Modules of the experiments, in the paper's order."""
