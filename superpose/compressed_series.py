"""The series of `superpose.cosine_series` for many features of one density, with the product over features compressed.

On the nodes `w_k = k theta_i` of output i, the logarithm of a factor of the characteristic function is an analytic function of
`w_k g_ij`, so a Chebyshev series in `x_ij = theta_i g_ij / tau`, tau the largest, holds it for all j at once:

    sum_j f(w_k g_ij) = sum_r C_kr M_ri,   M_ri = sum_j T_r(x_ij),

with coefficients C from the values of f at R points, the same for all outputs. What took n^2 K complex factors takes n^2 R real
multiplications for the moments M, as many for the gradient, a polynomial in x_ij, and two small products of matrices. Each
output's own feature and its largest overlaps stay factors of their own: the range of x shrinks to what is left. All is of one
model, in arrays (input j, output i).

f is psi, for the terms with one active feature, and `D = log(1 + q psi) - q psi`, q = p / (1 - p), where few features are active
(`n q < 16`), elsewhere `log(1 - p + p psi)`: so terms with several active features keep their digits where p is small, p may be 1,
and nothing overflows that is to be multiplied with a chance of nobody active that has underflowed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose.cosine_series import (
    Interval,
    Rows,
    Square,
    Terms,
    chances,
    lifted,
    node_numbers,
    quotient,
    series_terms,
)
from superpose.ladder import kept, ladder, scaled
from superpose.magnitudes import UNIFORM, Magnitude
from superpose.sets import Sets, combine, product

FEWEST = 32
"""Features from which it is the faster way."""
LARGE = 4
"""Overlaps of each output that stay factors of their own: an antipodal partner, the rest of a pentagon."""
TERMS = 32
"""Chebyshev terms at most. The fewer nodes, the lower their frequencies: two terms for three nodes err less than the nodes do."""
STRIDE = 8
"""Moments come from products of the first so many polynomials with every so-manieth; even, and a divisor of R."""
FEW = 16
"""Up to so many active features, `n p / (1 - p)`, terms with none and one are taken out before the exponential."""


def terms_for(nodes: int) -> int:
    """Chebyshev terms R for so many nodes: 16 up to 24, 24 up to 36."""
    return min(TERMS, max(16, 8 * -(-nodes // 12)))


def applies(sets: Sets, law: Magnitude) -> bool:
    """Whether the features are independent, of one density, uniform, and many."""
    return sets.kind == "independent" and sets.equal and law.name == "uniform" and len(sets.number) >= FEWEST


class Bulk(NamedTuple):
    """What the compressed features add to each node, and how it changes with their overlaps."""

    x: Array  # scaled overlaps (j, i), 0 for those that are factors of their own
    moments: Array  # (R, i)
    psi: tuple[Array, Array]  # Chebyshev coefficients of the real and imaginary part of psi, (K, R/2)
    log: tuple[Array, Array]  # and of D or log(1 - p + p psi)
    split: tuple[Array, Array, Array]  # (idle, one, rest) of their product


def _large(gram: Square) -> tuple[Array, Square]:
    """The own feature and the `LARGE` largest overlaps of each output, `(1 + LARGE, i)`; |g| of the others, -1 for these."""
    size = jax.lax.stop_gradient(jnp.abs(gram))
    row = jnp.arange(len(gram), dtype=jnp.int32)[:, None]
    chosen = [row[:, 0]]
    for k in range(1 + LARGE):
        size = jnp.where(row == chosen[-1][None], -1, size)
        if k < LARGE:
            chosen.append(
                jnp.where(size == size.max(0)[None], row, len(gram)).min(0)
            )  # argmax, which XLA does not vectorise
    return jnp.stack(chosen), size


def _chebyshev_moments(x: Square, skipped: int, terms: int) -> Array:
    """`sum_j T_r(x_ij)`, r < terms, without the `skipped` features of each output, whose x is 0.

    From `2 T_a T_b = T_{a+b} + T_{b-a}` and the sums of products of T_0 .. T_7 with T_0, T_8, T_16, ..: in one pass over x, which
    stores no polynomial, and with short chains of operations.
    """
    near = [jnp.ones_like(x), x]
    for _ in range(2, STRIDE):
        near.append(2 * x * near[-1] - near[-2])
    far, step = [near[0]], 2 * near[STRIDE // 2] ** 2 - 1
    for _ in range(STRIDE, terms, STRIDE):
        far.append(step if len(far) == 1 else 2 * step * far[-1] - far[-2])
    products = _sums_of([a * b for b in far for a in near])
    sums = products[:STRIDE]
    for k in range(STRIDE, terms, STRIDE):
        sums += [products[k], *(2 * products[k + a] - sums[k - a] for a in range(1, STRIDE))]
    at_zero = np.cos(np.arange(terms) * np.pi / 2).round()
    return jnp.stack(sums) - jnp.asarray(skipped * at_zero, x.dtype)[:, None]


@jax.custom_jvp
def _sums_of(arrays: list[Array]) -> list[Array]:
    """Each summed over its first axis, in one pass over all."""
    zeros = [jnp.zeros((), x.dtype) for x in arrays]
    return list(jax.lax.reduce(arrays, zeros, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (0,)))


@_sums_of.defjvp
def _sums_of_jvp(primals: tuple[list], tangents: tuple[list]) -> tuple[list[Array], list[Array]]:
    """As sums are; JAX has no rule for a reduction of several arrays of which some do not change."""
    return _sums_of(*primals), _sums_of(*tangents)


def _points(terms: int) -> tuple[np.ndarray, np.ndarray]:
    """The positive half of the R = `terms` Chebyshev points, and the matrix from values there to coefficients, `(R, R/2)`.

    `f(-x) = conj f(x)`: even coefficients are those of the real part, odd ones i times those of the imaginary part.
    """
    angle = np.pi * (np.arange(terms // 2) + 0.5) / terms
    order = np.arange(terms)[:, None]
    return np.cos(angle), np.where(order == 0, 2, 4) / terms * np.cos(order * angle[None, :])


def _coefficients(f: Array) -> tuple[Array, Array]:
    """From values at the points, `(K, R/2)`, those of even orders of the real, of odd orders of the imaginary part."""
    matrix = jnp.asarray(_points(2 * f.shape[1])[1], f.real.dtype)
    return f.real @ matrix[0::2].T, f.imag @ matrix[1::2].T


def _sums(coefficients: tuple[Array, Array], moments: Array) -> Array:
    """`sum_r C_kr M_ri`, complex, `(K, i)`."""
    return jax.lax.complex(coefficients[0] @ moments[0::2], coefficients[1] @ moments[1::2])


def _idle(p: Array, count: int) -> Array:
    """`(1 - p)^count`, without the rounding of 1 - p."""
    return jnp.exp(count * jnp.log1p(-p))


def _odds(p: Array, count: int) -> tuple[Array, Array]:
    """Whether few of `count` features are active; and `q = p / (1 - p)` there, 0 elsewhere."""
    few = p * count < FEW * (1 - p)
    return few, jnp.where(few, p / jnp.where(few, 1 - p, 1), 0)


def _chosen(few: Array, if_few: Callable, if_many: Callable, *arguments: Any) -> Array:
    """One of two complex results; a CPU works out that one alone, real and imaginary parts apart, as that vectorises."""
    parts = [lambda *x, f=f: ((z := f(*x)).real, z.imag) for f in (if_few, if_many)]
    return jax.lax.complex(*jax.lax.cond(few, *parts, *arguments))


def _log1p(z: Array) -> Array:
    """`log(1 + z)` for complex z, by the real `log1p` near 1: what is rounded there comes with every feature."""
    square, size = 2 * z.real + z.real**2 + z.imag**2, jnp.hypot(1 + z.real, z.imag)
    near, far = jnp.log1p(jnp.maximum(square, -0.5)) / 2, jnp.log(jnp.maximum(size, jnp.finfo(size.dtype).tiny))
    return jax.lax.complex(jnp.where(jnp.abs(square) < 0.5, near, far), jnp.arctan2(z.imag, 1 + z.real))


def _log1p_less(z: Array) -> Array:
    """`log(1 + z) - z`, by its power series where |z| is small."""
    near = jnp.where(jnp.abs(z) < 0.1, z, 0)
    series = jnp.zeros_like(z)
    for power in range(12, 1, -1):
        series = near * series + (-1.0) ** (power + 1) / power
    return jnp.where(jnp.abs(z) < 0.1, series * near * near, _log1p(z) - z)


def _bulk(p: Array, theta: Rows, gram: Square, size: Square, k: Array) -> tuple[Bulk, Array]:
    """The compressed part, and the scale `theta_i / tau` of x."""
    count = len(gram) - 1 - LARGE
    tau = jax.lax.stop_gradient(jnp.maximum((theta * size.max(0)).max(), jnp.finfo(gram.dtype).tiny ** 0.25))
    scale = theta / tau
    x = jnp.where(size < 0, 0, scale[None] * gram)
    terms = terms_for(len(k))
    moments = _chebyshev_moments(x, 1 + LARGE, terms)
    rung = ladder(UNIFORM, tau * jnp.asarray(_points(terms)[0], gram.dtype), 0)
    psi = jax.lax.scan(rung.step, rung.start, k)[1][0]
    few, q = _odds(p, len(gram))
    log_of_factor = _chosen(few, lambda psi: _log1p_less(scaled(q, psi)), lambda psi: _log1p(scaled(p, psi - 1)), psi)
    of_psi, of_log = _coefficients(psi), _coefficients(log_of_factor)
    single, log = _sums(of_psi, moments), _sums(of_log, moments)
    idle, other = _idle(p, count), p * _idle(p, count - 1)
    one = scaled(other, single)

    def rest_of_few(single: Array, log: Array) -> Array:
        added = scaled(q, single)
        return scaled(idle, _expm1(added + log) - added)

    def rest_of_many(single: Array, log: Array) -> Array:  # noqa: ARG001
        whole = jnp.exp(jax.lax.complex(jnp.minimum(log.real, 0), log.imag)) - one
        return jax.lax.complex(whole.real - idle, whole.imag)

    return Bulk(x, moments, of_psi, of_log, (idle, one, _chosen(few, rest_of_few, rest_of_many, single, log))), scale


def _expm1(z: Array) -> Array:
    """`e^z - 1` for complex z; digits are kept where z is small."""
    grown, sine, cosine = jnp.expm1(z.real), jnp.sin(z.imag / 2), jnp.cos(z.imag / 2)
    return jax.lax.complex(grown - 2 * (1 + grown) * sine**2, 2 * (1 + grown) * sine * cosine)


class Passed(NamedTuple):
    """The nodes' terms, and all that the slopes are made from."""

    terms: Terms
    bulk: Bulk
    scale: Array
    large: Array
    explicit: tuple[Array, Array]  # psi and psi' of the large overlaps, (K, 1 + LARGE, i)
    polynomial: Array  # d loss_i / d M_ri, (R, i)


