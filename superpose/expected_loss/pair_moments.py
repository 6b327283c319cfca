"""`E r(y_k) r(y_l)` of all pairs of pre-activations `y = c + G x`: what the energy of a sum of latents is made of. No sampling."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from superpose import features
from superpose._jax.models_last import NO_DERIVATIVE, models_last
from superpose._jax.precision import precisely
from superpose.expected_loss import binary_states, pair_series
from superpose.expected_loss.contexts import over_contexts
from superpose.expected_loss.groups import as_given, groups_of, in_order
from superpose.expected_loss.inputs import check_rows
from superpose.expected_loss.pair_series import Pair
from superpose.expected_loss.rectified import rectified_moments

FINER = 2
"""So many times the nodes have series in one dimension, which cost little."""


def pair_moments(
    G: Float[Array, "L n"], c: Float[Array, " L"], distribution: features.Distribution, *, nodes: int = 32
) -> Float[Array, "L L"]:
    """`E r(y_k) r(y_l)` of `y = c + G x`, r(y) = max(y, 0), exact up to the truncation of a Fourier series in two dimensions.

    The diagonal is that of `rectified_moments` with twice the nodes or 64. Pairs that are never positive at once are 0.
    Binary features of at most 1,024 states are summed and have no error. Each pair is worked out once, in O(n nodes^1.7).

    Differentiable in G and c, twice (reverse mode first, then forward for Hessians); not in the distribution.

    Args:
        G: weights, one row for each pre-activation.
        c: biases.
        distribution: of the n features.
        nodes: frequencies of each axis, at least 8.

    Returns:
        A symmetric matrix.

    Raises:
        ValueError: shapes that do not fit, numbers that are no floats, `nodes` below 8, a distribution that is none, or a
            derivative in it.
    """
    check_rows(distribution, nodes, sizes="(L, n)", G=G, c=c)
    square = rectified_moments(G, c, distribution, nodes=max(64, FINER * nodes)).square
    first, second = np.triu_indices(len(c), 1)
    found = of_pairs(Pair(G[first].T, c[first], G[second].T, c[second]), distribution, nodes=nodes)
    upper = jnp.zeros((len(c), len(c)), c.dtype).at[first, second].set(found)
    return upper + upper.T + jnp.diag(square)


def product_moments(
    G: Float[Array, "k n"],
    c: Float[Array, " k"],
    H: Float[Array, "k n"],
    d: Float[Array, " k"],
    distribution: features.Distribution,
    *,
    nodes: int = 32,
) -> Float[Array, " k"]:
    """`E r(y) r(z)` of `y = c + G x` and `z = d + H x`, row by row: `pair_moments` where not all pairs are wanted.

    Args:
        G: weights of y, one row for each.
        c: biases of y.
        H: weights of z.
        d: biases of z.
        distribution: of the n features.
        nodes: frequencies of each axis, at least 8.

    Raises:
        ValueError: as `pair_moments`.
    """
    check_rows(distribution, nodes, sizes="(k, n)", G=G, c=c)
    check_rows(distribution, nodes, sizes="(k, n)", H=H, d=d)
    if G.shape != H.shape:
        raise ValueError(f"H has shape {H.shape}: needs that of G, {G.shape}")
    return of_pairs(Pair(G.T, c, H.T, d), distribution, nodes=nodes)


def of_pairs(pair: Pair, distribution: features.Distribution, *, nodes: int, line: bool = False) -> Float[Array, " pairs"]:
    """`E r(y) r(z)` of some pairs, or if `line` `E y r(z)`; with slopes as `pair_moments` has them."""
    numbers, structure = jax.tree.flatten(distribution)
    return _moments(*pair, numbers, structure, nodes, line)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _moments(g: Array, c: Array, h: Array, d: Array, numbers: list, structure: Any, nodes: int, line: bool) -> Array:
    return _values_and_slopes(Pair(g, c, h, d), numbers, structure, nodes, line)[0]


@partial(jax.jit, static_argnums=(2, 3, 4))
def _values_and_slopes(pair: Pair, numbers: list, structure: Any, nodes: int, line: bool) -> tuple[Array, Pair]:
    return _of_distribution(pair, jax.tree.unflatten(structure, numbers), nodes, line)


@over_contexts
def _of_distribution(
    pair: Pair, distribution: features.Sparse | features.Coupled, nodes: int, line: bool
) -> tuple[Array, Pair]:
    groups = groups_of(distribution, n=len(pair.g), dtype=pair.c.dtype)
    law = features.magnitude(distribution)
    numbers, structure = jax.tree.flatten(groups)

    @precisely
    def core(varied: tuple, fixed: tuple) -> tuple[Array, Pair]:
        method = (
            binary_states.pair_moments_and_slopes if binary_states.applies(groups, law) else pair_series.moments_and_slopes
        )
        last = Pair(*(x.reshape(*x.shape[:-2], -1) for x in varied))
        apart = [jnp.broadcast_to(x[:, None], (len(x), *varied[1].shape)).reshape(len(x), -1) for x in fixed]
        found = method(jax.tree.unflatten(structure, apart), law, last, nodes=nodes, line=line)
        return jax.tree.map(lambda x: x.reshape(*x.shape[:-1], *varied[1].shape), found)

    ordered = pair._replace(g=in_order(groups, pair.g), h=in_order(groups, pair.h))
    value, slopes = models_last(core, apart=True)(tuple(ordered), tuple(numbers))
    return value, slopes._replace(g=as_given(groups, slopes.g), h=as_given(groups, slopes.h))


def _forward(*arguments: Any) -> tuple[Array, Pair]:
    *pair, numbers, structure, nodes, line = arguments
    if any(x.perturbed for x in numbers):
        raise ValueError(NO_DERIVATIVE)
    return _values_and_slopes(Pair(*(x.value for x in pair)), [x.value for x in numbers], structure, nodes, line)


def _backward(structure: Any, nodes: int, line: bool, slopes: Pair, cotangent: Any) -> tuple:  # noqa: ARG001
    if isinstance(cotangent, SymbolicZero):
        return (*jax.tree.map(jnp.zeros_like, slopes), None)
    return (*(x * (cotangent if x.ndim == 1 else cotangent[None]) for x in slopes), None)


_moments.defvjp(_forward, _backward, symbolic_zeros=True)
