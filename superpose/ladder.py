"""The characteristic function on equally spaced nodes, psi(k theta) for k = 1, 2, ..., in blocks, without sines.

Let z = e^{i theta}. For u ~ U[0, 1] the geometric sum `S_k = sum_{r<k} z^r` gives `psi(k theta) = psi(theta) S_k / k`, and
differentiating in theta, with `R_k = sum_{r<k} r z^r` and `Q_k = sum_{r<k} r^2 z^r`,

    psi'(k theta)  = (psi' S_k + i psi R_k) / k^2
    psi''(k theta) = (psi'' S_k + 2 i psi' R_k - psi Q_k) / k^3      (psi, psi', psi'' at theta).

Unlike `(e^{it} - 1) / (it)`, nothing cancels where t is small, so a feature that is all but ignored keeps its gradient, in
float32 too. Sums run over blocks of `BLOCK` nodes: `S_{k0+r} = S_{k0} + z^{k0} S_r`, with a table for r = 1 .. BLOCK. So a
block costs a few complex products an element, and the state between blocks is one element each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from superpose.magnitudes import Magnitude, phase, shifted, times_i_power

BLOCK = 8
"""Nodes in a block: one AVX-512 register of float64."""

Values = list[Complex[Array, "..."]]


class Ladder(NamedTuple):
    """`step(state) -> (state, [psi, psi', ...])` for the next block, each with a trailing axis of `BLOCK` nodes."""

    start: Any
    step: Callable[[Any], tuple[Any, Values]]


def scaled(factor: Array | float, x: Complex[Array, "..."]) -> Complex[Array, "..."]:
    """Real times complex in two multiplications; XLA would make the factor complex first."""
    return jax.lax.complex(factor * x.real, factor * x.imag)


def powers(theta: Float[Array, "..."]) -> Ladder:
    """`e^{i k theta}`: the ladder of a single phase; its only value is the power itself."""
    z = phase(theta)
    table = [z]
    for _ in range(BLOCK - 1):
        table.append(table[-1] * z)
    stacked = jnp.stack(table, -1)

    def step(state: Array) -> tuple[Array, Values]:
        return state * table[-1], [state[..., None] * stacked]

    return Ladder(jnp.ones_like(z), step)


def ladder(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:
    """`psi^(d)(k theta)`, d = 0 .. order <= 2, for the nodes k = 1, 2, ... block by block."""
    return {"uniform": _uniform, "symmetric": _symmetric, "binary": _binary, "exponential": _direct}[law.name](
        law, theta, order
    )


def _nodes(first: Array, theta: Array) -> Array:
    """K of the block's nodes, with leading axes to go along `theta[..., None]`."""
    return first + jnp.arange(1, BLOCK + 1, dtype=first.dtype).reshape((1,) * theta.ndim + (BLOCK,))


def _direct(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:
    """No sines in psi itself: evaluate it."""

    def step(first: Array) -> tuple[Array, Values]:
        return first + BLOCK, law.derivatives(theta[..., None] * _nodes(first, theta), order)

    return Ladder(jnp.zeros((), theta.dtype), step)


def _binary(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:  # noqa: ARG001
    start, step = powers(theta)

    def binary_step(state: Array) -> tuple[Array, Values]:
        state, (z,) = step(state)
        return state, [times_i_power(z, d) for d in range(order + 1)]

    return Ladder(start, binary_step)


def _symmetric(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:
    """`psi(t) = e^{-it} psi_v(2t)` with v ~ U[0, 1]."""
    inner, turn = _uniform(law, 2 * theta, order), powers(-theta)

    def step(state: Any) -> tuple[Any, Values]:
        inner_state, derivatives = inner.step(state[0])
        turn_state, (rotation,) = turn.step(state[1])
        return (inner_state, turn_state), shifted(derivatives, rotation)

    return Ladder((inner.start, turn.start), step)


def _uniform(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:  # noqa: ARG001
    from superpose.magnitudes import UNIFORM

    tables, turn = _tables(phase(theta), UNIFORM.derivatives(theta, order))
    stacked = [jnp.stack(t, -1) for t in tables]

    def step(state: Any) -> tuple[Any, Values]:
        z, first, sums = state
        k = _nodes(first, theta)
        values = [
            scaled(1 / k ** (d + 1), sums[d][..., None] + z[..., None] * _advance(stacked, d, first))
            for d in range(order + 1)
        ]
        ends = [t[-1] for t in tables]
        sums = [sums[d] + z * _advance(ends, d, first) for d in range(order + 1)]
        return (z * turn, first + BLOCK, sums), values

    zero = jnp.zeros_like(turn)
    return Ladder((jnp.ones_like(turn), jnp.zeros((), theta.dtype), [zero] * (order + 1)), step)


def _tables(z: Array, psi: Values) -> tuple[list[list[Array]], Array]:
    """`T_0 = psi S_r`, `T_1 = psi' S_r + i psi R_r`, `T_2 = psi'' S_r + 2i psi' R_r - psi Q_r`, r = 1 .. BLOCK; z^BLOCK."""
    power, s, r, q = jnp.ones_like(z), jnp.zeros_like(z), jnp.zeros_like(z), jnp.zeros_like(z)
    tables: list[list[Array]] = [[] for _ in psi]
    for k in range(BLOCK):
        s, r, q, power = s + power, r + scaled(float(k), power), q + scaled(float(k * k), power), power * z
        tables[0].append(psi[0] * s)
        if len(psi) > 1:
            tables[1].append(psi[1] * s + times_i_power(psi[0] * r, 1))
        if len(psi) > 2:
            tables[2].append(psi[2] * s + 2 * times_i_power(psi[1] * r, 1) - psi[0] * q)
    return tables, power


def _advance(table: list[Array], d: int, first: Array) -> Array:
    """A table entry `first` nodes further on: `T_1 + i k0 T_0`, `T_2 + 2 i k0 T_1 - k0^2 T_0`, before the turn by z^k0."""
    if d == 0:
        return table[0]
    if d == 1:
        return table[1] + scaled(first, times_i_power(table[0], 1))
    return table[2] + scaled(2 * first, times_i_power(table[1], 1)) - scaled(first * first, table[0])
