"""How far above a local minimum a point can be, in units of the loss, and in a word why it is not certified.

`gap = 2 sum_i c_i^2 / |lambda_i| + max_i r(-lambda_i) / 2 + fall + error`, with `c_i = q_i . g` the gradient along eigenvectors of
the Hessian: four times the Newton decrement `g^T H^+ g / 2`, as a loss that grows like `|t|^k` lies up to twice `c^2 / lambda`
above its minimum; what negative curvature could bring within distance 1 (flat directions count with `2 |c_i|`); the fall seen by
probes; and the error of the loss, in its value and slopes.

Reference: Nesterov and Nemirovskii 1994, "Interior-Point Polynomial Algorithms", section 2.2, for the decrement.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from superpose.solve.solution import CERTIFIED, DEGENERATE, INEXACT, KINK, NOT_FINITE, SADDLE, UNFINISHED

ROUNDING = 8
"""Roundings of 1 below which no gap is told from 0: a loss scaled to order 1 has no more digits."""

WEAK = 1e-3
"""Share of the largest eigenvalue below which a third derivative of order 1 may outweigh one where probes look."""


def flat(eigenvalues: Float[Array, " d"]) -> Bool[Array, " d"]:
    """Which eigenvalues are no more than rounding: below `3 eps^(2/3)` of the largest, 1e-10 in float64."""
    size = jnp.abs(eigenvalues)
    return size <= 3 * jnp.finfo(size.dtype).eps ** (2 / 3) * size.max()


def limit(value: Float[Array, "*r"], *, tolerance: float) -> Float[Array, "*r"]:
    """The largest gap of a certified point: `tolerance |value|`, or rounding where the loss itself is almost 0."""
    return jnp.maximum(tolerance * jnp.abs(value), ROUNDING * jnp.finfo(value.dtype).eps)


def uphill(slopes: Float[Array, " d"], eigenvalues: Float[Array, " d"]) -> Float[Array, ""]:
    """`2 sum_i c_i^2 / |lambda_i|` from slopes along the Hessian's eigenvectors, flat ones `2 |c_i|`: what descent can bring."""
    left = flat(eigenvalues)
    return 2 * jnp.sum(jnp.where(left, jnp.abs(slopes), slopes**2 / jnp.where(left, 1, jnp.abs(eigenvalues))))


def bending(eigenvalues: Float[Array, " d"]) -> Float[Array, ""]:
    """`max_i -lambda_i / 2`, flat ones left out, or 0: what negative curvature could bring within distance 1."""
    return jnp.max(jnp.where(flat(eigenvalues), 0, -eigenvalues), initial=0) / 2


def judge(
    value: Float[Array, ""],
    *,
    uphill: Float[Array, ""],
    bending: Float[Array, ""],
    fall: Float[Array, ""],
    error: Float[Array, ""],
    kink: Bool[Array, ""],
    tolerance: float,
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The gap and the reason at one point.

    Args:
        value: the loss.
        uphill: what steps downhill can bring.
        bending: what negative curvature could bring.
        fall: how much lower the lowest place lies that was seen nearby, >= 0.
        error: of the value, and of `uphill`, >= 0.
        kink: whether the gradient or the loss jumps nearby.
        tolerance: the largest gap of a certified point, as a share of the loss.

    Returns:
        The gap, in units of the loss; infinite where something is not finite. And the index into `REASONS`.
    """
    most, gap = limit(value, tolerance=tolerance), uphill + bending + fall + error
    reason = jnp.where(gap <= most, CERTIFIED, UNFINISHED)
    reason = jnp.where(error > most, INEXACT, reason)
    reason = jnp.where(fall > most, DEGENERATE, reason)
    reason = jnp.where(bending > most, SADDLE, reason)
    reason = jnp.where(uphill > most, jnp.where(kink, KINK, UNFINISHED), reason)
    finite = jnp.isfinite(value) & jnp.isfinite(gap)
    return jnp.where(finite, gap, jnp.inf), jnp.where(finite, reason, NOT_FINITE)
