"""Sums over inputs of functions of one number, by Chebyshev series.

For x in [-1, 1], `sum_j f(x_ij) = sum_r C_r M_ri`, with `M_ri = sum_j T_r(x_ij)` the same for all f, and coefficients C from the
values of f at R points. Functions with `f(-x) = conj f(x)` only: their even coefficients are those of the real part, odd ones i
times those of the imaginary part. So all that has an order r is kept in halves, of even and of odd order, which only a derivative
exchanges. Arrays are (input j, output i), R is a multiple of `STRIDE`.
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

Halves = tuple[Array, Array]
"""Of even and of odd order: moments or a series for each output, `(R/2, i)`; coefficients of K functions, `(K, R/2)`."""


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def moments(x: Array, terms: int) -> Halves:
    """`sum_j T_r(x_ij)`, r < terms."""
    return _weighed(x, jnp.ones_like(x), terms)


@moments.defjvp
def _moments_jvp(terms: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Halves, Halves]:
    """`T_r'` is a sum of T_s, s < r."""
    (x,), (dx,) = primals, tangents
    even, odd = _weighed(x, dx, terms)
    by = _derivative(terms)
    return moments(x, terms), (jnp.asarray(by[0::2, 1::2], x.dtype) @ odd, jnp.asarray(by[1::2, 0::2], x.dtype) @ even)


def _weighed(x: Array, weight: Array, terms: int) -> Halves:
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
    return jnp.stack(sums[0::2]), jnp.stack(sums[1::2])


def _sums(arrays: list[Array]) -> list[Array]:
    """Over inputs. JAX has no derivative of it.

    On a CPU in one pass over all; a GPU has no room for one reduction of this many arrays, and its compiler fuses single ones.
    """

    def together(*arrays: Array) -> list[Array]:
        zeros = tuple(jnp.zeros((), x.dtype) for x in arrays)
        return list(jax.lax.reduce(arrays, zeros, lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)), (0,)))

    return jax.lax.platform_dependent(*arrays, cpu=together, default=lambda *arrays: [x.sum(0) for x in arrays])


def _derivative(terms: int) -> np.ndarray:
    """The coefficients of `T_r'`, in row r."""
    return np.pad(chebyshev.chebder(np.eye(terms), axis=1), ((0, 0), (0, 1)))


def points(terms: int) -> np.ndarray:
    """The positive half of R = `terms` Chebyshev points."""
    return np.cos(np.pi * (np.arange(terms // 2) + 0.5) / terms)


def coefficients(values: Array) -> Halves:
    """From the values of functions at the points, `(K, R/2)`."""
    terms = 2 * values.shape[1]
    angle, order = np.pi * (np.arange(terms // 2) + 0.5) / terms, np.arange(terms)[:, None]
    matrix = np.where(order == 0, 2, 4) / terms * np.cos(order * angle[None, :])
    even, odd = (jnp.asarray(matrix[start::2].T, values.real.dtype) for start in (0, 1))
    return values.real @ even, values.imag @ odd


def sums(coefficients: Halves, moments: Halves) -> Array:
    """`sum_j f(x_ij)`, complex, `(K, i)`."""
    return jax.lax.complex(coefficients[0] @ moments[0], coefficients[1] @ moments[1])


def pulled(coefficients: Halves, factor: Array) -> Halves:
    """The slopes of `Re sum_k factor_ki sum_j f_k(x_ij)` in the moments."""
    return coefficients[0].T @ factor.real, -coefficients[1].T @ factor.imag


def added(a: Halves, b: Halves) -> Halves:
    """Term by term."""
    return a[0] + b[0], a[1] + b[1]


def last_terms(coefficients: Halves, moments: Halves) -> Array:
    """The size of the last terms of each sum, `(K, i)`."""
    last = LAST // 2
    even, odd = (jnp.abs(x[:, -last:]) @ jnp.abs(y[-last:]) for x, y in zip(coefficients, moments, strict=True))
    return even + odd


def slope(series: Halves, x: Array) -> Array:
    """`sum_r A_ri T_r'(x_ij)` for A = `series`: the series of the derivative, by Clenshaw's recurrence."""
    terms = 2 * len(series[0])
    by = _derivative(terms)
    slopes = jnp.asarray(by[1::2, 0::2].T, x.dtype) @ series[1], jnp.asarray(by[0::2, 1::2].T, x.dtype) @ series[0]
    after, now = jnp.zeros_like(x), jnp.zeros_like(x)
    for r in range(terms - 2, 0, -1):
        after, now = now, 2 * x * now - after + slopes[r % 2][r // 2][None]
    return x * now - after + slopes[0][0][None]


def growth(series: Halves, moments: Halves) -> Array:
    """`sum_j x_ij sum_r A_ri T_r'(x_ij)`, from the moments alone: the slope in a common scale of all x."""
    terms = 2 * len(moments[0])
    times_x = (np.eye(terms, k=1) + np.eye(terms, k=-1)) / 2  # x T_s = (T_{s+1} + T_{|s-1|}) / 2
    times_x[0, 1] = 1
    by = _derivative(terms) @ times_x
    even, odd = (
        (a * (jnp.asarray(by[start::2, start::2], a.dtype) @ b)).sum(0)
        for start, a, b in zip((0, 1), series, moments, strict=True)
    )
    return even + odd
