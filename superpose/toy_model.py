"""The toy model of superposition: n features through m hidden dimensions and back, `x' = f(W^T W x + b)`.

`W` has shape `(m, n)`; its column `W[:, i]` is the direction of feature i. `f` is ReLU or the identity.

Reference: Elhage et al. 2022, "Toy Models of Superposition", section 2.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key


@struct.dataclass
class Params:
    """Weights `W`, shape `(m, n)`, column i the direction of feature i; and biases `b`, shape `(n,)`."""

    W: Array
    b: Array


def init(key: Key[Array, ""], *, n: int, m: int, scale: float = 1.0) -> Params:
    """Random start of one model: `W_ij ~ N(0, scale^2 / m)`, so columns have length about `scale`; `b = 0`.

    Raises:
        ValueError: unless 1 <= m <= n.
    """
    if not 1 <= m <= n:
        raise ValueError(f"m = {m}, n = {n}: needs 1 <= m <= n")
    return Params(W=scale * jax.random.normal(key, (m, n)) / jnp.sqrt(m), b=jnp.zeros(n))


def reconstruct(params: Params, x: Float[Array, " n"], *, output: str = "relu") -> Float[Array, " n"]:
    """`x' = f(W^T W x + b)` for one input `x`, with `output` "relu" (`f(y) = max(y, 0)`) or "linear" (`f(y) = y`)."""
    if output not in ("relu", "linear"):
        raise ValueError(f"output = {output!r}: needs 'relu' or 'linear'")
    y = params.W.T @ (params.W @ x) + params.b
    return jax.nn.relu(y) if output == "relu" else y


def loss(
    params: Params,
    x: Float[Array, " n"],
    importance: Float[Array, " n"] | Float[Array, ""] | float = 1.0,
    *,
    output: str = "relu",
) -> Float[Array, ""]:
    """`sum_i importance_i (x_i - x'_i)^2` at one input: its mean over draws is the sampled loss."""
    return jnp.sum(importance * (x - reconstruct(params, x, output=output)) ** 2)
