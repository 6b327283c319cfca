"""Activations whose true features are known, at any size: to train sparse autoencoders on, and to score them against.

A world (`World`) is a dictionary D of n directions in m dimensions and a law of the true features x; what an autoencoder sees is
`h = D x + bias + noise`. `synth_sae_bench`, `independent` and `of_model` build worlds, and `draw` draws from any of them.

Reference: Chanin et al. 2026, "SynthSAEBench: Evaluating Sparse Autoencoders on Scalable Realistic Synthetic Data",
arXiv:2602.14687.
"""

from superpose.synthetic.directions import coherent_directions, random_directions, spread_directions
from superpose.synthetic.firing import (
    Copula,
    Trees,
    compensated_rates,
    copula,
    latent_correlation,
    marginal_rates,
    parents,
    zipf_rates,
)
from superpose.synthetic.magnitudes import RectifiedNormal, rectified_normal
from superpose.synthetic.world import Draw, Independent, Law, Planted, World, draw, independent, of_model, synth_sae_bench

__all__ = [
    "Copula",
    "Draw",
    "Independent",
    "Law",
    "Planted",
    "RectifiedNormal",
    "Trees",
    "World",
    "coherent_directions",
    "compensated_rates",
    "copula",
    "draw",
    "independent",
    "latent_correlation",
    "marginal_rates",
    "of_model",
    "parents",
    "random_directions",
    "rectified_normal",
    "spread_directions",
    "synth_sae_bench",
    "zipf_rates",
]
