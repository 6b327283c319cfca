"""Encoders that know the true dictionary, from a threshold to the exact posterior: what codes could be, and what dictionaries cost.

Activations are `h = D x`, D (m, n) known and x >= 0 sparse; a bias is taken off before. The functions find x from one activation,
and callers `vmap`; `lista` and `frozen` are variants for `sae.fit`. `ladder` scores all of them on the same samples, and `apart`
tells the dictionary error of an autoencoder from its encoder error.
"""

from superpose.sae.ladder.apart import Apart, apart
from superpose.sae.ladder.frozen import from_dictionary, frozen, supervised
from superpose.sae.ladder.lasso import Codes, gap, lasso
from superpose.sae.ladder.lista import ListaParams, lista
from superpose.sae.ladder.posterior import Posterior, best_code, posterior, supports
from superpose.sae.ladder.pursuit import pursuit
from superpose.sae.ladder.rungs import Rung, Settings, ladder
from superpose.sae.ladder.threshold import threshold

__all__ = [
    "Apart",
    "Codes",
    "ListaParams",
    "Posterior",
    "Rung",
    "Settings",
    "apart",
    "best_code",
    "from_dictionary",
    "frozen",
    "gap",
    "ladder",
    "lasso",
    "lista",
    "posterior",
    "pursuit",
    "supervised",
    "supports",
    "threshold",
]
