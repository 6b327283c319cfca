"""The geometry of a solution: its orthogonal pieces, each in canonical form and with a name, and how many there are of each.

Features whose directions overlap belong together; a solution is the orthogonal sum (tegum product) of such pieces. In a
trained model no overlap is exactly 0, so each function states what it takes for nothing, and a piece says how much it
overlaps with the rest (`coupling`). `W` has shape (m, n); its column i is the direction of feature i. Works on saved NumPy
arrays.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "The Geometry of Superposition".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import ClusterNode, linkage, to_tree

from superpose import weights
from superpose.geometry import shapes

IGNORED = "ignored"
SAME = 0.99
"""Two features stand in one direction if the cosine between them is larger; within a known shape none is above .81."""
MOST = 5000
"""Most features that are split into pieces: an array of all their overlaps is formed."""


@dataclass(frozen=True)
class Piece:
    """One orthogonal piece of a solution.

    Args:
        name: a shape of `shapes`, "alone" for a single feature, or "none of these".
        features: numbers of its features, `(k,)`, in the order of the shape's vertices.
        duplicates: `(d, 2)`, further features that stand in the direction of one of these, each with that one. A piece that is
            none of the shapes, or has only one direction, lists them all as features.
        residual: relative distance of its Gram matrix from the shape's, see `shapes.match`; of the nearest if it is none.
        nearest: the nearest shape, which is `name` unless that is "none of these".
        frame: its directions in canonical form, `(r, k)`: turned onto the shape and in its order, so that neither rotation
            nor reflection nor numbering is left. A piece that is none of these stands in its principal axes.
        coupling: the largest `|cos|` between a feature of this piece and one of another, in [0, 1].
    """

    name: str
    features: Int[np.ndarray, " k"]
    duplicates: Int[np.ndarray, "d 2"]
    residual: float
    nearest: str
    frame: Float[np.ndarray, "r k"]
    coupling: float


def pieces(
    W: Float[np.ndarray, "m n"],
    *,
    ignored: float = 0.2,
    tolerance: float = 0.1,
    loosest: float = 0.3,
    limit: float = 0.2,
) -> list[Piece]:
    """Split a solution into its orthogonal pieces and name each.

    Features with `|cos| = |W_i . W_j| / (|W_i| |W_j|) >= tolerance` are linked, and what hangs together is a piece. Noise
    links pieces that do not belong together: one that is none of the known shapes is cut at its weakest link, again and
    again while that is below `loosest`, as long as a shape comes out of it; else it stays whole. Features in one direction,
    `W_i_hat . W_j_hat > SAME`, are one vertex of a shape, as long as the longest of them.

    A warning says so where there are no small pieces, as in a random matrix: none has a name, and one has more features than any
    shape. `superpose.interference.describe` says more of such a matrix. Another says that `W` looks transposed.

    Args:
        W: shape `(m, n)`, column i the direction of feature i; finite, of any length. Takes O(n^2 m) time and O(n^2) memory for
            the n that are not ignored, at most `MOST`.
        ignored: a column counts as nothing if `|W_i| <= ignored max_j |W_j|`, in [0, 1).
        tolerance: `|cos|` below which two features have nothing to do with each other, in (0, 1).
        loosest: the strongest link that may be taken for noise, in [tolerance, 1); `tolerance` cuts nothing further. The
            weakest links that hold known shapes together are 1/(k-1) in a simplex of k, .81 in a pentagon and in a square
            antiprism, 1 in a digon.
        limit: the largest residual at which a piece bears the shape's name, in (0, 1).

    Returns:
        The pieces by their lowest feature. Ignored features are in none of them.

    Raises:
        ValueError: an argument out of range, `W` not a matrix of finite real numbers, or too many features.
    """
    _check(W, ignored, tolerance, loosest, limit)
    W = np.asarray(W, np.float64)
    scale = 2.0 ** np.floor(np.log2(np.abs(W).max() or 1))
    W = W / scale  # so that no square overflows or vanishes
    length = np.linalg.norm(W, axis=0)
    kept = np.flatnonzero(length > ignored * length.max())
    if len(kept) == 0:
        return []
    if len(kept) > MOST:
        raise ValueError(
            f"W has {len(kept)} features that are not ignored: needs at most {MOST}; ask interference.describe(W)"
        )
    unit = W[:, kept] / length[kept]
    cosine = unit.T @ unit
    vertex = _vertices(cosine, length[kept])
    cosine = np.minimum(np.abs(cosine), 1)
    np.fill_diagonal(cosine, 0)

    def name(members: np.ndarray) -> str:
        found, _ = _named(W, kept[members], kept[vertex[members]], limit)
        return shapes.NONE if found is None else found.name

    def piece(members: np.ndarray) -> Piece:
        rest = np.delete(cosine[members], members, axis=1)
        return _piece(W, scale, kept[members], kept[vertex[members]], float(rest.max(initial=0)), limit)

    found = [piece(members) for members in _split(_tree(cosine), name, tolerance, loosest)]
    _warn_if_crowded(found)
    return sorted(found, key=_lowest)


def census(
    solutions: Sequence[Float[np.ndarray, "_ _"]], density: Sequence[float] | Float[np.ndarray, " s"], **settings: float
) -> xr.Dataset:
    """How many pieces and features of each kind a set of solutions has, per density.

    Args:
        solutions: one `W` each.
        density: of each solution; those of equal density are counted together.
        **settings: of `pieces`.

    Returns:
        Over (density, name): `pieces` and `features`, counts; `residual`, the mean over pieces, nan where there is none; over
        density: `solutions`, how many. "ignored" counts features only. Names come in descending order of their features.

    Raises:
        ValueError: there is no solution, or another number of densities; or as `pieces`.
    """
    if len(solutions) == 0:
        raise ValueError("solutions is empty: needs at least one W")
    if len(solutions) != len(density):
        raise ValueError(f"density has {len(density)} entries: needs one for each of {len(solutions)} solutions")
    rows = []
    for W, p in zip(solutions, density, strict=True):
        found = pieces(W, **settings)
        rows += [(float(p), x.name, 1, _size(x), x.residual) for x in found]
        rows.append((float(p), IGNORED, 0, np.shape(W)[1] - sum(_size(x) for x in found), 0.0))
    levels = np.unique(np.asarray(density, float))
    names = np.array([row[1] for row in rows])
    weight = {name: sum(row[3] for row in rows if row[1] == name) for name in dict.fromkeys(names.tolist())}
    order = sorted(weight, key=lambda name: -weight[name])
    shape = (len(levels), len(order))
    at = (np.searchsorted(levels, [row[0] for row in rows]), np.array([order.index(name) for name in names]))
    total = {"pieces": np.zeros(shape, int), "features": np.zeros(shape, int), "residual": np.zeros(shape)}
    for k, name in enumerate(total, start=2):
        np.add.at(total[name], at, [row[k] for row in rows])
    total["residual"] /= np.where(total["pieces"] > 0, total["pieces"], np.nan)
    data = {name: (("density", "name"), values) for name, values in total.items()}
    count = np.array([np.sum(np.asarray(density, float) == p) for p in levels])
    return xr.Dataset(data | {"solutions": ("density", count)}, coords={"density": levels, "name": order})


def _check(W: np.ndarray, ignored: float, tolerance: float, loosest: float, limit: float) -> None:
    weights.check(W)
    weights.check_finite(W)
    weights.warn_if_transposed(W)
    for name, value, low, holds in [
        ("ignored", ignored, "[0", 0 <= ignored < 1),
        ("tolerance", tolerance, "(0", 0 < tolerance < 1),
        ("loosest", loosest, f"[tolerance = {tolerance}", tolerance <= loosest < 1),
        ("limit", limit, "(0", 0 < limit < 1),
    ]:
        if not holds:
            raise ValueError(f"{name} = {value}: needs to lie in {low}, 1)")


def _tree(cosine: Float[np.ndarray, "k k"]) -> ClusterNode:
    """Single linkage on `1 - |cos|`: cutting a node parts its features at their weakest necessary link, `1 - node.dist`."""
    if len(cosine) == 1:
        return ClusterNode(0)
    root = to_tree(linkage(1 - cosine[np.triu_indices(len(cosine), 1)], "single"))
    assert isinstance(root, ClusterNode)
    return root


def _vertices(cosine: Float[np.ndarray, "k k"], length: Float[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    """For each feature the one that its direction is known by: the longest that stands in it."""
    vertex = np.full(len(length), -1)
    for i in np.argsort(-length, kind="stable"):
        if vertex[i] < 0:
            vertex[(vertex < 0) & (cosine[i] > SAME)] = i
            vertex[i] = i
    return vertex


def _split(
    root: ClusterNode, name: Callable[[np.ndarray], str], tolerance: float, loosest: float
) -> list[Int[np.ndarray, " _"]]:
    """The features of each piece below a node, by a stack, not recursion: noise can make the tree as deep as there are features."""
    done: dict[int, list[np.ndarray]] = {}
    shaped: dict[int, bool] = {}
    whole: dict[int, tuple[np.ndarray, str]] = {}
    stack = [root]
    while stack:
        node = stack[-1]
        children = [c for c in (node.left, node.right) if c is not None]
        link = 1 - node.dist
        if node.id not in whole and not (children and link < tolerance):
            members = np.sort(node.pre_order())
            whole[node.id] = members, name(members)
        mine = whole.get(node.id)
        if mine is not None and (mine[1] != shapes.NONE or link >= loosest):
            done[node.id], shaped[node.id] = [mine[0]], mine[1] not in (shapes.NONE, shapes.ALONE)
        elif any(c.id not in done for c in children):
            stack += [c for c in children if c.id not in done]
            continue
        else:
            shaped[node.id] = any(shaped[c.id] for c in children)
            parts = [p for c in children for p in done[c.id]]
            done[node.id] = parts if mine is None or shaped[node.id] else [mine[0]]
        stack.pop()
    return done[root.id]


def _named(
    W: Float[np.ndarray, "m n"], members: Int[np.ndarray, " k"], vertex: Int[np.ndarray, " k"], limit: float
) -> tuple[shapes.Match | None, Int[np.ndarray, " v"]]:
    """The shape that some features form, if any, and its vertices: all of them, if there is none or one direction only."""
    corners = np.unique(vertex)
    corners = members if len(corners) == 1 else corners
    found = shapes.match(W[:, corners]) if len(corners) <= shapes.LARGEST else None
    return (found, corners) if found is not None and found.residual <= limit else (None, members)


def _piece(
    W: Float[np.ndarray, "m n"],
    scale: float,
    members: Int[np.ndarray, " k"],
    vertex: Int[np.ndarray, " k"],
    coupling: float,
    limit: float,
) -> Piece:
    found, corners = _named(W, members, vertex, limit)
    nearest = found or shapes.match(W[:, corners])
    corners = corners[nearest.order]
    extra = ~np.isin(members, corners)
    duplicates = np.stack([members[extra], vertex[extra]], axis=1)
    if found is None:
        frame = _principal(W[:, corners])
    else:
        frame = shapes.aligned(W[:, corners], shapes.library(len(corners))[found.name])
    name = shapes.NONE if found is None else found.name
    return Piece(name, corners, duplicates, nearest.residual, nearest.name, scale * frame, coupling)


def _size(piece: Piece) -> int:
    return len(piece.features) + len(piece.duplicates)


def _lowest(piece: Piece) -> int:
    return int(np.concatenate([piece.features, piece.duplicates[:, 0]]).min())


def _warn_if_crowded(found: list[Piece]) -> None:
    largest = max(len(piece.features) for piece in found)
    if largest > shapes.LARGEST and all(piece.name in (shapes.NONE, shapes.ALONE) for piece in found):
        text = f"W has no small pieces: {largest} features hang together and none of them form a known shape"
        weights.warn(text + "; ask interference.describe(W) for their overlaps")


def _principal(W: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "r k"]:
    """Coordinates along the principal axes above rounding, longest first, each axis turned to a positive sum of cubes."""
    _, s, V = np.linalg.svd(W, full_matrices=False)
    frame = (s[:, None] * V)[s > s[0] * max(W.shape) * np.finfo(np.float64).eps]
    return frame * np.where((frame**3).sum(1) < 0, -1, 1)[:, None]
