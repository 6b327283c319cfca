"""Draws of inputs."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from superpose._jax import random_bits
from superpose.features import forest
from superpose.features.distributions import Distribution, Mixture, Sparse, check, coupling, given, magnitude


def sample(key: Key[Array, ""], distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    """Draw one input `x` of shape `(n,)`; callers `vmap` over keys for a batch.

    Bounded laws of independent features need a single uniform number `v` a feature: active if `v < p`, and then `v / p` is
    uniform again. A mixture draws from each of its contexts, and takes one.
    """
    check(distribution, n=n)
    return _sample(key, distribution, n=n)


def _sample(key: Key[Array, ""], distribution: Distribution, *, n: int) -> Float[Array, " n"]:
    if isinstance(distribution, Mixture):
        context_key, *keys = jax.random.split(key, 1 + len(distribution.contexts))
        draws = jnp.stack([_sample(k, x, n=n) for k, x in zip(keys, distribution.contexts, strict=True)])
        return draws[jax.random.choice(context_key, len(draws), p=jnp.asarray(distribution.weights, float))]
    law, p = magnitude(distribution), given(distribution, n=n)
    v_key, q_key = jax.random.split(key)
    if isinstance(distribution, Sparse):
        v = _uniform(v_key, n, p.dtype)
        q = v / p if np.isfinite(law.support[1]) else jax.random.uniform(q_key, (n,), p.dtype)
        return jnp.where(v < p, law.quantile(q), 0)
    known = coupling(distribution, n=n)
    active = forest.sampled(known, p, _uniform(v_key, max(known.draw) + 1, p.dtype))
    return jnp.where(active, law.quantile(jax.random.uniform(q_key, (n,))), 0)


def _uniform(key: Key[Array, ""], size: int, dtype: np.dtype) -> Float[Array, " {size}"]:
    """Uniform on [0, 1), shape `(size,)`, in steps of 2^-32 or less.

    jax's float32 steps of 2^-23 would leave `v / p` 9 values at p = 1e-6, and only 0 at p = 1e-7.
    """
    if dtype == jnp.float64:
        return random_bits.uniform(key, size)
    v = random_bits.bits(key, size).astype(dtype) * 2.0**-32
    return jnp.minimum(v, 1 - jnp.finfo(dtype).epsneg)  # the largest integers round up to 1
