"""Dictionaries: n unit directions in m dimensions, random, pushed apart, or of a set coherence.

`D` has shape `(m, n)`; its column `D[:, i]` is the direction of feature i. Its coherence is the largest `|cos|` of two columns.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from superpose import frames
from superpose._jax.precision import precisely


def random_directions(key: Key[Array, ""], *, m: int, n: int) -> Float[Array, "{m} {n}"]:
    """Directions uniform on the sphere: unit columns.

    Raises:
        ValueError: unless m >= 1 and n >= 1.
    """
    _check_sizes(m, n)
    return _unit(jax.random.normal(key, (m, n)))


def spread_directions(
    key: Key[Array, ""], *, m: int, n: int, steps: int = 100, rate: float = 3e-4
) -> Float[Array, "{m} {n}"]:
    """Random directions pushed apart by `steps` of Adam on `sum_{i != j} (D_i . D_j)^2 + n sum_i (|D_i|^2 - 1)^2`.

    The first sum is `|D D^T|_F^2 - sum_i |D_i|^4`, so a step takes O(n m^2) time and O(n m) memory: no Gram matrix. Columns have
    length 1 again in the end. The loss falls towards that of a tight frame; it is a mean of squares and does not bound the largest.

    Args:
        key: draws the directions at the start.
        m: dimensions, >= 1.
        n: directions, >= 1.
        steps: >= 0. SynthSAEBench takes 100 at rate 3e-4.
        rate: of Adam, > 0.

    Raises:
        ValueError: an argument out of its range.

    Reference: arXiv:2602.14687, section 3; Benedetto and Fickus 2003, "Finite normalized tight frames", for the identity.
    """
    start = random_directions(key, m=m, n=n)
    if steps < 0:
        raise ValueError(f"steps = {steps}: needs at least 0")
    if not rate > 0:
        raise ValueError(f"rate = {rate}: needs to be above 0")
    return _spread(start, rate, steps=steps)


def coherent_directions(
    key: Key[Array, ""], *, m: int, n: int, coherence: float, steps: int = 2000
) -> Float[Array, "{m} {n}"]:
    """Directions whose coherence, the largest `|cos|` between two columns, is `coherence` to 16 roundings of the float type.

    Random directions are first pushed below it, where chance brings more, by Adam on `sum_{i != j} r(|cos_ij| - .99 coherence)^2`.
    Then all are mixed with one common direction c, `D_i ~ (1 - a) D_i + a c`, and a is bisected: the coherence goes from what
    there is at a = 0 to 1 at a = 1. Time is O(n^2 m) a step, memory O(n^2). It runs outside `jit`.

    Args:
        key: draws the directions at the start and c.
        m: dimensions, >= 1.
        n: directions, >= 2.
        coherence: from the Welch bound to 1. Near the bound there are dictionaries for few m and n, and Adam need not find them.
        steps: most steps of Adam, >= 0.

    Raises:
        ValueError: an argument out of its range, or `steps` that did not reach the coherence.

    Reference: Strohmer and Heath 2003, "Grassmannian frames with applications to coding and communication".
    """
    _check_sizes(m, n)
    least = frames.welch_bound(n=n, m=m) if m <= n and n >= 2 else 0.0
    if n < 2:
        raise ValueError(f"n = {n}: needs at least 2 directions, to have a coherence")
    if not least <= coherence <= 1:
        raise ValueError(f"coherence = {coherence}: needs to lie between the Welch bound {least:.6g} and 1")
    if steps < 0:
        raise ValueError(f"steps = {steps}: needs at least 0")
    start_key, common_key = jax.random.split(key)
    D = _relaxed(random_directions(start_key, m=m, n=n), coherence, steps=steps)
    reached = float(_coherence(D))
    if reached > coherence + 16 * jnp.finfo(D.dtype).eps:
        raise ValueError(f"coherence = {coherence}: {steps} steps reached {reached:.6g}; needs more, or a larger coherence")
    return _mixed_to(D, random_directions(common_key, m=m, n=1), coherence)


@partial(jax.jit, static_argnames="steps")
@precisely
def _spread(D: Float[Array, "m n"], rate: float | Array, *, steps: int) -> Float[Array, "m n"]:
    def loss(D: Array) -> Array:
        square = jnp.sum(D**2, axis=0)
        return jnp.sum((D @ D.T) ** 2) - jnp.sum(square**2) + D.shape[1] * jnp.sum((square - 1) ** 2)

    return _unit(_descent(loss, D, rate, steps=steps))


@jax.jit
@precisely
def _relaxed(D: Float[Array, "m n"], coherence: float | Array, *, steps: int | Array) -> Float[Array, "m n"]:
    """Directions with every `|cos|` at most `coherence`, if that many steps find them; unchanged if none are needed."""

    def loss(D: Array) -> Array:
        unit = _unit(D)
        cosines = jnp.where(jnp.eye(D.shape[1], dtype=bool), 0, unit.T @ unit)
        return jnp.sum(jax.nn.relu(jnp.abs(cosines) - 0.99 * coherence) ** 2)

    def wanted(carry: tuple) -> Array:
        D, _, t = carry
        return (_coherence(D) > coherence) & (t < steps)

    optimizer = optax.adam(0.01)

    def step(carry: tuple) -> tuple:
        D, state, t = carry
        updates, state = optimizer.update(jax.grad(loss)(D), state)
        return _unit(cast(Array, optax.apply_updates(D, updates))), state, t + 1

    return jax.lax.while_loop(wanted, step, (D, optimizer.init(D), 0))[0]


@jax.jit
@precisely
def _mixed_to(D: Float[Array, "m n"], c: Float[Array, "m 1"], coherence: float | Array) -> Float[Array, "m n"]:
    def mixed(a: Array) -> Array:
        return _unit((1 - a) * D + a * c)

    def halve(_: Array, bounds: tuple) -> tuple:
        low, high = bounds
        middle = (low + high) / 2
        above = _coherence(mixed(middle)) > coherence
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    zero = jnp.zeros((), D.dtype)
    return mixed(jax.lax.fori_loop(0, jnp.finfo(D.dtype).nmant + 8, halve, (zero, zero + 1))[0])


def _descent(
    loss: Callable[[Array], Array], D: Float[Array, "m n"], rate: float | Array, *, steps: int
) -> Float[Array, "m n"]:
    optimizer = optax.adam(rate)

    def step(carry: tuple, _: None) -> tuple:
        D, state = carry
        updates, state = optimizer.update(jax.grad(loss)(D), state)
        return (cast(Array, optax.apply_updates(D, updates)), state), None

    return jax.lax.scan(step, (D, optimizer.init(D)), None, length=steps)[0][0]


def _coherence(D: Float[Array, "m n"]) -> Float[Array, ""]:
    """The largest `|D_i . D_j|` of two columns, which have length 1."""
    return jnp.max(jnp.abs(jnp.where(jnp.eye(D.shape[1], dtype=bool), 0, D.T @ D)))


def _unit(D: Float[Array, "m n"]) -> Float[Array, "m n"]:
    return D / jnp.linalg.norm(D, axis=0, keepdims=True)


def _check_sizes(m: int, n: int) -> None:
    for name, value in (("m", m), ("n", n)):
        if value < 1:
            raise ValueError(f"{name} = {value}: needs at least 1")
