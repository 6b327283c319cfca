"""Un-mixing: sparse autoencoders on activations `h`, trained on samples or solved exactly, and scored against the truth.

`solve` finds certified minima of the population loss on `h = W x`, from random starts and from the true dictionary, so whether an
autoencoder's optimum recovers the truth has an answer. `fit` trains any variant on samples of any activations.
"""

from superpose.autoencoder import Params, decode, encode, from_dictionary, loss
from superpose.sae import ladder, scores
from superpose.sae.annealed import P_ANNEALED
from superpose.sae.fit import Fit, begin, fit, rows
from superpose.sae.gated import GATED
from superpose.sae.jump_relu import JUMP_RELU
from superpose.sae.long_run import fit_in_parts
from superpose.sae.relu import RELU, UNIT_RELU, crosscoder
from superpose.sae.solve import Minima, solve
from superpose.sae.top_k import BATCH_TOP_K, TOP_K, matryoshka
from superpose.sae.variant import Variant, latents, reconstruction

__all__ = [
    "BATCH_TOP_K",
    "GATED",
    "JUMP_RELU",
    "P_ANNEALED",
    "RELU",
    "TOP_K",
    "UNIT_RELU",
    "Fit",
    "Minima",
    "Params",
    "Variant",
    "begin",
    "crosscoder",
    "decode",
    "encode",
    "fit",
    "fit_in_parts",
    "from_dictionary",
    "ladder",
    "latents",
    "loss",
    "matryoshka",
    "reconstruction",
    "rows",
    "scores",
    "solve",
]
