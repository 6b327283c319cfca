"""Every support in turn: what is best at all, for features few enough to list their supports.

`h = D x + e`, the noise e normal with standard deviation `noise` in each dimension; features are independent, each on with
probability `density`. For binary features, 0 or 1, the posterior is a sum over supports, so the mean `E[x | h]` is exact, and no
encoder has a smaller squared error. For other magnitudes it has no closed form; there the best code with an L0 penalty is exact.
"""

from functools import cache
from itertools import combinations
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from superpose.sae.ladder.inputs import check, check_density, check_number
from superpose.sae.ladder.lasso import columns, scattered, solved

LISTED = 100_000
"""Supports that are listed at most."""


@struct.dataclass
class Posterior:
    """Of binary features, given h.

    `mean` (n,): `E[x | h]`, which is also the probability that each is on. `best` (n,): the most probable x. `left_out`: prior
    probability of the supports that are not listed.
    """

    mean: Array
    best: Array
    left_out: Array


@cache
def supports(n: int, most: int) -> np.ndarray:
    """Supports of at most `most` of n features, `(count, most)`: numbers of the features, n in empty places, fewest first.

    Raises:
        ValueError: `most` out of range, or more than 100,000 supports.
    """
    if not 1 <= most <= n:
        raise ValueError(f"most = {most}: needs at least 1 and at most n = {n}")
    count = sum(comb(n, k) for k in range(most + 1))
    if count > LISTED:
        raise ValueError(f"most = {most}: gives {count} supports of n = {n} features, needs at most {LISTED}")
    every = [(*s, *[n] * (most - k)) for k in range(most + 1) for s in combinations(range(n), k)]
    return np.array(every).reshape(count, most)


def posterior(
    D: Float[Array, "m n"],
    h: Float[Array, " _"],
    density: Float[Array, " n"] | Float[Array, ""] | float,
    noise: Float[Array, ""] | float,
    *,
    most: int | None = None,
) -> Posterior:
    """`E[x | h] = sum_x x P(x) N(h; D x, noise^2 I) / sum_x P(x) N(h; D x, noise^2 I)` over x in {0, 1}^n with at most `most` ones.

    Exact if all supports are listed; otherwise as exact as `left_out` is small against `P(h)`.

    Args:
        D: directions of the features, in columns.
        h: one activation, shape (m,).
        density: probability that each is on, in (0, 1).
        noise: standard deviation, > 0.
        most: features on at most. None: all.

    Raises:
        ValueError: shapes that do not fit, `h` with nan or inf, numbers out of range, or more than 100,000 supports.
    """
    index, prior = _prior(D, h, density, noise, most)
    on = jnp.zeros((len(index), D.shape[1] + 1), h.dtype).at[jnp.arange(len(index))[:, None], index].set(1)[:, :-1]
    with jax.default_matmul_precision("highest"):
        means = on @ D.T
        weight = jax.nn.softmax(prior + (means @ h - jnp.sum(means**2, axis=1) / 2) / noise**2)
        return Posterior(weight @ on, on[jnp.argmax(weight)], jnp.maximum(1 - jnp.sum(jnp.exp(prior)), 0))


def best_code(
    D: Float[Array, "m n"],
    h: Float[Array, " _"],
    density: Float[Array, " n"] | Float[Array, ""] | float,
    noise: Float[Array, ""] | float,
    *,
    most: int,
) -> Float[Array, " n"]:
    """The x >= 0 with at most `most` active features that minimises `|h - D x|^2 / (2 noise^2) - log P(support of x)`.

    The most probable support and magnitudes together, where all magnitudes >= 0 are equally likely; a limit such as 1 is not kept.
    Only supports whose least-squares codes are all positive count: in others a code would be 0, and a smaller support is then
    likelier, as densities are below 1/2. Without noise, take a small one: the smallest support that writes h wins.

    Args:
        D: directions of the features, in columns; any `most` of them linearly independent, so `most <= m`.
        h: one activation, shape (m,).
        density: probability that each is on, in (0, 1/2).
        noise: standard deviation, > 0.
        most: features on at most, from 1 to min(m, n).

    Raises:
        ValueError: as `posterior`, a density of 1/2 or more, or `most` above m.
    """
    check_density(density, below=0.5)
    index, prior = _prior(D, h, density, noise, most)
    if most > D.shape[0]:
        raise ValueError(f"most = {most}: needs at most m = {D.shape[0]}, or codes of a support are not unique")

    def of(one: Array, B: Array, inverse: Array) -> tuple[Array, Array]:
        x = inverse @ h
        return x, jnp.where(jnp.all((x > 0) | (one == D.shape[1])), jnp.sum((h - B @ x) ** 2), jnp.inf)

    with jax.default_matmul_precision("highest"):
        B = jax.vmap(lambda one: columns(D, one))(index)
        inverse = jax.vmap(lambda one, B: solved(B, B.T, one == D.shape[1]))(index, B)
        x, error = jax.vmap(of)(index, B, inverse)
        best = jnp.argmax(prior - error / (2 * noise**2))
        return scattered(x[best], index[best], D.shape[1])


def _prior(D: Array, h: Array, density: Array | float, noise: Array | float, most: int | None) -> tuple[Array, Array]:
    """The supports, and the log of each one's probability."""
    check(D, h)
    n = D.shape[1]
    check_number("noise", noise, above=True)
    check_density(density)
    index = jnp.asarray(supports(n, n if most is None else most))
    p = jnp.broadcast_to(jnp.asarray(density, h.dtype), (n,))
    odds = jnp.append(jnp.log(p) - jnp.log1p(-p), 0)
    return index, jnp.sum(jnp.log1p(-p)) + jnp.sum(odds[index], axis=1)
