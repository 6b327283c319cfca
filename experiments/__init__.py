"""One script per question or figure; each reads or makes saved results and draws from them."""

EXPERIMENTS = ("five_features", "one_feature_differs", "correlated")
"""Modules of the experiments, in the paper's order."""
