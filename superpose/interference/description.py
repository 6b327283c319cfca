"""What is in this matrix of directions? Columns that are no features, lengths, dimensionalities, partners and coherence.

`W` has shape (m, n), column i the direction of feature i; any size, see `superpose.many_features`. Columns that are not finite,
as a file can hold, are reported and otherwise counted as zero.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from superpose import frames, weights
from superpose.many_features import MEMORY, Columns, Source, capacity_bound, strongest_partners
from superpose.many_features.blocks import finite
from superpose.many_features.tiles import tile_width

SHOWN, SHOWN_PARTNERS = 5, 3
"""Features, and partners of each, that the text of a description names."""


@dataclass(frozen=True, eq=False)
class Description:
    """What `describe` finds; `str` gives it as a short table.

    Args:
        m: dimensions.
        n: features, the columns of W.
        dtype: W's type.
        not_finite: columns with nan or inf, ascending.
        zero: columns that are all zeros, ascending.
        duplicates: features that stand in the same direction as one before them, up to a positive factor, ascending: two
            are taken for the same where `W_i_hat . W_j_hat >= 1 - 64 eps`, eps that of the type W is worked on.
        originals: for each of the duplicates the lowest such feature.
        length: `|W_i|`, nan where it is not finite.
        dimensionality: `D_i = |W_i|^2 / sum_j (W_i_hat . W_j)^2`, in [0, 1], 0 for a zero column, nan where it is not finite.
        rank: of W, which `sum_i D_i` cannot exceed, see `capacity_bound`; dimensions of columns 1/eps times shorter do not count.
        partners: the k features that interfere most with each, the strongest first; -1 where there are fewer.
        cosine: `W_i_hat . W_j_hat` with each partner.
        share: the part of feature i's interference, `sum_{j != i} (W_i_hat . W_j)^2 = sum_j (W_i_hat . W_j)^2 - |W_i|^2`, that
            each partner brings, in [0, 1].
        coherence: `max_{i != j} |W_i_hat . W_j_hat|`, in [0, 1].
        welch_bound: the least coherence that as many directions can have, 0 if there are at most m.
        random_coherence: the median coherence of as many random directions, 0 if there are fewer than two.
    """

    m: int
    n: int
    dtype: str
    not_finite: Int[np.ndarray, " _"]
    zero: Int[np.ndarray, " _"]
    duplicates: Int[np.ndarray, " d"]
    originals: Int[np.ndarray, " d"]
    length: Float64[np.ndarray, " n"]
    dimensionality: Float64[np.ndarray, " n"]
    rank: int
    partners: Int[np.ndarray, "n k"]
    cosine: Float[np.ndarray, "n k"]
    share: Float64[np.ndarray, "n k"]
    coherence: float
    welch_bound: float
    random_coherence: float

    def __str__(self) -> str:
        """A short table."""
        total = np.nansum(self.dimensionality)
        live = np.flatnonzero(self.length > 0)
        lines = [
            f"W          m = {self.m} dimensions, n = {self.n} features, {self.dtype}",
            f"not finite {_columns(self.not_finite)}",
            f"zero       {_columns(self.zero)}",
            f"duplicates {_columns(self.duplicates)}"
            + (f", same as {_columns(self.originals)}" if len(self.originals) else ""),
            f"length     {_spread(self.length[live])}",
            f"D          {_spread(self.dimensionality[live])}; sum {total:.4g} of rank {self.rank}",
            f"coherence  {self.coherence:.4g}; at least {self.welch_bound:.4g} (Welch), "
            f"random directions {self.random_coherence:.4g}",
        ]
        least = live[np.argsort(self.dimensionality[live], kind="stable")[:SHOWN]]
        if len(least):
            lines.append("least D    feature  length  D       strongest partners (cosine, share of the interference)")
        for i in least:
            mine = zip(self.partners[i], self.cosine[i], self.share[i], strict=True)
            named = ", ".join(f"{j} ({c:+.3f}, {s:.0%})" for j, c, s in list(mine)[:SHOWN_PARTNERS] if j >= 0)
            lines.append(f"{'':10} {i:>7}  {self.length[i]:<6.3g}  {self.dimensionality[i]:<6.3g}  {named}".rstrip())
        return "\n".join(lines)


def describe(W: Source, *, k: int = 5, memory: int = MEMORY) -> Description:
    """What there is to know of any matrix of directions, whatever its size and its faults; print it, or read its fields.

    Takes n^2 m operations and a few passes over all pairs, in blocks of columns, never an array of shape (n, n). Worked on in
    float64 if `W` is float64, else in float32: overlaps are exact to eps relative to the partner's length. A warning is given if
    `W` looks transposed.

    Args:
        W: shape (m, n), n >= 2, column i the direction of feature i; an array, a memory-mapped file or `many_features.Columns`.
        k: partners a feature, >= 1; n - 1 if there are no more.
        memory: bytes to work in.

    Raises:
        ValueError: `W` is not a matrix of real numbers, n < 2, k < 1, a block has the wrong shape, or the memory does not hold one
            column.
    """
    weights.check(W)
    m, n = W.shape
    good = finite(W, tile_width(W, memory))
    clean = W if good.all() else Columns(lambda a, b: np.where(good[a:b], np.asarray(W[:, a:b]), 0), n=n, m=m, dtype=W.dtype)
    found = strongest_partners(clean, k, memory=memory)
    length = np.where(good, found.length, np.nan)
    live = length > 0
    again = np.flatnonzero(found.twin != np.arange(n))
    count = int(live.sum())
    return Description(
        m=m,
        n=n,
        dtype=str(W.dtype),
        not_finite=np.flatnonzero(~good),
        zero=np.flatnonzero(length == 0),
        duplicates=again,
        originals=found.twin[again],
        length=length,
        dimensionality=np.where(good, np.where(live, 1 / (1 + found.interference), 0), np.nan),
        rank=capacity_bound(clean, memory=memory),
        partners=found.index,
        cosine=found.cosine,
        share=found.share,
        coherence=float(found.coherence.max()),
        welch_bound=frames.welch_bound(n=count, m=m) if count > max(m, 1) else 0.0,
        random_coherence=frames.random_coherence(n=count, m=m) if count > 1 else 0.0,
    )


def _columns(columns: Int[np.ndarray, " _"]) -> str:
    return weights.listed(columns) if len(columns) else "none"


def _spread(values: Float64[np.ndarray, " _"]) -> str:
    if len(values) == 0:
        return "none"
    return f"{values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}"
