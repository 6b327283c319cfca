"""Sums over inputs of several functions of the overlaps, for all outputs in one pass, and their derivatives in two.

What is known of an output before its series are sums over n inputs. XLA would write an array of n^2 numbers for most steps of each
of them and of their derivatives, and time goes into writing. Arrays are (input j, output i, ...).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


@jax.custom_jvp
def sums_of(arrays: list[Array]) -> list[Array]:
    """Each summed over its first axis, in one pass over all."""
    zeros = [jnp.zeros((), x.dtype) for x in arrays]
    return list(jax.lax.reduce(arrays, zeros, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (0,)))


@sums_of.defjvp
def _sums_of_jvp(primals: tuple[list], tangents: tuple[list]) -> tuple[list[Array], list[Array]]:
    """As sums are; JAX has no rule for a reduction of several arrays of which some do not change."""
    return sums_of(*primals), sums_of(*tangents)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def column_sums(f: Callable[..., list[Array]], g: Array, inputs: Any, outputs: tuple) -> list[Array]:
    """`sum_j f(g_ji, inputs_j, outputs_i)` for each of the functions in f, shapes `(n, ...)`.

    Args:
        f: from arrays that broadcast against g to a list of such arrays, element by element.
        g: overlaps, `(n, n, ...)`.
        inputs: a tree of arrays of its own for f; constants to the derivative.
        outputs: arrays of shape `(n, ...)`, which f gets with an axis of inputs in front.
    """
    return sums_of([jnp.broadcast_to(x, g.shape) for x in f(g, inputs, *[x[None] for x in outputs])])


def _forward(f: Callable, g: Array, inputs: Any, outputs: tuple) -> tuple[list[Array], tuple]:
    return column_sums(f, g, inputs, outputs), (g, inputs, outputs)


def _backward(f: Callable, known: tuple, slopes: list[Array]) -> tuple[Array, None, tuple]:
    g, inputs, outputs = known
    spread = [jnp.broadcast_to(x[None], g.shape) for x in outputs]
    found, pull = jax.vjp(lambda g, *outputs: f(g, inputs, *outputs), g, *spread)
    by_g, *by_outputs = pull([jnp.broadcast_to(x[None], y.shape) for x, y in zip(slopes, found, strict=True)])
    return by_g, None, tuple(sums_of(by_outputs)) if outputs else ()


column_sums.defvjp(_forward, _backward)