def _pass(sets: Sets, law: Magnitude, gram: Square, b: Rows, span: Interval, k: Array) -> Passed:
    theta, p = jnp.pi / (span.c - span.a), sets.density[0]
    large, size = _large(gram)
    overlaps = jnp.take_along_axis(gram, large, axis=0)
    bulk, scale = _bulk(p, theta, gram, size, k)
    rung = ladder(law, theta[None] * overlaps, 2)
    psi, dpsi, ddpsi = jax.lax.scan(rung.step, rung.start, k)[1]
    idle = jnp.broadcast_to(1 - p, (1 + LARGE, 1, 1))
    active = scaled(p, jnp.moveaxis(psi, 1, 0))
    explicit = (_idle(p, 1 + LARGE), *product(idle, active))
    _, one, rest = combine(explicit, bulk.split)
    one, rest = kept((one, rest))
    own = [values[:, :1] for values in (psi, dpsi, ddpsi)]
    one_model = jax.tree.map(lambda x: x[..., None], (chances(sets), b, span, (one, rest), own))
    chance, offset, interval, products, of_own = one_model
    terms = series_terms(lifted(sets, *chance), offset, interval, k, products, of_own)
    terms = kept(jax.tree.map(lambda x: x[..., 0], terms))
    w = k[:, None] * theta[None]
    of_square, of_cross = scaled(1 / w, terms.square_factor), scaled(1 / w, terms.cross_factor)
    few, q = _odds(p, len(gram))
    all_ = of_square * jax.lax.complex(terms.more.real + _idle(p, len(gram)), terms.more.imag) + of_cross
    rare = scaled(q, of_square * terms.more + of_cross)
    single = jnp.where(few, rare, scaled(-p * sets.others_idle[0], of_square))
    polynomial = _transposed(bulk.psi, single) + _transposed(bulk.log, all_)
    return Passed(terms, bulk, scale, large, (psi, dpsi), polynomial)


