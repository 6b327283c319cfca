"""Shapes that features are known to form, and how near a set of directions comes to one of them.

A shape is a frame of unit columns that does not fall into orthogonal parts: digon, triangle, tetrahedron, pentagon, square
antiprism, larger polygons and simplices. Whatever rotates, reflects or renumbers the columns leaves the shape alone, so
shapes are compared by Gram matrices. Octahedra and bipyramids are orthogonal sums of such shapes, see `compound`.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "The Geometry of Superposition" and its tegum products;
Hoffman and Wielandt 1953, "The variation of the spectrum of a normal matrix".
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from superpose import frames, weights

ALONE, DIGON, NONE = "alone", "digon", "none of these"
LARGEST = 10
"""Most features of a shape in the library: links of 1/(k-1), in larger simplices, are lost in noise."""
_POLYGONS = {3: "triangle", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}
_SIMPLICES = {1: ALONE, 2: DIGON, 3: "triangle", 4: "tetrahedron"}
_ANCHORS = 3  # columns that fix a first rotation; enough for every shape here that is not a simplex


class Match(NamedTuple):
    """The nearest shape: its name, the residual in [0, 1], and which column stands for each of the shape's, `(k,)`."""

    name: str
    residual: float
    order: np.ndarray


@cache
def library(k: int) -> dict[str, np.ndarray]:
    """The shapes of k features by name, each `(r, k)` with unit columns; empty above `LARGEST`.

    Raises:
        ValueError: unless k >= 1.
    """
    if k < 1:
        raise ValueError(f"k = {k}: needs at least 1")
    if k > LARGEST:
        return {}
    shapes = {_SIMPLICES.get(k, f"simplex of {k}"): frames.simplex(k) if k > 1 else np.ones((1, 1))}
    if k >= 5:
        shapes[_POLYGONS.get(k, f"{k}-gon")] = frames.polygon(k)
    if k == 8:
        shapes["square antiprism"] = frames.square_antiprism()
    return {name: np.asarray(shape, np.float64) for name, shape in shapes.items()}


def match(W: Float[np.ndarray, "m k"]) -> Match:
    """The shape nearest to the columns of `W`.

    The residual is `min_{s, P} |G - s P^T T P|_F / |G|_F`, with `G = W^T W`, T the shape's Gram matrix, P a permutation
    and s >= 0 one scale for all lengths. It is 0 for a shape of any size; unequal lengths count. As the spectra alone
    bound it from below (Hoffman and Wielandt), most shapes are left out unmatched.

    Args:
        W: shape `(m, k)`, no column zero.

    Returns:
        The match; `NONE` with residual 1 if the library has no shape of k features, at once.

    Raises:
        ValueError: `W` is not a matrix of finite real numbers.
    """
    weights.check(W)
    weights.check_finite(W)
    if W.shape[1] > LARGEST:
        return Match(NONE, 1.0, np.arange(W.shape[1]))
    W = np.asarray(W, np.float64)
    W = W / (np.abs(W).max() or 1)  # so that no square overflows or vanishes
    G = W.T @ W
    spectrum = np.linalg.eigvalsh(G)
    bounds = {name: _distance(spectrum, np.linalg.eigvalsh(shape.T @ shape)) for name, shape in library(W.shape[1]).items()}
    best = Match(NONE, 1.0, np.arange(W.shape[1]))
    for name in sorted(bounds, key=bounds.__getitem__):
        if bounds[name] < best.residual:
            residual, order = _matched(G, library(W.shape[1])[name])
            best = Match(name, residual, order) if residual < best.residual else best
    return best


def aligned(W: Float[np.ndarray, "m k"], shape: Float[np.ndarray, "r k"]) -> Float[np.ndarray, "r k"]:
    """The columns of `W`, which stand in the order of `shape`'s, turned to lie nearest to them: `R W`, R with orthonormal rows.

    Reference: Schönemann 1966, "A generalized solution of the orthogonal Procrustes problem".
    """
    U, _, V = np.linalg.svd(shape @ W.T, full_matrices=False)
    return U @ V @ W


def compound(names: Iterable[str]) -> str:
    """The name of an orthogonal sum (tegum product) of shapes: three digons are an octahedron.

    A sum without a name of its own is spelt out, as in `2 x triangle + digon`; of nothing, it is `nothing`.
    """
    count = Counter(names)
    if set(count) == {DIGON} and count[DIGON] > 1:
        return {2: "square", 3: "octahedron"}.get(count[DIGON], f"orthoplex of {2 * count[DIGON]}")
    if len(count) == 2 and count[DIGON] == 1:
        (base,) = set(count) - {DIGON}
        known = {"triangle": "triangular bipyramid", "pentagon": "pentagonal bipyramid", "hexagon": "hexagonal bipyramid"}
        if base in known and count[base] == 1:
            return known[base]
    return " + ".join(f"{c} x {name}" if c > 1 else name for name, c in sorted(count.items())) or "nothing"


def _distance(G: np.ndarray, T: np.ndarray) -> float:
    """`min_{s >= 0} |G - s T| / |G|`."""
    s = max(0.0, float(np.sum(G * T) / np.sum(T * T)))
    return float(np.linalg.norm(G - s * T) / np.linalg.norm(G))


def _matched(G: Float[np.ndarray, "k k"], shape: Float[np.ndarray, "r k"]) -> tuple[float, Int[np.ndarray, " k"]]:
    """Residual and order of the best assignment of G's columns to the shape's.

    Some of the shape's columns are laid on every ordered choice of as many of G's (embedded in as many dimensions as the
    shape has); each gives a rotation, each rotation an assignment, and the best is refined in turns until it stays.
    """
    T = shape.T @ shape
    r, k = shape.shape
    if r >= k - 1:
        return _distance(G, T), np.arange(k)  # a simplex: all orders are alike
    values, vectors = np.linalg.eigh(G)
    X = (vectors[:, -r:] * np.sqrt(np.maximum(values[-r:], 0))[None, :]).T
    anchors = _anchors(shape)
    chosen = np.array(list(permutations(range(k), len(anchors))))
    cross = np.einsum("ra,cas->crs", shape[:, anchors], X[:, chosen].transpose(1, 2, 0))
    U, _, V = np.linalg.svd(cross)
    overlap = np.einsum("ri,crs,sj->cij", shape, U @ V, X, optimize=True)
    return min((_refined(G, shape, X, overlap[c]) for c in np.argsort(-overlap.max(2).sum(1))[:5]), key=lambda x: x[0])


def _anchors(shape: Float[np.ndarray, "r k"]) -> list[int]:
    """The first columns of a shape that are linearly independent, at most `_ANCHORS`."""
    found: list[int] = []
    for i in range(shape.shape[1]):
        if np.linalg.matrix_rank(shape[:, [*found, i]], tol=1e-6) > len(found):
            found.append(i)
    return found[:_ANCHORS]


def _refined(G: np.ndarray, shape: np.ndarray, X: np.ndarray, overlap: np.ndarray) -> tuple[float, np.ndarray]:
    """Assign, rotate, assign again until nothing changes."""
    order = linear_sum_assignment(-overlap)[1]
    for _ in range(20):
        U, _, V = np.linalg.svd(shape @ X[:, order].T)
        following = linear_sum_assignment(-shape.T @ (U @ V) @ X)[1]
        if np.array_equal(following, order):
            break
        order = following
    return _distance(G[np.ix_(order, order)], shape.T @ shape), order
