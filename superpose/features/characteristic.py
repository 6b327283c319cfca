"""The characteristic function psi(t) = E e^{itu} of each magnitude, with its derivatives: anywhere, and on equally spaced nodes.

On nodes k theta, k = 1, 2, ..., a recurrence takes no sine or cosine. Let z = e^{i theta}. For u ~ U[0, 1] the geometric sum
`S_k = sum_{r<k} z^r` gives `psi(k theta) = psi(theta) S_k / k`, and differentiating in theta, with `R_k = sum_{r<k} r z^r` and
`Q_k = sum_{r<k} r^2 z^r`,

    psi'(k theta)  = (psi' S_k + i psi R_k) / k^2
    psi''(k theta) = (psi'' S_k + 2 i psi' R_k - psi Q_k) / k^3      (psi, psi', psi'' at theta).

Unlike `(e^{it} - 1) / (it)`, nothing cancels where t is small, so a feature that is all but ignored keeps its gradient, in
float32 too. A node costs a few complex products an element.

Where phases are known from elsewhere, as on a grid in two dimensions, psi and psi' follow from t and `z = e^{it/2}`.
"""

from collections.abc import Callable
from math import factorial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from superpose._jax.complex_numbers import phase, scaled, times_i_power

Real = Float[Array, "..."]
Complexes = Complex[Array, "..."]
Values = list[Complexes]


class Recurrence(NamedTuple):
    """`step(state, k) -> (state, [psi, psi', ...])` for node k = 1, 2, ..., a real scalar, in turn."""

    start: Any
    step: Callable[[Any, Array], tuple[Any, Values]]


def powers(theta: Real) -> Recurrence:
    """`e^{i k theta}`: the recurrence of a single phase; its only value is the power itself."""
    z = phase(theta)

    def step(power: Array, k: Array) -> tuple[Array, Values]:  # noqa: ARG001
        return power * z, [power * z]

    return Recurrence(jnp.ones_like(z), step)


