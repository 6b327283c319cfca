"""What the loss is made of: its parts with no, one, two, ... features active.

With independent features, `L = sum_k P(|A| = k) E[loss | |A| = k]`, A the set of active features. The parts of k = 0 and 1 are
closed forms; those of k >= 2 are sampled with k held fixed, so that a rare k is known as well as a frequent one. (The whole
loss is a polynomial in the density with these parts for coefficients, but to read them off it is ill-conditioned.)

Reference: Elhage et al. 2022, "Toy Models of Superposition", section 2: the one-active part is a generalised Thomson problem.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from superpose import features, toy_model
from superpose.expected_loss import low_order
from superpose.expected_loss.groups import groups_of
from superpose.expected_loss.shares import idle_shares


class Parts(NamedTuple):
    """By number k = 0 .. most of active features, each of shape `(most + 1,)`.

    `probability` of k; `loss`, the part `P(k) E[loss | k]`, and its standard error `sem`, 0 where exact. What the parts lack of
    `expected_loss.relu_output` is the loss with more than `most` active.
    """

    probability: Array
    loss: Array
    sem: Array


def loss_by_active(
    key: Key[Array, ""],
    params: toy_model.Params,
    distribution: features.Distribution,
    importance: Float[Array, " n"] | Float[Array, ""] | float = 1.0,
    *,
    most: int = 4,
    draws: int = 10_000,
) -> Parts:
    """Split the ReLU model's population loss by the number of active features.

    Args:
        key: for the sampled parts.
        params: `W` (m, n), `b` (n,).
        distribution: independent features.
        importance: weight of each feature, scalar or `(n,)`, >= 0.
        most: largest number of active features to tell apart, in 1 .. n.
        draws: inputs for each k >= 2, at least 2.

    Raises:
        ValueError: coupled features, or `most` or `draws` out of range.
    """
    n = params.b.shape[0]
    if not isinstance(distribution, features.Sparse):
        raise ValueError(f"distribution = {type(distribution).__name__}: needs independent features")
    if not 1 <= most <= n:
        raise ValueError(f"most = {most}: needs to lie in 1 .. n = {n}")
    if draws < 2:
        raise ValueError(f"draws = {draws}: needs at least 2, for a standard error")
    groups = groups_of(distribution, n=n, dtype=params.b.dtype)
    gram = params.W.T @ params.W
    few = idle_shares(groups, gram)
    none = jnp.sum(importance * few.whole * jnp.maximum(params.b, 0) ** 2)
    low = low_order.low_order(groups, distribution.magnitude, few, gram, params.b)
    exact = jnp.stack([none, jnp.sum(importance * low) - none])
    counts = _counts(groups.density, most=most)
    mean, sem = _sampled(key, params, distribution, importance, counts, most=most, draws=draws)
    probability = counts[0] * jnp.max(groups.density) ** jnp.arange(most + 1)
    loss = jnp.concatenate([exact, probability[2:] * mean])
    return Parts(probability, loss, jnp.concatenate([jnp.zeros(2, loss.dtype), probability[2:] * sem]))


def sample_active(key: Key[Array, ""], p: Float[Array, " n"], k: int | Array, *, most: int) -> Bool[Array, " n"]:
    """Which features are active, given that exactly `k <= most` of them are; each by itself with probability `p_i`.

    One feature after the other: with r still to come, feature i is active with probability `p_i Q_{i+1, r-1} / Q_{i, r}`,
    `Q_{i, r}` the probability of r active ones among i .. n-1. `k` must be possible.
    """
    return _active(key, p, _counts(p, most=most), k)


def _counts(p: Float[Array, " n"], *, most: int) -> Float[Array, "_ _"]:
    """`Q_{i, r} / max(p)^r` for i = 0 .. n, r = 0 .. most: so scaled that small densities do not underflow."""
    share = p / jnp.max(p)

    def back(row: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        on, off = at
        row = off * row + on * jnp.concatenate([jnp.zeros_like(row[:1]), row[:-1]])
        return row, row

    empty = jnp.zeros(most + 1, p.dtype).at[0].set(1)
    _, rows = jax.lax.scan(back, empty, (share, 1 - p), reverse=True)
    return jnp.concatenate([rows, empty[None]])


def _active(key: Key[Array, ""], p: Array, counts: Float[Array, "_ _"], k: int | Array) -> Bool[Array, " n"]:
    def choose(left: Array, at: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        share, here, following, v = at
        on = (left > 0) & (v * here[left] < share * following[jnp.maximum(left - 1, 0)])
        return left - on, on

    each = (p / jnp.max(p), counts[:-1], counts[1:], jax.random.uniform(key, p.shape, p.dtype))
    return jax.lax.scan(choose, jnp.asarray(k, jnp.int32), each)[1]


@partial(jax.jit, static_argnames=("most", "draws"))
def _sampled(key, params, distribution, importance, counts, *, most, draws) -> tuple[Array, Array]:
    """Mean loss and standard error for k = 2 .. most."""
    p = features.density(distribution, n=params.b.shape[0]).astype(params.b.dtype)

    def one(key: Key[Array, ""], k: Array) -> Array:
        set_key, size_key = jax.random.split(key)
        size = distribution.magnitude.quantile(jax.random.uniform(size_key, p.shape, p.dtype))
        return toy_model.loss(params, jnp.where(_active(set_key, p, counts, k), size, 0), importance)

    def stratum(k: Array) -> tuple[Array, Array]:
        values = jax.lax.map(lambda key: one(key, k), jax.random.split(jax.random.fold_in(key, k), draws), batch_size=1024)
        return jnp.mean(values), jnp.std(values, ddof=1) / draws**0.5

    return jax.lax.map(stratum, jnp.arange(2, most + 1))
