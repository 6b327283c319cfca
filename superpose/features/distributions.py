"""Feature distributions as data: who is active, how often, and how strongly.

A feature is `x_i = s_i u_i`: active (`s_i = 1`) with probability `p_i`, its density, with a magnitude `u_i` from a law of
`magnitudes`. Everything takes densities `p`, never sparsities `S = 1 - p`, which float32 cannot hold near 1.
The plain distributions have independent features; `Together` and `Exclusive` couple them in sets.

Reference: Elhage et al. 2022, "Toy Models of Superposition", sections 2 and 6 (correlated and anticorrelated features).
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Key

from superpose._jax import random_bits
from superpose.features import magnitudes


@struct.dataclass
class Sparse:
    """Independent features, each active with probability `density`; use one of its four laws.

    Args:
        density: probability that a feature is active, in (0, 1]; a scalar, or `(n,)` for one per feature.
    """

    density: Array | float
    magnitude: ClassVar[magnitudes.Magnitude]
    law: str = struct.field(pytree_node=False, default="", repr=False)  # jit takes classes of equal fields for one another


@struct.dataclass
class SparseUniform(Sparse):
    """Magnitudes u ~ U[0, 1]: the distribution of "Toy Models of Superposition"."""

    magnitude: ClassVar = magnitudes.UNIFORM
    law: str = struct.field(pytree_node=False, default="uniform", repr=False)


@struct.dataclass
class SparseBinary(Sparse):
    """Magnitude 1: a feature is on or off."""

    magnitude: ClassVar = magnitudes.BINARY
    law: str = struct.field(pytree_node=False, default="binary", repr=False)


@struct.dataclass
class SparseSymmetric(Sparse):
    """Magnitudes u ~ U[-1, 1]: a feature has a sign."""

    magnitude: ClassVar = magnitudes.SYMMETRIC
    law: str = struct.field(pytree_node=False, default="symmetric", repr=False)


@struct.dataclass
class SparseExponential(Sparse):
    """Magnitudes u ~ Exp(1), of mean 1 and unbounded."""

    magnitude: ClassVar = magnitudes.EXPONENTIAL
    law: str = struct.field(pytree_node=False, default="exponential", repr=False)


@struct.dataclass
class Together:
    """Sets of features that are active all at once or not at all, each with a magnitude of its own.

    Args:
        features: the law; its density is that of a *set*, a scalar or `(number of sets,)`.
        sets: for each of the n features the number of its set, from 0 up: `(0, 0, 1, 1)` is two pairs.
    """

    features: Sparse
    sets: tuple[int, ...] = struct.field(pytree_node=False)
    coupling: str = struct.field(pytree_node=False, default="together", repr=False)


@struct.dataclass
class Exclusive:
    """Sets of features of which at most one is active at a time.

    Args:
        features: the law; its density is that of each feature, a scalar or `(n,)`, adding up to at most 1 in each set.
        sets: for each of the n features the number of its set, from 0 up.
    """

    features: Sparse
    sets: tuple[int, ...] = struct.field(pytree_node=False)
    coupling: str = struct.field(pytree_node=False, default="exclusive", repr=False)


Distribution = Sparse | Together | Exclusive


def magnitude(distribution: Distribution) -> magnitudes.Magnitude:
    """The law of an active feature's size."""
    return distribution.magnitude if isinstance(distribution, Sparse) else distribution.features.magnitude


def check(distribution: Distribution, *, n: int) -> None:
    """Hold what is known of `distribution` at trace time against `n` features.

    Raises:
        ValueError: no distribution of this module; a density or a list of sets whose shape does not fit `n`; or, where the values
            are known, a density outside (0, 1], or exclusive densities that add up to more than 1 in a set.
    """
    if not isinstance(distribution, Distribution):
        given = type(distribution).__name__
        raise ValueError(f"distribution is a {given}: needs one of superpose.features, such as SparseUniform(0.1)")
    law = distribution if isinstance(distribution, Sparse) else distribution.features
    sets = None if isinstance(distribution, Sparse) else distribution.sets
    count = n
    if sets is not None:
        if len(sets) != n or set(sets) != set(range(max(sets, default=-1) + 1)):
            raise ValueError(f"sets = {sets}: needs one set number for each of n = {n} features, from 0 without gaps")
        count = max(sets) + 1 if isinstance(distribution, Together) else n
    if np.shape(law.density) not in ((), (count,)):
        raise ValueError(f"density has shape {np.shape(law.density)}: needs a scalar or ({count},)")
    if isinstance(law.density, Tracer):
        return
    values = np.asarray(law.density)
    if not np.all((values > 0) & (values <= 1)):
        raise ValueError(f"density = {values}: needs to lie in (0, 1]")
    if isinstance(distribution, Exclusive):
        total = np.bincount(distribution.sets, np.broadcast_to(values, (n,)))
        if np.any(total > 1 + 1e-6):
            raise ValueError(f"density adds up to {total} in the sets {sets}: exclusive features need at most 1 a set")


