"""Losses of mixtures: whatever a hidden context chooses, the loss is the mean over contexts."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from superpose import features
from superpose.toy_model import Params


def over_contexts(f: Callable) -> Callable:
    """`f(params, distribution, ...)`, with sums of it for mixtures."""

    @wraps(f)
    def run(params: Params, distribution: features.Distribution, *others: Any, **named: Any) -> Any:
        if not isinstance(distribution, features.Mixture):
            return f(params, distribution, *others, **named)
        parts = [run(params, context, *others, **named) for context in distribution.contexts]
        weights = jnp.asarray(distribution.weights, params.b.dtype)
        return jax.tree.map(lambda *x: sum(w * y for w, y in zip(weights, x, strict=True)), *parts)

    return run
