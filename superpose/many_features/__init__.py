"""Interference of very many features: `W` in blocks of columns, in a stated memory, never an array of shape (n, n).

`W` has shape (m, n) and may be larger than the memory: see `Source` and `Columns` for what it can be. Column `W_i = W[:, i]` is
the direction of feature i, `W_i_hat = W_i / |W_i|`, 0 for a zero column. Entries are finite, of any size that W's type can hold:
one that is not is refused with the number of its column (`superpose.interference.describe` goes round it). A warning is given if
`W` looks transposed. Every function takes `memory`, in bytes, for all that it works with; `W` itself if it is in memory, the
results, and the process (about 0.3 GB) are not part of it. Results depend on it by rounding at most. Host functions: they return
NumPy arrays, and are not to be differentiated or compiled.

| quantity | operations | n = 10^6, m = 1,024 at 200 GFlop/s |
|---|---|---|
| `feature_dimensionality` | 4 n m^2, in two passes over W | 20 s |
| `nearest_neighbours`, `top_pairs`, `coherence`, `histogram` | n^2 m: each pair once | 85 minutes; 51 s for n = 10^5 |
| `strongest_partners` | n^2 m and as much memory traffic as several of these | |
| `capacity_bound` | 4 n m^2 | |
| `sampled_histogram` of s features with all | 2 n m s | 10 s for s = 1,000 |

Reference: Elhage et al. 2022, "Toy Models of Superposition", "The Geometry of Superposition".
"""

from superpose.many_features.blocks import MEMORY, Columns, Source
from superpose.many_features.dimensionality import capacity_bound, feature_dimensionality
from superpose.many_features.histograms import Histogram, histogram, sampled_histogram
from superpose.many_features.pairs import Neighbours, Pairs, coherence, nearest_neighbours, signed_coherence, top_pairs
from superpose.many_features.partners import Partners, strongest_partners

__all__ = [
    "MEMORY",
    "Columns",
    "Histogram",
    "Neighbours",
    "Pairs",
    "Partners",
    "Source",
    "capacity_bound",
    "coherence",
    "feature_dimensionality",
    "histogram",
    "nearest_neighbours",
    "sampled_histogram",
    "signed_coherence",
    "strongest_partners",
    "top_pairs",
]