def density(distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """Probability that each feature is active, shape `(n,)`, in (0, 1]."""
    check(distribution, n=n)
    if isinstance(distribution, Together):
        per_set = jnp.asarray(distribution.features.density, float)
        return per_set[np.array(distribution.sets)] if per_set.ndim else jnp.full((n,), per_set)
    law = distribution if isinstance(distribution, Sparse) else distribution.features
    return jnp.broadcast_to(jnp.asarray(law.density, float), (n,))


def mean(distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """`E x_i = p_i E u`, shape `(n,)`."""
    return density(distribution, n=n) * magnitude(distribution).moments[0]


def variance(distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """`Var x_i = p_i E u^2 - (p_i E u)^2`, shape `(n,)`; for uniform magnitudes `p/3 - p^2/4`."""
    return density(distribution, n=n) * magnitude(distribution).moments[1] - mean(distribution, n=n) ** 2


def covariance(distribution: Distribution, *, n: int) -> Float[Array, "n n"]:
    """`Cov(x_i, x_j)`, `(n, n)`: `(E u)^2 p (1 - p)` within a `Together` set, `-(E u)^2 p_i p_j` within an `Exclusive` one."""
    diagonal = jnp.diag(variance(distribution, n=n))
    if isinstance(distribution, Sparse):
        return diagonal
    p = density(distribution, n=n)
    same = np.equal.outer(distribution.sets, distribution.sets) & ~np.eye(n, dtype=bool)
    joint = p[:, None] if isinstance(distribution, Together) else jnp.zeros((n, 1), p.dtype)
    shared = magnitude(distribution).moments[0] ** 2 * (joint - p[:, None] * p[None, :])
    return diagonal + jnp.where(same, shared, 0)


def characteristic_function(distribution: Distribution, t: Float[Array, " n"]) -> Complex[Array, ""]:
    """`E exp(i sum_j t_j x_j)` at one frequency vector `t` of shape `(n,)`.

    Independent features: `prod_j (1 - p_j + p_j psi(t_j))`. `Together`: `prod_s (1 - p_s + p_s prod_{j in s} psi(t_j))`.
    `Exclusive`: `prod_s (1 - sum_{j in s} p_j + sum_{j in s} p_j psi(t_j))`.
    """
    n = t.shape[0]
    p = density(distribution, n=n)
    (psi,) = magnitude(distribution).derivatives(t, 0)
    if isinstance(distribution, Sparse):
        return jnp.prod(1 - p + p * psi)
    member = np.equal.outer(np.arange(max(distribution.sets) + 1), np.array(distribution.sets))
    if isinstance(distribution, Together):
        p_set = jnp.max(jnp.where(member, p[None, :], 0), axis=1)
        return jnp.prod(1 - p_set + p_set * jnp.prod(jnp.where(member, psi[None, :], 1), axis=1))
    return jnp.prod(1 + jnp.sum(jnp.where(member, (p * (psi - 1))[None, :], 0), axis=1))


def sample(key: Key[Array, ""], distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """Draw one input `x` of shape `(n,)`; callers `vmap` over keys for a batch.

    Bounded laws need a single uniform number `v` a feature: active if `v < p`, and then `v / p` is uniform again.
    """
    check(distribution, n=n)
    law = magnitude(distribution)
    v_key, q_key = jax.random.split(key)
    if isinstance(distribution, Sparse):
        p = density(distribution, n=n)
        v = _uniform(v_key, n, p.dtype)
        q = v / p if np.isfinite(law.support[1]) else jax.random.uniform(q_key, (n,), p.dtype)
        return jnp.where(v < p, law.quantile(q), 0)
    active = _active_sets(v_key, distribution, n=n)
    return jnp.where(active, law.quantile(jax.random.uniform(q_key, (n,))), 0)


def _active_sets(key: Key[Array, ""], distribution: Together | Exclusive, *, n: int) -> Array:
    """Which features are active: one uniform number `v` a set decides, shape `(n,)`.

    `Exclusive`: feature i is active from the previous cumulative density of its set up to its own, so that no
    rounding can make two active.
    """
    sets = np.array(distribution.sets)
    p = density(distribution, n=n)
    v = _uniform(key, max(distribution.sets) + 1, p.dtype)[sets]
    if isinstance(distribution, Together):
        return v < p
    up_to = np.equal.outer(sets, sets) & np.tri(n, dtype=bool)  # those of the same set, as far as feature i
    end = jnp.where(up_to, p[None, :], 0).sum(1)
    before = up_to & ~np.eye(n, dtype=bool)
    start = jnp.where(before.any(1), end[n - 1 - np.argmax(before[:, ::-1], axis=1)], 0)
    return (v >= start) & (v < end)


def _uniform(key: Key[Array, ""], size: int, dtype: np.dtype) -> Float[Array, " {size}"]:
    """Uniform on [0, 1), shape `(size,)`, in steps of 2^-32 or less.

    jax's float32 steps of 2^-23 would leave `v / p` 9 values at p = 1e-6, and only 0 at p = 1e-7.
    """
    if dtype == jnp.float64:
        return random_bits.uniform(key, size)
    v = random_bits.bits(key, size).astype(dtype) * 2.0**-32
    return jnp.minimum(v, 1 - jnp.finfo(dtype).epsneg)  # the largest integers round up to 1
