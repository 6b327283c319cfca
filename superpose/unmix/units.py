"""What units, neurons or latents, have to do with features; and how many features a unit stands for, as a number."""

import numpy as np
from jaxtyping import Float


def features_per_unit(
    s: Float[np.ndarray, "samples units"], x: Float[np.ndarray, "samples n"]
) -> Float[np.ndarray, " units"]:
    """The effective number of features in each unit: `(sum_t a_t)^2 / sum_t a_t^2`, `a_t = cov(s, x_t)^2 / var x_t`.

    `a_t` is the variance that a line in feature t explains. So 1 is a monosemantic unit, n one in which all features have an equal
    part; nan for a unit that does not vary. Features that never are active do not count.

    Args:
        s: units in samples, neurons `h` or latents `z`.
        x: true features.
    """
    s, x = s - s.mean(0), x - x.mean(0)
    variance = (x**2).mean(0)
    a = np.where(variance > 0, (s.T @ x / len(x)) ** 2 / np.where(variance > 0, variance, 1), 0)
    squares = (a**2).sum(1)
    return np.where(squares > 0, a.sum(1) ** 2 / np.where(squares > 0, squares, 1), np.nan)


def correlation(s: Float[np.ndarray, "samples units"], x: Float[np.ndarray, "samples n"]) -> Float[np.ndarray, "units n"]:
    """Of each unit with each feature; 0 where one of them does not vary."""
    s, x = s - s.mean(0), x - x.mean(0)
    sizes = np.sqrt(np.outer((s**2).sum(0), (x**2).sum(0)))
    return np.where(sizes > 0, s.T @ x / np.where(sizes > 0, sizes, 1), 0)
