"""What the rungs refuse, in one line.

Values are checked where they are at hand, which those of arguments are not inside `jit` and `vmap`.
"""

from typing import Any

import numpy as np
from jax.core import Tracer

from superpose import weights


def check_dictionary(D: Any, name: str = "D") -> None:
    """Raise unless D is a finite matrix.

    Raises:
        ValueError: names the columns that are not finite.
    """
    weights.check(D, name)
    if not isinstance(D, Tracer):
        weights.check_finite(np.asarray(D), name)


def check(D: Any, h: Any) -> None:
    """Raise unless D is a finite matrix and h a finite activation of as many rows.

    Raises:
        ValueError: names what does not fit.
    """
    check_dictionary(D)
    if h.shape != D.shape[:1]:
        raise ValueError(f"h has shape {h.shape}: needs (m,) = ({D.shape[0]},), as D has shape {D.shape}")
    if not isinstance(h, Tracer) and not np.all(np.isfinite(h)):
        raise ValueError(f"h holds {np.sum(~np.isfinite(h))} numbers that are not finite: needs none")


def check_number(name: str, x: Any, *, above: bool = False) -> None:
    """Raise if numbers that are at hand are below 0, nan, or with `above` 0.

    Raises:
        ValueError: names the parameter.
    """
    if isinstance(x, Tracer):
        return
    if not np.all(np.asarray(x) > 0 if above else np.asarray(x) >= 0):
        raise ValueError(f"{name} = {x}: needs to be {'above' if above else 'at least'} 0")


def check_density(density: Any, *, below: float = 1.0) -> None:
    """Raise unless densities that are at hand lie between 0 and `below`.

    Raises:
        ValueError: gives the density.
    """
    if isinstance(density, Tracer):
        return
    if not np.all((np.asarray(density) > 0) & (np.asarray(density) < below)):
        raise ValueError(f"density = {density}: needs to lie between 0 and {below}")
