"""Un-mixing: sparse autoencoders on the activations `h = W x` of features in superposition, solved exactly.

`solve` finds certified minima of the population loss, from random starts and from the true dictionary, so whether an autoencoder's
optimum recovers the truth has an answer. The loss is `superpose.expected_loss.autoencoder`.
"""

from superpose.autoencoder import Params, decode, encode, from_dictionary, loss
from superpose.sae.solve import Minima, solve

__all__ = ["Minima", "Params", "decode", "encode", "from_dictionary", "loss", "solve"]
