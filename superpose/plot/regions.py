"""Regions of a grid of labels: where inside one to put its name and its symbols."""

import numpy as np
from jaxtyping import Bool, Int

LEAST_DEPTH = 0.11  # of the shorter side of the grid: how far from its edge a region must reach to be named
NAME_WIDTH, NAME_HEIGHT = 0.15, 0.065  # of the grid: how far from a name's middle symbols are left out


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


def name_cell(region: Bool[np.ndarray, "y x"]) -> tuple[int, int] | None:
    """Where to write a region's name; None where it has no room."""
    if not region.any():
        return None
    cell, depth = deepest(region)
    return cell if depth > LEAST_DEPTH * min(region.shape) else None


def symbol_cells(region: Bool[np.ndarray, "y x"], *, count: int) -> Int[np.ndarray, "k 2"]:
    """Cells of an even sparse grid, `count` along each axis, that lie inside the region and off its name.

    At least one cell for a region that is not empty; on fine grids none on its edge.
    """
    rows, columns = (((np.arange(count) + 0.5) * size / count).astype(int) for size in region.shape)
    sparse = np.zeros(region.shape, bool)
    sparse[np.ix_(rows, columns)] = True
    sparse &= _eroded(np.pad(region, 1, "edge"))[1:-1, 1:-1] if min(region.shape) > 2 * count else region
    named = name_cell(region)
    if named is not None:
        row, column = np.indices(region.shape)
        far = abs(row - named[0]) > NAME_HEIGHT * region.shape[0]
        sparse &= far | (abs(column - named[1]) > NAME_WIDTH * region.shape[1])
    if not sparse.any() and region.any():
        sparse[deepest(region)[0]] = named is None
    return np.argwhere(sparse)
