"""How far two phase diagrams agree: shared cells, the offset of the boundary, and the gap between losses."""

import numpy as np


def agreement(labels: np.ndarray, other: np.ndarray) -> float:
    """Share of cells with the same label, in [0, 1]; two integer arrays of one shape."""
    if labels.shape != other.shape:
        raise ValueError(f"labels have shapes {labels.shape} and {other.shape}: need one grid")
    return float(np.mean(labels == other))


def boundary_offset(boundary: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of two boundaries in decades of importance, `mean |log10(I / I')|`, where both exist.

    Args:
        boundary: importance of the transition at each density, shape `(densities,)`; NaN where there is none.
        other: the same of another diagram.

    Returns:
        Decades, >= 0; NaN if the boundaries share no density.
    """
    gap = np.abs(np.log10(boundary) - np.log10(other))
    return float(np.mean(gap[np.isfinite(gap)])) if np.isfinite(gap).any() else float("nan")


def label_boundary(labels: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Importance at which each row of labels stops being 0 (ignored): the geometric mean of the two cells; NaN if none.

    Args:
        labels: shape `(densities, importances)`.
        importance: ascending, shape `(importances,)`.

    Returns:
        Shape `(densities,)`.
    """
    ignored = np.logical_and.accumulate(labels == 0, axis=1).sum(1)
    inside = (ignored > 0) & (ignored < len(importance))
    step = np.clip(ignored, 1, len(importance) - 1)
    return np.where(inside, np.sqrt(importance[step - 1] * importance[step]), np.nan)


def largest_gap(loss: np.ndarray, other: np.ndarray) -> float:
    """`max (other - loss) / loss` over cells: how far the other diagram's losses lie above these, relative."""
    return float(np.max((other - loss) / loss))
