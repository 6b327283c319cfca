"""Regions of a grid of labels: where inside one to put its name and its symbols, and where two of them meet."""

import numpy as np
from jaxtyping import Bool, Float, Int

LEAST_DEPTH = 0.11  # of the shorter side of the grid: how far from its edge a region must reach to be named
NAME_WIDTH, NAME_HEIGHT = 0.15, 0.065  # of the grid: how far from a short name's middle symbols are left out
ROOM, LETTER = 0.07, 0.0065  # of the grid: beside a name, and half a letter


def _eroded(region: Bool[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """The cells whose four neighbours all lie in the region."""
    padded = np.pad(region, 1)
    return region & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def deepest(region: Bool[np.ndarray, "y x"]) -> tuple[tuple[int, int], int]:
    """The cell farthest from the edge of a region that is not empty, and its distance from it in cells."""
    depth, inner = 0, region
    while region.any():
        depth, inner, region = depth + 1, region, _eroded(region)
    cells = np.argwhere(inner)
    row, column = cells[len(cells) // 2]
    return (int(row), int(column)), depth


def half_width(name: str) -> float:
    """Half of what a name takes of the grid's width, with room beside it."""
    return max(NAME_WIDTH, ROOM + LETTER * len(name))


def name_cell(region: Bool[np.ndarray, "y x"], half_width: float = NAME_WIDTH) -> tuple[int, int] | None:
    """Where to write a region's name; None where it has no room."""
    if not region.any():
        return None
    (row, column), depth = deepest(region)
    width = region.shape[1]
    inside = (half_width - ROOM) * width <= column + 0.5 <= (1 - half_width + ROOM) * width
    return (row, column) if depth > LEAST_DEPTH * min(region.shape) and inside else None


def symbol_cells(region: Bool[np.ndarray, "y x"], *, count: int, half_width: float = NAME_WIDTH) -> Int[np.ndarray, "k 2"]:
    """Cells of an even sparse grid, `count` along each axis, that lie inside the region and off its name.

    At least one cell for a region that is not empty; on fine grids none on its edge.
    """
    rows, columns = (((np.arange(count) + 0.5) * size / count).astype(int) for size in region.shape)
    sparse = np.zeros(region.shape, bool)
    sparse[np.ix_(rows, columns)] = True
    sparse &= _eroded(np.pad(region, 1, "edge"))[1:-1, 1:-1] if min(region.shape) > 2 * count else region
    named = name_cell(region, half_width)
    if named is not None:
        row, column = np.indices(region.shape)
        far = abs(row - named[0]) > NAME_HEIGHT * region.shape[0]
        sparse &= far | (abs(column - named[1]) > half_width * region.shape[1])
    if not sparse.any() and region.any():
        sparse[deepest(region)[0]] = named is None
    return np.argwhere(sparse)


def boundary_lines(
    codes: Int[np.ndarray, "y x"], x_edges: Float[np.ndarray, " x1"], y_edges: Float[np.ndarray, " y1"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Straight lines along the edges between cells of different codes, x and y of their ends, a nan after each."""
    column, low, high = _runs((codes[:, 1:] != codes[:, :-1]).T)
    row, left, right = _runs(codes[1:] != codes[:-1])
    gap = np.full(len(column) + len(row), np.nan)
    start = np.concatenate([x_edges[column + 1], x_edges[left]]), np.concatenate([y_edges[low], y_edges[row + 1]])
    stop = np.concatenate([x_edges[column + 1], x_edges[right]]), np.concatenate([y_edges[high], y_edges[row + 1]])
    x, y = (np.stack([a, b, gap], axis=1).ravel() for a, b in zip(start, stop, strict=True))
    return x, y


def _runs(flags: Bool[np.ndarray, "lines k"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of true along each line: the line, the first cell, and the one after the last."""
    change = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(int), axis=1)
    line, first = np.nonzero(change == 1)
    return line, first, np.nonzero(change == -1)[1]
