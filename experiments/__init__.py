"""One script per question or figure; each reads or makes saved results and draws from them."""

EXPERIMENTS = ("one_feature_differs", "correlated", "absolute_value_sparsity", "asymmetric_superposition", "getting_rid")
"""Modules of the experiments, in the paper's order."""
