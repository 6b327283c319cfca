"""Complex numbers by their real parts: what XLA would round more, or take longer for."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float


def _log1p(z: Array) -> Array:
    """`log(1 + z)` for complex z, by the real `log1p` near 1: what is rounded there comes with every feature."""
    square, size = 2 * z.real + z.real**2 + z.imag**2, jnp.hypot(1 + z.real, z.imag)
    near, far = jnp.log1p(jnp.maximum(square, -0.5)) / 2, jnp.log(jnp.maximum(size, jnp.finfo(size.dtype).tiny))
    return jax.lax.complex(jnp.where(jnp.abs(square) < 0.5, near, far), jnp.arctan2(z.imag, 1 + z.real))


def log1p_less(z: Array) -> Array:
    """`log(1 + z) - z`, by its power series where |z| is small."""
    near = jnp.where(jnp.abs(z) < 0.1, z, 0)
    series = jnp.zeros_like(z)
    for power in range(12, 1, -1):
        series = near * series + (-1.0) ** (power + 1) / power
    return jnp.where(jnp.abs(z) < 0.1, series * near * near, _log1p(z) - z)


def expm1(z: Array) -> Array:
    """`e^z - 1` for complex z; digits are kept where z is small."""
    grown, sine, cosine = jnp.expm1(z.real), jnp.sin(z.imag / 2), jnp.cos(z.imag / 2)
    return jax.lax.complex(grown - 2 * (1 + grown) * sine**2, 2 * (1 + grown) * sine * cosine)


def phase(t: Float[Array, "..."]) -> Complex[Array, "..."]:
    """`e^{it}`."""
    return jax.lax.complex(jnp.cos(t), jnp.sin(t))


def times_i_power(x: Complex[Array, "..."], power: int) -> Complex[Array, "..."]:
    """`i^power x` without a multiplication."""
    re, im = x.real, x.imag
    return [x, jax.lax.complex(-im, re), -x, jax.lax.complex(im, -re)][power % 4]


def scaled(factor: Array | float, x: Complex[Array, "..."]) -> Complex[Array, "..."]:
    """Real times complex in two multiplications; XLA would make the factor complex first."""
    return jax.lax.complex(factor * x.real, factor * x.imag)


def plus_one(x: Complex[Array, "..."]) -> Complex[Array, "..."]:
    """`1 + x`; the imaginary part is left as it is."""
    return jax.lax.complex(x.real + 1, x.imag)


def quotient(x: Array, y: Array) -> Array:
    """X / y, and 0 where y = 0."""
    tiny = jnp.finfo(y.real.dtype).tiny
    return scaled(1 / (y.real**2 + y.imag**2 + tiny), x * jnp.conj(y))
