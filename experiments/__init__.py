"""One script per question or figure; each reads or makes saved results and draws from them."""

EXPERIMENTS = (
    "five_features",
    "basic_results",
    "loss_parts",
    "phase_two_one",
    "phase_three_two",
    "dimensions_per_feature",
    "feature_geometry",
    "one_feature_differs",
    "correlated",
    "local_bases",
    "collapse",
    "energy_levels",
    "geometry_in_training",
    "adversarial_examples",
    "privileged_basis",
    "absolute_value",
    "absolute_value_sparsity",
    "asymmetric_superposition",
    "getting_rid",
    "parent_and_children",
)
"""Modules of the experiments, in the paper's order; then those that are not in it."""
