"""The characteristic function on equally spaced nodes, psi(k theta) for k = 1, 2, ..., one after the other, without sines.

Let z = e^{i theta}. For u ~ U[0, 1] the geometric sum `S_k = sum_{r<k} z^r` gives `psi(k theta) = psi(theta) S_k / k`, and
differentiating in theta, with `R_k = sum_{r<k} r z^r` and `Q_k = sum_{r<k} r^2 z^r`,

    psi'(k theta)  = (psi' S_k + i psi R_k) / k^2
    psi''(k theta) = (psi'' S_k + 2 i psi' R_k - psi Q_k) / k^3      (psi, psi', psi'' at theta).

Unlike `(e^{it} - 1) / (it)`, nothing cancels where t is small, so a feature that is all but ignored keeps its gradient, in
float32 too. A node costs a few complex products an element.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from superpose.magnitudes import UNIFORM, Magnitude, phase, shifted, times_i_power

Values = list[Complex[Array, "..."]]


class Ladder(NamedTuple):
    """`step(state, k) -> (state, [psi, psi', ...])` for node k = 1, 2, ..., a real scalar, in turn."""

    start: Any
    step: Callable[[Any, Array], tuple[Any, Values]]


def scaled(factor: Array | float, x: Complex[Array, "..."]) -> Complex[Array, "..."]:
    """Real times complex in two multiplications; XLA would make the factor complex first."""
    return jax.lax.complex(factor * x.real, factor * x.imag)


def kept(tree: Any) -> Any:
    """The same values, on CPU computed once and stored: what uses them shall not compute them again.

    XLA fuses a cheap producer into each of its consumers there, and drops barriers before it does; into a branch it does not
    reach. The condition always holds; complex numbers go through as two real ones, which vectorise.
    """
    leaves, shape = jax.tree.flatten(tree)
    parts = [(x.real, x.imag) if jnp.iscomplexobj(x) else (x,) for x in leaves]

    def branch(parts: list) -> list:
        always = ~(parts[0][0].ravel()[0] > jnp.inf)
        return jax.lax.cond(always, lambda x: x, lambda x: jax.tree.map(jnp.zeros_like, x), parts)

    parts = jax.lax.platform_dependent(parts, cpu=branch, default=lambda x: x)
    return jax.tree.unflatten(shape, [jax.lax.complex(*x) if len(x) == 2 else x[0] for x in parts])


def powers(theta: Float[Array, "..."]) -> Ladder:
    """`e^{i k theta}`: the ladder of a single phase; its only value is the power itself."""
    z = phase(theta)

    def step(power: Array, k: Array) -> tuple[Array, Values]:  # noqa: ARG001
        return power * z, [power * z]

    return Ladder(jnp.ones_like(z), step)


def ladder(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:
    """`psi^(d)(k theta)`, d = 0 .. order <= 2, node by node."""
    return {"uniform": _uniform, "symmetric": _symmetric, "binary": _binary, "exponential": _direct}[law.name](
        law, theta, order
    )


def _direct(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:
    """No sines in psi itself: evaluate it."""

    def step(state: tuple, k: Array) -> tuple[tuple, Values]:
        return state, law.derivatives(k * theta, order)

    return Ladder((), step)


def _binary(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:  # noqa: ARG001
    start, step = powers(theta)

    def binary_step(state: Array, k: Array) -> tuple[Array, Values]:
        state, (z,) = step(state, k)
        return state, [times_i_power(z, d) for d in range(order + 1)]

    return Ladder(start, binary_step)


def _symmetric(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:
    """`psi(t) = e^{-it} psi_v(2t)` with v ~ U[0, 1]."""
    inner, turn = _uniform(law, 2 * theta, order), powers(-theta)

    def step(state: tuple, k: Array) -> tuple[tuple, Values]:
        inner_state, derivatives = inner.step(state[0], k)
        turn_state, (rotation,) = turn.step(state[1], k)
        return (inner_state, turn_state), shifted(derivatives, rotation)

    return Ladder((inner.start, turn.start), step)


def _uniform(law: Magnitude, theta: Float[Array, "..."], order: int) -> Ladder:  # noqa: ARG001
    z, psi = phase(theta), UNIFORM.derivatives(theta, order)

    def step(state: tuple[Array, Values], k: Array) -> tuple[tuple[Array, Values], Values]:
        power, sums = state
        sums = [total + scaled((k - 1) ** d, power) for d, total in enumerate(sums)]
        values = [psi[0] * scaled(1 / k, sums[0])]
        if order > 0:
            values.append(scaled(1 / k**2, psi[1] * sums[0] + times_i_power(psi[0] * sums[1], 1)))
        if order > 1:
            bend = psi[2] * sums[0] + 2 * times_i_power(psi[1] * sums[1], 1) - psi[0] * sums[2]
            values.append(scaled(1 / k**3, bend))
        return (power * z, sums), values

    return Ladder((jnp.ones_like(z), [jnp.zeros_like(z)] * (order + 1)), step)
