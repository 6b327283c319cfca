"""How an exact loss runs: compiled once for all uses with one shape, the models last or one at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jaxtyping import Array

from superpose import features
from superpose._jax.models_last import models_last, one_at_a_time
from superpose._jax.precision import precisely
from superpose.expected_loss.groups import Groups

MANY = 32
"""Features from which a CPU works on one model at a time, whose arrays of n^2 numbers then stay in its cache."""


def each(f: Callable[[tuple, tuple], Any], n: int) -> Callable[[tuple, tuple], Any]:
    """`f(varied, fixed)` of a model; with many features, of one model at a time on a CPU."""
    return f if n < MANY else one_at_a_time(f)


def of_a_model(f: Callable[[tuple[Array, Array], features.Distribution, Any], Any]) -> Callable[..., Any]:
    """From `f(model, distribution, nodes)` `run(model, numbers, structure, nodes)`, compiled once for all uses with one shape.

    `model` is two arrays, of which the first is a matrix with a column for each feature; `numbers` and `structure` are a flattened
    distribution.
    """

    @partial(jax.jit, static_argnums=(2, 3))
    def run(model: tuple[Array, Array], numbers: list, structure: Any, nodes: int) -> Any:
        @precisely
        def one(varied: tuple, fixed: tuple) -> Any:
            return f(varied, jax.tree.unflatten(structure, fixed), nodes)

        return each(one, model[0].shape[1])(model, tuple(numbers))

    return run


def on_models(f: Callable, groups: Groups, law: features.Magnitude, g: Array, b: Array) -> Any:
    """`f(groups, law, g, b)`; of few features with the models last, where `vmap` puts several."""
    numbers, structure = jax.tree.flatten(groups)

    def core(varied: tuple, fixed: tuple) -> Any:
        return f(jax.tree.unflatten(structure, fixed), law, *varied)

    run = models_last(core, apart=True) if len(g) < MANY else core
    return run((g, b), tuple(numbers))
