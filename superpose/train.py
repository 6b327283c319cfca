"""Sampled training: gradient steps on fresh batches, the second and independent route to a solution.

Every function works on one model; callers `vmap` over models and restarts. A model's key comes from its
coordinates (`model_key`), a step's from the model's and the step's number, so no result depends on what runs
beside it, nor on how a run is cut into pieces. Weight decay shifts phase boundaries: the default has none.

The model is the toy model, unless `loss` brings another: then `params` is any flax dataclass with a field `b` of one bias an
output, shape (n,), and `loss(params, x, importance)` the loss at one input, such as `hidden_layer.loss`. A loss is static:
made once and used again, as a new one compiles anew. What is to vary from model to model goes into `importance`, which such a
loss may read as it likes, a tuple for example.

Reference: Elhage et al. 2022, "Toy Models of Superposition"; fresh batches of 1,024 and rate 1e-3 are the
authors', whose AdamW also decays: `optimizer=optax.adamw(1e-3, weight_decay=0.01)`.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key

from superpose import features

ADAM = optax.adam(1e-3)
"""The default optimiser: Adam, rate 1e-3, no weight decay."""

Loss = Callable[[Any, Array, Any], Array]
"""A loss at one input: of the parameters, the input `(n,)` and the importance."""


@struct.dataclass
class Fit:
    """A training run so far, and what it needs to go on.

    Args:
        params: the weights after the latest step, as the start.
        optimizer_state: what the optimiser carries from step to step.
        losses: the batch loss before each step of the latest call, shape `(steps,)`.
    """

    params: Any
    optimizer_state: Any
    losses: Array


def model_key(key: Key[Array, ""], *coordinates: int | Int[Array, ""]) -> Key[Array, ""]:
    """The key of the model at integer coordinates (row, column, restart, ...): `fold_in` of each in turn."""
    return reduce(jax.random.fold_in, coordinates, key)


def fit(
    key: Key[Array, ""],
    start: Any,
    distribution: features.Distribution,
    importance: Any = 1.0,
    done: int | Int[Array, ""] | None = None,
    *,
    steps: int,
    batch: int = 1024,
    optimizer: optax.GradientTransformation = ADAM,
    output: str = "relu",
    loss: Loss | None = None,
) -> Fit:
    """Take `steps` steps on the mean of `sum_i importance_i (x_i - x'_i)^2` over `batch` fresh inputs each.

    From parameters it begins; from a `Fit` it goes on, and with the same other arguments two calls give the
    bits of one. Step t, counted from the beginning, draws with `fold_in(key, t)`. `vmap` with axis None for
    `key` (and for `done`) trains all models on the same random numbers, which are then drawn only once.

    Args:
        key: the model's own, see `model_key`; not the one that drew its initial weights.
        start: initial weights, or the result to go on from.
        distribution: of the features.
        importance: weight of each feature in the loss, `(n,)` or scalar, >= 0; or what `loss` takes.
        done: number of steps already taken, over all calls; needed to go on.
        steps: number of steps of this call, >= 1. A new value compiles anew.
        batch: inputs per step, >= 1.
        optimizer: an optax transformation, made once and used again: a new one compiles anew.
        output: "relu" or "linear", of the toy model.
        loss: of another model; None is `toy_model.loss`.

    Raises:
        ValueError: `steps` or `batch` below 1, a `Fit` without `done`, an unknown `output`, parameters without
            biases, or a distribution that does not fit n.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: needs at least 1")
    if isinstance(start, Fit) and done is None:
        raise ValueError("done = None: needs the number of steps already taken, to go on from a Fit")
    _check(start.params if isinstance(start, Fit) else start, distribution, batch, output)
    if not isinstance(start, Fit):
        start = _begin(start, optimizer, varied=(key, start, distribution, importance))
    first = jnp.asarray(0 if done is None else done, jnp.int32)
    static = {"steps": steps, "batch": batch, "optimizer": optimizer, "output": output, "loss": loss}
    return _fit(key, start.params, start.optimizer_state, first, distribution, importance, **static)


