"""One script per question or figure; each reads or makes saved results and draws from them."""

EXPERIMENTS = ("one_feature_differs", "correlated", "local_bases", "collapse")
"""Modules of the experiments, in the paper's order."""