def _transposed(coefficients: tuple[Array, Array], factor: Array) -> Array:
    """`Re sum_k C_kr factor_ki`, orders interleaved again, `(R, i)`."""
    even, odd = coefficients[0].T @ factor.real, -coefficients[1].T @ factor.imag
    return jnp.stack([even, odd], 1).reshape(-1, even.shape[1])


def _polynomial_slope(coefficients: Array, x: Square) -> Square:
    """`sum_r A_ri T_r'(x_ij)`: the series of the derivative, by Clenshaw's recurrence."""
    r = np.arange(len(coefficients))
    derivative = np.where((r[None, :] > r[:, None]) & ((r[None, :] - r[:, None]) % 2 == 1), 2.0 * r[None, :], 0)
    derivative[0] /= 2
    slope = jnp.asarray(derivative, x.dtype) @ coefficients
    after, now = jnp.zeros_like(x), jnp.zeros_like(x)
    for s in range(len(r) - 2, 0, -1):
        after, now = now, 2 * x * now - after + slope[s][None]
    return x * now - after + slope[0][None]


def node_values(sets: Sets, law: Magnitude, gram: Square, b: Rows, span: Interval, *, nodes: int) -> tuple[Array, Array]:
    """What each node adds to each output, `(nodes, n)`; and `sum_r |A_ri M_ri|` over the last quarter of terms, `(n,)`."""
    done = _pass(sets, law, gram.T, b, span, node_numbers(nodes, gram))
    last = slice(3 * len(done.polynomial) // 4, None)
    return done.terms.value, jnp.abs(done.polynomial[last] * done.bulk.moments[last]).sum(0)


def value_and_slopes(
    sets: Sets, law: Magnitude, gram: Square, b: Rows, span: Interval, *, nodes: int
) -> tuple[Rows, Square, Rows]:
    """As `cosine_series.value_and_slopes`."""
    done = _pass(sets, law, gram.T, b, span, node_numbers(nodes, gram))
    slopes = done.scale[None] * _polynomial_slope(done.polynomial, done.bulk.x)
    return done.terms.value.sum(0), _with_large(sets, done, slopes).T, done.terms.bias.sum(0)


def _with_large(sets: Sets, done: Passed, slopes: Square) -> Square:
    """Put in the slopes of the large overlaps, which are those of the direct product."""
    terms, (psi, dpsi), p = done.terms, done.explicit, sets.density[0]
    active, others = scaled(p, psi), sets.others_idle[0]
    total = jax.lax.complex(1 - p + active.real, active.imag)
    elsewhere = jnp.asarray(np.arange(1 + LARGE) > 0, slopes.dtype)[None, :, None]
    factor = terms.square_factor[:, None] * (terms.more[:, None] - scaled(others, active))
    factor = quotient(factor + scaled(elsewhere, terms.cross_factor[:, None]), total)
    exact = (factor * scaled(p, dpsi)).real.sum(0)
    exact = exact.at[0].add(terms.own_slopes[0].sum(0))
    return slopes.at[done.large, np.indices(exact.shape)[1]].set(exact)