def sampled_loss(
    key: Key[Array, ""],
    params: Any,
    distribution: features.Distribution,
    importance: Any = 1.0,
    *,
    draws: int,
    batch: int = 4096,
    output: str = "relu",
    loss: Loss | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean of `sum_i importance_i (x_i - x'_i)^2` over `draws` inputs, and its standard error.

    The error is `s / sqrt(draws)`, s the sample's standard deviation. Memory is that of one batch; batches
    are merged by their means and centred squares, so no large numbers cancel.

    Args:
        key: not the one the model was trained with, whose draws it would see again.
        params: the model's weights.
        distribution: of the features.
        importance: weight of each feature in the loss, `(n,)` or scalar, >= 0; or what `loss` takes.
        draws: number of inputs, >= 2.
        batch: inputs held at once, >= 1; it decides which inputs are drawn.
        output: "relu" or "linear", of the toy model.
        loss: of another model; None is `toy_model.loss`.

    Returns:
        Mean and standard error, scalars >= 0.

    Raises:
        ValueError: `draws` below 2, `batch` below 1, an unknown `output`, or a distribution that does not fit n.

    Reference: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
    """
    if draws < 2:
        raise ValueError(f"draws = {draws}: needs at least 2, for a standard error")
    _check(params, distribution, batch, output)
    return _sampled_loss(key, params, distribution, importance, draws=draws, batch=batch, output=output, loss=loss)


@partial(jax.jit, static_argnames=("steps", "batch", "optimizer", "output", "loss"))
def _fit(key, params, state, first, distribution, importance, *, steps, batch, optimizer, output, loss) -> Fit:
    def batch_loss(params, t):
        x = _inputs(key, t, params, distribution, batch)
        return jnp.mean(_losses(params, x, importance, output, loss))

    def step(t, carry):
        params, state, losses = carry
        value, gradient = jax.value_and_grad(batch_loss)(params, t)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, losses.at[t - first].set(value)

    # All calls must compile alike, or they round differently: the compiler must not see a loop of one step (hence
    # the barrier), and indices into an array of one or two become something simpler (hence two more than needed).
    first, last = jax.lax.optimization_barrier((first, first + steps))
    carry = (params, state, jnp.zeros(steps + 2, params.b.dtype))
    params, state, losses = jax.lax.fori_loop(first, last, step, carry)
    return Fit(params, state, losses[:steps])


def _begin(params: Any, optimizer: optax.GradientTransformation, *, varied: Any) -> Fit:
    """The run at step 0, each of its arrays mapped by `vmap` if anything in `varied` is.

    They will be when it goes on, and a call that maps fewer compiles to code that rounds differently.
    """
    flags = [jnp.ravel(leaf)[0] == jnp.ravel(leaf)[0] for leaf in jax.tree.leaves(varied)]
    mapped = reduce(jnp.logical_and, flags)
    state = (params, optimizer.init(params))
    params, state = jax.tree.map(lambda a: jnp.where(mapped, a, a), state)
    return Fit(params, state, jnp.zeros(0))


@partial(jax.jit, static_argnames=("draws", "batch", "output", "loss"))
def _sampled_loss(key, params, distribution, importance, *, draws, batch, output, loss) -> tuple[Array, Array]:
    def merge(so_far, chunk):
        total, mean, squares = so_far
        t, count = chunk
        x = _inputs(key, t, params, distribution, batch)
        losses = _losses(params, x, importance, output, loss)
        counted = jnp.arange(batch) < count
        here = jnp.sum(jnp.where(counted, losses, 0)) / count
        centred = jnp.sum(jnp.where(counted, (losses - here) ** 2, 0))
        share = count / (total + count)
        squares += centred + (here - mean) ** 2 * total * share
        return (total + count, mean + (here - mean) * share, squares), None

    chunks = np.arange(-(-draws // batch))
    counts = jnp.asarray(np.minimum(batch, draws - batch * chunks), params.b.dtype)
    zero = jnp.zeros((), params.b.dtype)
    (_, mean, squares), _ = jax.lax.scan(merge, (zero, zero, zero), (jnp.asarray(chunks), counts))
    return mean, jnp.sqrt(squares / (draws - 1) / draws)


def _check(params: Any, distribution: features.Distribution, batch: int, output: str) -> None:
    if batch < 1:
        raise ValueError(f"batch = {batch}: needs at least 1")
    if len(getattr(getattr(params, "b", None), "shape", ())) != 1:
        raise ValueError(f"params = {type(params).__name__}: needs a field b of shape (n,)")
    if output not in ("relu", "linear"):
        raise ValueError(f"output = {output!r}: needs 'relu' or 'linear'")
    features.check(distribution, n=params.b.shape[0])


def _inputs(
    key: Key[Array, ""], t: Int[Array, ""], params: Any, distribution: features.Distribution, batch: int
) -> Float[Array, "n batch"]:
    """Batch t of inputs, one a column.

    Independent features are one long input cut up: a single key, several times as fast as a key an input. On a CPU, XLA would
    fuse the draws into all that uses them and so repeat them; into a branch it does not reach, here of a condition always true.
    """
    n = params.b.shape[0]

    def draw(key: Key[Array, ""]) -> Array:
        if isinstance(distribution, features.Sparse):
            long = type(distribution)(jnp.repeat(features.density(distribution, n=n), batch))
            return features.sample(key, long, n=n * batch).reshape(n, batch).astype(params.b.dtype)
        keys = jax.random.split(key, batch)
        x = jax.vmap(lambda k: features.sample(k, distribution, n=n), out_axes=1)(keys)
        return x.astype(params.b.dtype)

    def branch(key: Key[Array, ""]) -> Array:
        return jax.lax.cond(t >= 0, draw, lambda _: jnp.zeros((n, batch), params.b.dtype), key)

    return jax.lax.platform_dependent(jax.random.fold_in(key, t), cpu=branch, default=draw)


def _losses(
    params: Any, x: Float[Array, "n batch"], importance: Any, output: str, loss: Loss | None
) -> Float[Array, " batch"]:
    """The loss of each column; `toy_model.loss` with the batch last, up to six times as fast as its `vmap`."""
    if loss is not None:
        return jax.vmap(loss, in_axes=(None, 1, None))(params, x, importance)
    y = params.W.T @ (params.W @ x) + params.b[:, None]
    error = x - (jax.nn.relu(y) if output == "relu" else y)
    weights = jnp.broadcast_to(jnp.asarray(importance, error.dtype), params.b.shape)
    return jnp.sum(weights[:, None] * error**2, axis=0)
