"""What the losses take: checked before anything is traced."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose import features
from superpose.toy_model import Params

Importance = Float[Array, " n"] | Float[Array, ""] | float

FEWEST = 8
"""Nodes below which a series says nothing."""


def check(params: Params, distribution: features.Distribution, nodes: int) -> None:
    """Raise ValueError unless all of it is one model, a distribution of its n features, and enough nodes."""
    check_kinds(params, distribution)
    if params.W.ndim != 2 or params.b.shape != params.W.shape[1:]:
        raise ValueError(f"W has shape {params.W.shape}, b {params.b.shape}: needs (m, n) and (n,) for one model")
    check_floats(W=params.W, b=params.b)
    check_nodes(nodes)
    features.check(distribution, n=params.b.shape[0])


def check_rows(distribution: features.Distribution, nodes: int, *, sizes: str, **arrays: Array) -> None:
    """Raise ValueError unless two arrays are the weights and biases of pre-activations of its features, and nodes are enough."""
    (name, A), (bias, c) = arrays.items()
    if A.ndim != 2 or c.shape != A.shape[:1]:
        rows = sizes.split(",")[0].strip("(")
        raise ValueError(f"{name} has shape {A.shape}, {bias} {c.shape}: needs {sizes} and ({rows},)")
    check_floats(**arrays)
    check_nodes(nodes)
    features.check(distribution, n=A.shape[1])


def check_floats(**arrays: Array) -> None:
    """Raise ValueError where an array is not of real numbers."""
    for name, x in arrays.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {x.dtype}: needs floats")


def check_nodes(nodes: int) -> None:
    """Raise ValueError where a series has too few nodes."""
    if nodes < FEWEST:
        raise ValueError(f"nodes = {nodes}: needs at least {FEWEST}")


def check_kinds(params: Any, distribution: Any) -> None:
    """Raise ValueError where parameters and distribution are exchanged, or are something else."""
    if not (hasattr(params, "W") and hasattr(params, "b")):
        given = f"params is a {type(params).__name__}, distribution a {type(distribution).__name__}"
        raise ValueError(f"{given}: needs toy_model.Params first, then one of superpose.features")


def check_importance(importance: Importance, n: int) -> None:
    """Raise ValueError unless it is a scalar or one for each feature."""
    if jnp.shape(importance) not in ((), (n,)):
        raise ValueError(f"importance has shape {jnp.shape(importance)}: needs a scalar or ({n},)")
