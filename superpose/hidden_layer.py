"""Models with a nonlinear hidden layer, whose neurons are a privileged basis: `h = f(W_in x)`, `x' = g(W_out h + b)`.

Tied weights are the toy model's own `Params`, `W_in = W` and `W_out = W^T`: `h = r(W x)`, `x' = r(W^T h + b)`. `Untied`
weights may compute something other than the input itself, such as its absolute value. `W_in` has shape (m, n), its column i
the direction of feature i and its row k what neuron k reads; `W_out` has shape (n, m), its column k what neuron k writes.

Activations and targets are functions of one array, taken elementwise: `jax.nn.relu`, `jax.nn.gelu`, `jnp.square`, `jnp.abs`.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "Superposition in a Privileged Basis" and "Computation in
Superposition".
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key

from superpose.toy_model import Params

Elementwise = Callable[[Array], Array]


@struct.dataclass
class Untied:
    """Weights `W_in`, shape `(m, n)`, and `W_out`, shape `(n, m)`, of their own; biases `b` of the outputs, `(n,)`."""

    W_in: Array
    W_out: Array
    b: Array


def identity(x: Array) -> Array:
    """`x`: the activation of a linear layer, the target of a model that is to give back its input."""
    return x


def init(key: Key[Array, ""], *, n: int, m: int, scale: float = 1.0) -> Untied:
    """Random start of an untied model: entries `N(0, scale^2 / m)`, so directions have length about `scale`; `b = 0`.

    A tied model starts from `toy_model.init`. Here m may exceed n.

    Raises:
        ValueError: unless n >= 1 and m >= 1.
    """
    if n < 1 or m < 1:
        raise ValueError(f"m = {m}, n = {n}: needs both at least 1")
    key_in, key_out = jax.random.split(key)
    size = scale / m**0.5
    W_in, W_out = size * jax.random.normal(key_in, (m, n)), size * jax.random.normal(key_out, (n, m))
    return Untied(W_in=W_in, W_out=W_out, b=jnp.zeros(n))


def hidden(params: Params | Untied, x: Float[Array, " n"], *, activation: Elementwise = jax.nn.relu) -> Float[Array, " m"]:
    """`h = f(W_in x)`, what the neurons hold, shape `(m,)`."""
    return activation((params.W if isinstance(params, Params) else params.W_in) @ x)


def reconstruct(
    params: Params | Untied,
    x: Float[Array, " n"],
    *,
    activation: Elementwise = jax.nn.relu,
    output: Elementwise = jax.nn.relu,
) -> Float[Array, " n"]:
    """`x' = g(W_out f(W_in x) + b)` for one input; f is `activation`, g `output`."""
    W_out = params.W.T if isinstance(params, Params) else params.W_out
    return output(W_out @ hidden(params, x, activation=activation) + params.b)


def loss(
    params: Params | Untied,
    x: Float[Array, " n"],
    importance: Float[Array, " n"] | Float[Array, ""] | float = 1.0,
    *,
    activation: Elementwise = jax.nn.relu,
    output: Elementwise = jax.nn.relu,
    target: Elementwise = identity,
    l1: Float[Array, ""] | float = 0.0,
) -> Float[Array, ""]:
    """`sum_i importance_i (t(x)_i - x'_i)^2 + l1 sum_k |h_k|` at one input; t is `target`.

    `train.fit(..., loss=loss)` trains on it; with other keywords, on `functools.partial(loss, ...)`, made once. With
    `activation=identity` and tied weights it is `toy_model.loss` with a penalty.

    Args:
        params: tied or untied weights.
        x: one input, shape `(n,)`.
        importance: weight of each feature, scalar or `(n,)`, >= 0.
        activation: of the hidden layer.
        output: activation of the outputs.
        target: what the outputs are to be.
        l1: weight of the penalty on the hidden layer, >= 0.
    """
    h = hidden(params, x, activation=activation)
    error = target(x) - reconstruct(params, x, activation=activation, output=output)
    return jnp.sum(importance * error**2) + l1 * jnp.sum(jnp.abs(h))


def absolute_value(n: int) -> Untied:
    """`|x_i| = r(x_i) + r(-x_i)`: two neurons a feature, no error; `m = 2n`, neurons 2i and 2i + 1 serve feature i.

    Raises:
        ValueError: unless n >= 1.

    Reference: Elhage et al. 2022, "Computation in Superposition".
    """
    if n < 1:
        raise ValueError(f"n = {n}: needs at least 1")
    W_out = jnp.repeat(jnp.eye(n), 2, axis=1)
    signs = jnp.tile(jnp.array([1.0, -1.0]), n)
    return Untied(W_in=signs[:, None] * W_out.T, W_out=W_out, b=jnp.zeros(n))
