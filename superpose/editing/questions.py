"""The four questions: can concepts be read, a computation traced, one concept edited without others, its absence verified?

Each has a number for each concept and each kind of handle (`superpose.editing.handles`), from samples, 1 at best:

- **read**: `corr(s_t, x_t)^2`, the share of the concept's variance that a line through its handle explains.
- **traced**: `1 - E |W^T (W_t x_t - v_t s_t)|^2 / E |W^T W_t x_t|^2`, how well `v_t s_t` accounts for what concept t adds to all
  outputs' pre-activations; 0 is as good as nothing, and below is worse.
- **edited**: `1 - E |x'(h - v_t s_t) - x*|^2 / E |x' - x*|^2`, x* the outputs if x_t were 0: how near an ablation comes to that,
  collateral counted; 0 is as good as no edit.
- **verified**: `1 - E [x_t^2; s_t <= a] / E x_t^2`, where a is what 95 % of the samples without the concept stay below: how little
  of the concept can hide where its handle says that it is absent.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from superpose.editing.handles import Handles
from superpose.toy_model import Params

ALARMS = 0.05
"""Share of the samples without a concept in which its handle may say that it is there."""
SURE = 1.645
"""Standard errors above an estimate that it stays below with 95 % probability."""


@struct.dataclass
class Answers:
    """(n,) each: `read`, `traced`, `edited`, `verified` as above, nan for a concept that never is active.

    `hidden_at_most`: `1 - verified` and 1.645 standard errors: with 95 % confidence no larger share hides below this a.
    """

    read: Array
    traced: Array
    edited: Array
    verified: Array
    hidden_at_most: Array


@jax.jit
def answers(params: Params, x: Float[Array, "samples n"], handles: Handles) -> Answers:
    """Answer all four for each concept.

    Args:
        params: of the toy model, which reads `x' = r(W^T h + b)` from `h = W x`.
        x: true features of the samples.
        handles: on each concept, with their sizes in these samples.
    """
    there = jnp.any(x != 0, axis=0)
    verified, error = verification(x, handles)

    def known(score: Array) -> Array:
        return jnp.where(there, score, jnp.nan)

    return Answers(
        read=known(reading(x, handles)),
        traced=known(tracing(params, x, handles)),
        edited=known(ablating(params, x, handles)),
        verified=known(verified),
        hidden_at_most=known(jnp.minimum(1 - verified + SURE * error, 1)),
    )


def reading(x: Float[Array, "samples n"], handles: Handles) -> Float[Array, " n"]:
    """`corr(s_t, x_t)^2`; 0 where the handle does not move."""
    x, s = (a - jnp.mean(a, axis=0)[None] for a in (x, handles.sizes))
    both = jnp.sum(x**2, axis=0) * jnp.sum(s**2, axis=0)
    return jnp.where(both > 0, jnp.sum(x * s, axis=0) ** 2 / jnp.where(both > 0, both, 1), 0)


def tracing(params: Params, x: Float[Array, "samples n"], handles: Handles) -> Float[Array, " n"]:
    """`1 - E |W^T (W_t x_t - v_t s_t)|^2 / E |W^T W_t x_t|^2`."""
    W, v = params.W, handles.directions
    own, written = W.T @ W, W.T @ v
    xx, xs, ss = (jnp.mean(a * b, axis=0) for a, b in ((x, x), (x, handles.sizes), (handles.sizes, handles.sizes)))
    truth = jnp.sum(own**2, axis=0) * xx
    apart = truth - 2 * jnp.sum(own * written, axis=0) * xs + jnp.sum(written**2, axis=0) * ss
    return 1 - apart / jnp.where(truth > 0, truth, jnp.nan)


def ablating(params: Params, x: Float[Array, "samples n"], handles: Handles) -> Float[Array, " n"]:
    """`1 - E |x'(h - v_t s_t) - x*|^2 / E |x' - x*|^2`, concept by concept."""
    W = params.W
    y = x @ (W.T @ W) + params.b[None]
    before = jax.nn.relu(y)

    def one(t: Array) -> Array:
        after = jax.nn.relu(y - jnp.outer(handles.sizes[:, t], W.T @ handles.directions[:, t]))
        aim = jax.nn.relu(y - jnp.outer(x[:, t], W.T @ W[:, t]))
        moved = jnp.sum((before - aim) ** 2)
        return 1 - jnp.sum((after - aim) ** 2) / jnp.where(moved > 0, moved, jnp.nan)

    return jax.lax.map(one, jnp.arange(W.shape[1]))


def verification(x: Float[Array, "samples n"], handles: Handles) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """`1 - E [x_t^2; s_t <= a_t] / E x_t^2` and its standard error (that of a ratio, to first order)."""
    absent = jnp.where(x == 0, handles.sizes, jnp.nan)
    threshold = jnp.nan_to_num(jnp.nanquantile(absent, 1 - ALARMS, axis=0), nan=-jnp.inf)
    silent = handles.sizes <= threshold[None]
    energy = jnp.mean(x**2, axis=0)
    energy = jnp.where(energy > 0, energy, jnp.nan)
    hidden = jnp.mean(x**2 * silent, axis=0) / energy
    spread = x**2 * (silent - hidden[None]) / energy[None]
    return 1 - hidden, jnp.std(spread, axis=0) / np.sqrt(len(x))


def summary(found: Answers) -> dict[str, float]:
    """The mean of each answer over the concepts that ever are active."""
    return {name: float(jnp.nanmean(value)) for name, value in vars(found).items()}
