"""Sums over inputs of functions of one number, by Chebyshev series.

For x in [-1, 1], `sum_j f(x_ij) = sum_r C_r M_ri`, with `M_ri = sum_j T_r(x_ij)` the same for all f, and coefficients C from the
values of f at R points. Functions with `f(-x) = conj f(x)` only: their even coefficients are those of the real part, odd ones i
times those of the imaginary part. Arrays are (input j, output i), R is a multiple of `STRIDE`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.polynomial import chebyshev

STRIDE = 8
"""Moments come from products of the first so many polynomials with every so-manieth; even."""
LAST = 4
"""Terms at the end of a series that tell its error."""

Coefficients = tuple[Array, Array]
"""Of even and of odd order, `(K, R/2)` each, for K functions."""


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def moments(x: Array, terms: int) -> Array:
    """`sum_j T_r(x_ij)`, r < terms."""
    return _weighed(x, jnp.ones_like(x), terms)


@moments.defjvp
def _moments_jvp(terms: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """`T_r'` is a sum of T_s, s < r."""
    (x,), (dx,) = primals, tangents
    return moments(x, terms), jnp.asarray(_derivative(terms), x.dtype) @ _weighed(x, dx, terms)


def _weighed(x: Array, weight: Array, terms: int) -> Array:
    """`sum_j T_r(x_ij) weight_ij`.

    From `2 T_a T_b = T_{a+b} + T_{b-a}` and the sums of products of T_0 .. T_7 with T_0, T_8, T_16, ..: in one pass over x, which
    stores no polynomial, and with short chains of operations.
    """
    near = [jnp.ones_like(x), x]
    for _ in range(2, STRIDE):
        near.append(2 * x * near[-1] - near[-2])
    far, step = [weight], 2 * near[STRIDE // 2] ** 2 - 1
    for _ in range(STRIDE, terms, STRIDE):
        far.append(step * weight if len(far) == 1 else 2 * step * far[-1] - far[-2])
    products = _sums([a * b for b in far for a in near])
    sums = products[:STRIDE]
    for k in range(STRIDE, terms, STRIDE):
        sums += [products[k], *(2 * products[k + a] - sums[k - a] for a in range(1, STRIDE))]
    return jnp.stack(sums)


def _sums(arrays: list[Array]) -> list[Array]:
    """Over inputs, in one pass over all. JAX has no derivative of it."""
    zeros = [jnp.zeros((), x.dtype) for x in arrays]
    return list(jax.lax.reduce(arrays, zeros, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (0,)))


def _derivative(terms: int) -> np.ndarray:
    """The coefficients of `T_r'`, in row r."""
    return np.pad(chebyshev.chebder(np.eye(terms), axis=1), ((0, 0), (0, 1)))


def points(terms: int) -> np.ndarray:
    """The positive half of R = `terms` Chebyshev points."""
    return np.cos(np.pi * (np.arange(terms // 2) + 0.5) / terms)


def coefficients(values: Array) -> Coefficients:
    """From the values of functions at the points, `(K, R/2)`."""
    terms = 2 * values.shape[1]
    angle, order = np.pi * (np.arange(terms // 2) + 0.5) / terms, np.arange(terms)[:, None]
    matrix = jnp.asarray(np.where(order == 0, 2, 4) / terms * np.cos(order * angle[None, :]), values.real.dtype)
    return values.real @ matrix[0::2].T, values.imag @ matrix[1::2].T


def sums(coefficients: Coefficients, moments: Array) -> Array:
    """`sum_j f(x_ij)`, complex, `(K, i)`."""
    return jax.lax.complex(coefficients[0] @ moments[0::2], coefficients[1] @ moments[1::2])


def pulled(coefficients: Coefficients, factor: Array) -> Array:
    """The slopes of `Re sum_k factor_ki sum_j f_k(x_ij)` in the moments, `(R, i)`."""
    even, odd = coefficients[0].T @ factor.real, -coefficients[1].T @ factor.imag
    return jnp.stack([even, odd], 1).reshape(-1, even.shape[1])


def last_terms(coefficients: Coefficients, moments: Array) -> Array:
    """The size of the last terms of each sum, `(K, i)`."""
    half, size = LAST // 2, jnp.abs(moments[-LAST:])
    even, odd = (jnp.abs(x[:, -half:]) for x in coefficients)
    return even @ size[0::2] + odd @ size[1::2]


def slope(series: Array, x: Array) -> Array:
    """`sum_r A_ri T_r'(x_ij)` for A = `series`, `(R, i)`: the series of the derivative, by Clenshaw's recurrence."""
    slopes = jnp.asarray(_derivative(len(series)).T, x.dtype) @ series
    after, now = jnp.zeros_like(x), jnp.zeros_like(x)
    for r in range(len(series) - 2, 0, -1):
        after, now = now, 2 * x * now - after + slopes[r][None]
    return x * now - after + slopes[0][None]


def growth(series: Array, moments: Array) -> Array:
    """`sum_j x_ij sum_r A_ri T_r'(x_ij)`, from the moments alone: the slope in a common scale of all x."""
    by_x = (np.eye(len(series), k=1) + np.eye(len(series), k=-1)) / 2  # x T_s = (T_{s+1} + T_{|s-1|}) / 2
    by_x[0, 1] = 1
    return (series * (jnp.asarray(_derivative(len(series)) @ by_x, series.dtype) @ moments)).sum(0)
