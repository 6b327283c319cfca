"""Losses of mixtures: whatever a hidden context chooses, the loss is the mean over contexts."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from superpose import features


def over_contexts(f: Callable) -> Callable:
    """`f(model, distribution, ...)`, with sums of it for mixtures; `model` is a pytree of arrays of one dtype."""

    @wraps(f)
    def run(model: Any, distribution: features.Distribution, *others: Any, **named: Any) -> Any:
        if not isinstance(distribution, features.Mixture):
            return f(model, distribution, *others, **named)
        parts = [run(model, context, *others, **named) for context in distribution.contexts]
        weights = jnp.asarray(distribution.weights, jax.tree.leaves(model)[0].dtype)
        return jax.tree.map(lambda *x: sum(w * y for w, y in zip(weights, x, strict=True)), *parts)

    return run