def uniform_derivatives(t: Real, order: int) -> Values:
    """`psi^(d)(t) = i^d E[u^d e^{itu}]` for u ~ U[0, 1], d = 0 .. order.

    |t| < 1: the series `E[u^d e^{itu}] = sum_k (it)^k / (k! (k + d + 1))`, 19 terms for float64. Elsewhere by parts:
    `E[u^d e^{itu}] = (e^{it} - d E[u^{d-1} e^{itu}]) / (it)`.
    """
    small = jnp.abs(t) < 1
    near, far = jnp.where(small, t, 0), jnp.where(small, 1, t)
    square, exponential, out = near * near, phase(far), []
    by_parts = jnp.zeros_like(exponential)
    for d in range(order + 1):
        parts = []
        for first in (0, 1):  # the even and odd powers of (it)
            horner = jnp.zeros_like(near)
            for k in range(18 + first, -1, -2):
                horner = (-1) ** (k // 2) / (factorial(k) * (k + d + 1)) + horner * square
            parts.append(horner)
        last = jnp.ones_like(exponential) if d == 0 else d * by_parts
        by_parts = times_i_power(exponential - last, -1) / far
        moment = jnp.where(small, jax.lax.complex(parts[0], near * parts[1]), by_parts)
        out.append(times_i_power(moment, d))
    return out


def uniform_recurrence(theta: Real, order: int) -> Recurrence:
    """`psi^(d)(k theta)`, d = 0 .. order <= 2, by the sums above."""
    z, psi = phase(theta), uniform_derivatives(theta, order)

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

    return Recurrence((jnp.ones_like(z), [jnp.zeros_like(z)] * (order + 1)), step)


def uniform_on_phase(t: Real, z: Complexes) -> tuple[Complexes, Complexes]:
    """`psi = z s`, `psi' = z (s' + i s / 2)` with `s = sin(t/2) / (t/2)`."""
    s, slope = _sinc(t, z.real, 2 * z.imag, 24)
    return scaled(s, z), jax.lax.complex(z.real * slope - z.imag * s / 2, z.imag * slope + z.real * s / 2)


def _sinc(t: Real, cosine: Real, sine: Real, bend: int) -> tuple[Real, Real]:
    """`s = sine / t`, about `1 - t^2 / bend` near 0, and `s' = (cosine - s) / t`."""
    near = jnp.abs(t) < jnp.finfo(t.dtype).eps ** 0.2  # where what is left out of both is about as large as rounding
    inverse = 1 / jnp.where(near, 1, t)
    s = jnp.where(near, 1 - t * t / bend, sine * inverse)
    return s, jnp.where(near, -2 * t / bend, (cosine - s) * inverse)


def binary_on_phase(t: Real, z: Complexes) -> tuple[Complexes, Complexes]:  # noqa: ARG001
    """`psi = z^2`, `psi' = i z^2`."""
    return z * z, times_i_power(z * z, 1)


def symmetric_on_phase(t: Real, z: Complexes) -> tuple[Complexes, Complexes]:
    """`psi = sin(t) / t`, real."""
    z = z * z
    s, slope = _sinc(t, z.real, z.imag, 6)
    return jax.lax.complex(s, jnp.zeros_like(s)), jax.lax.complex(slope, jnp.zeros_like(s))


def exponential_on_phase(t: Real, z: Complexes) -> tuple[Complexes, Complexes]:  # noqa: ARG001
    """As `exponential_derivatives`: no phase is needed."""
    psi, slope = exponential_derivatives(t, 1)
    return psi, slope


def binary_derivatives(t: Real, order: int) -> Values:
    """`psi^(d)(t) = i^d e^{it}`."""
    return [times_i_power(phase(t), d) for d in range(order + 1)]


def binary_recurrence(theta: Real, order: int) -> Recurrence:
    """`i^d e^{i k theta}`, d = 0 .. order."""
    start, step = powers(theta)

    def binary_step(state: Array, k: Array) -> tuple[Array, Values]:
        state, (z,) = step(state, k)
        return state, [times_i_power(z, d) for d in range(order + 1)]

    return Recurrence(start, binary_step)


def symmetric_derivatives(t: Real, order: int) -> Values:
    """U = 2 v - 1 with v ~ U[0, 1], so `psi(t) = e^{-it} psi_v(2t)`; its derivatives by the product rule."""
    return _shifted(uniform_derivatives(2 * t, order), phase(-t))


def _shifted(derivatives: Values, rotation: Complex[Array, "..."]) -> Values:
    """Derivatives in t of `e^{-it} psi_v(2t)`, from those of psi_v at 2t and from `rotation` = e^{-it}."""
    from_parts = {
        0: [(1, 0)],
        1: [(-1, 0), (2, 1)],
        2: [(-1, 0), (-4, 1), (4, 2)],
    }  # (factor, derivative of psi_v)
    powers = {0: [0], 1: [1, 0], 2: [0, 1, 0]}  # of i
    return [
        rotation * sum(times_i_power(c * derivatives[e], k) for (c, e), k in zip(from_parts[d], powers[d], strict=True))
        for d in range(len(derivatives))
    ]


def symmetric_recurrence(theta: Real, order: int) -> Recurrence:
    """`psi(t) = e^{-it} psi_v(2t)` with v ~ U[0, 1]."""
    inner, turn = uniform_recurrence(2 * theta, order), powers(-theta)

    def step(state: tuple, k: Array) -> tuple[tuple, Values]:
        inner_state, derivatives = inner.step(state[0], k)
        turn_state, (rotation,) = turn.step(state[1], k)
        return (inner_state, turn_state), _shifted(derivatives, rotation)

    return Recurrence((inner.start, turn.start), step)


def exponential_derivatives(t: Real, order: int) -> Values:
    """`psi^(d)(t) = i^d d! / (1 - it)^{d+1}`."""
    psi = jax.lax.complex(1 / (1 + t * t), t / (1 + t * t))
    return [times_i_power(factorial(d) * psi ** (d + 1), d) for d in range(order + 1)]


def exponential_recurrence(theta: Real, order: int) -> Recurrence:
    """No sines in psi itself: evaluate it."""

    def step(state: tuple, k: Array) -> tuple[tuple, Values]:
        return state, exponential_derivatives(k * theta, order)

    return Recurrence((), step)
