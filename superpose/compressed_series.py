"""The series of `superpose.fourier_series` for many features of one density, with the product over features compressed.

On the nodes `w_k = k theta_i` of output i, a factor `1 + q` of the product and its logarithm are analytic functions of
`w_k g_ij`, so a Chebyshev series in `x_ij = theta_i g_ij / tau`, tau the largest, holds them for all j at once:

    sum_j f(w_k g_ij) = sum_r C_kr M_ri,   M_ri = sum_j T_r(x_ij),

with coefficients C from the values of f at R points, the same for all outputs. What took n^2 K complex factors takes n^2 R real
multiplications for the moments M, as many for the gradient, a polynomial in x_ij, and two small products of matrices. Each
output's own feature and its largest overlaps stay factors of their own: the range of x shrinks to what is left. All is of one
model, in arrays (input j, output i).

f is q, for the terms with one active feature, and `log(1 + q) - q`: so terms with several active features keep their digits where
p is small. The series converges fast while R is above `K tau`, but for features that are active more often than not, whose log
has singularities nearby. So what its last terms add is held against what the nodes leave out, and where it is more, as for weights
with many large overlaps to each output, the direct product takes over.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose import fourier_series, many_inputs
from superpose.column_sums import sums_of
from superpose.fourier_series import (
    Factors,
    Slopes,
    Terms,
    by_share,
    node_numbers,
    q_of,
    quotient,
    series_terms,
    slopes_of,
    turns,
)
from superpose.ladder import kept, ladder, scaled
from superpose.magnitudes import UNIFORM, Magnitude
from superpose.period import Period
from superpose.sets import Sets, combine, product
from superpose.shares import SMALLEST, Shares, left_of, most

FEWEST = 32
"""Features from which it is the faster way."""
LARGE = 4
"""Overlaps of each output that stay factors of their own: an antipodal partner, the rest of a pentagon."""
STRIDE = 8
"""Moments come from products of the first so many polynomials with every so-manieth; even, and a divisor of R."""
SPREAD = 32.0
"""Of the shares: wide enough that R terms hold them where they hold psi."""
LAST = 4
"""Terms at the end of a Chebyshev series that tell its error."""
ALLOWED = 0.1
"""The last terms of the Chebyshev series may add this times `nodes^-3 E x^2`: a tenth of that is seen as its error."""


def terms_for(nodes: int) -> int:
    """Chebyshev terms R for so many nodes."""
    return STRIDE * -(-(16 + 3 * nodes // 2) // STRIDE)


def applies(sets: Sets, law: Magnitude) -> bool:
    """Whether the features are independent, of one density, uniform, and many."""
    return sets.kind == "independent" and sets.equal and law.name == "uniform" and len(sets.number) >= FEWEST


class Large(NamedTuple):
    """Each output's own feature and its `LARGE` largest overlaps: which, `(1 + LARGE, i)`; |g| of the others, -1 for these."""

    index: Array
    size: Array


def _large(g: Array) -> Large:
    size = jax.lax.stop_gradient(jnp.abs(g))
    row = jnp.arange(len(g), dtype=jnp.int32)[:, None]
    chosen = [row[:, 0]]
    for k in range(1 + LARGE):
        size = jnp.where(row == chosen[-1][None], -1, size)
        if k < LARGE:
            chosen.append(jnp.where(size == size.max(0)[None], row, len(g)).min(0))  # argmax, which XLA does not vectorise
    return Large(jnp.stack(chosen), size)


def _chebyshev_moments(x: Array, skipped: int, terms: int) -> Array:
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
    products = sums_of([a * b for b in far for a in near])
    sums = products[:STRIDE]
    for k in range(STRIDE, terms, STRIDE):
        sums += [products[k], *(2 * products[k + a] - sums[k - a] for a in range(1, STRIDE))]
    at_zero = np.cos(np.arange(terms) * np.pi / 2).round()
    return jnp.stack(sums) - jnp.asarray(skipped * at_zero, x.dtype)[:, None]


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


def _expm1(z: Array) -> Array:
    """`e^z - 1` for complex z; digits are kept where z is small."""
    grown, sine, cosine = jnp.expm1(z.real), jnp.sin(z.imag / 2), jnp.cos(z.imag / 2)
    return jax.lax.complex(grown - 2 * (1 + grown) * sine**2, 2 * (1 + grown) * sine * cosine)


class Bulk(NamedTuple):
    """What the compressed features add to each node, and how it changes with their overlaps."""

    x: Array  # scaled overlaps (j, i), 0 for those that are factors of their own
    scale: Array  # theta_i / tau
    moments: Array  # (R, i)
    of_q: tuple[Array, Array]  # Chebyshev coefficients of the real and imaginary part of q, (K, R/2)
    of_log: tuple[Array, Array]  # and of log(1 + q) - q
    product: tuple[Array, Array]  # sum q, and the rest of prod (1 + q)


def _bulk(p: Array, theta: Array, g: Array, large: Large, k: Array) -> Bulk:
    tau = (jax.lax.stop_gradient(theta) * jnp.maximum(large.size.max(0), 0)).max()
    tau = jnp.maximum(tau, 1e-3)  # powers of theta / tau must not overflow where all these overlaps are almost 0
    scale = theta / tau
    x = jnp.where(large.size < 0, 0, scale[None] * g)
    terms = terms_for(len(k))
    moments = _chebyshev_moments(x, 1 + LARGE, terms)
    points = jnp.asarray(_points(terms)[0], g.dtype)
    rung = ladder(UNIFORM, tau * points, 0)
    psi = jax.lax.scan(rung.step, rung.start, k)[1][0]
    left = jnp.minimum(p, most(len(g))) * -jnp.expm1(-((len(k) * tau * points) ** 2) / SPREAD)
    c = (1 - left)[None]
    q = jax.lax.complex((p * (psi.real - 1) + left[None]) / c, p * psi.imag / c)
    of_q, of_log = _coefficients(q), _coefficients(_log1p_less(q))
    one, log = _sums(of_q, moments), _sums(of_log, moments)
    grown = one + log
    largest = -1.1 * math.log(SMALLEST)  # of 1 over the product of c
    rest = _expm1(jax.lax.complex(jnp.minimum(grown.real, largest), grown.imag)) - one
    return Bulk(x, scale, moments, of_q, of_log, (one, rest))


class Passed(NamedTuple):
    """The nodes' terms, and all that the slopes are made from."""

    terms: Terms
    taken: Shares  # of the large overlaps, (1 + LARGE, i)
    bulk: Bulk
    large: Array
    explicit: tuple[Array, Array, Array]  # psi, psi' and q of the large overlaps, (K, 1 + LARGE, i)
    polynomial: Array  # d loss_i / d M_ri, (R, i)
    holds: Array  # whether the Chebyshev series does
    density: Array


def _pass(sets: Sets, law: Magnitude, log: Array, g: Array, b: Array, span: Period, nodes: int) -> Passed:
    k, theta, p = node_numbers(nodes, g), 2 * np.pi / span.length, sets.density[0]
    large = _large(g)
    overlaps = jnp.take_along_axis(g, large.index, axis=0)
    left = left_of(p, nodes * theta[None] * overlaps, len(b), SPREAD)
    taken = Shares(left, 1 - left, log, jnp.exp(log)[None] / (1 - left))
    bulk = _bulk(p, theta, g, large, k)
    rung = ladder(law, theta[None] * overlaps, 2)
    psi, dpsi, ddpsi = jax.lax.scan(rung.step, rung.start, k)[1]
    q = q_of(sets, Factors((p / taken.c)[None], ((left - p) / taken.c)[None]), psi)
    products = kept(combine(product(jnp.moveaxis(q, 1, 0)), bulk.product))
    first = sets._replace(number=np.zeros(len(b), int))  # each output's own feature is the first of the large ones
    terms = kept(series_terms(first, taken, turns(b, span, k), span, k, products, [x[:, :1] for x in (psi, dpsi, ddpsi)]))
    of_one = terms.square * terms.every + terms.cross
    polynomial = _transposed(bulk.of_q, of_one) + _transposed(bulk.of_log, of_one + terms.square)
    holds = _holds(p * law.moments[1], bulk, of_one, of_one + terms.square)
    return Passed(terms, taken, bulk, large.index, (psi, dpsi, q), polynomial, holds, p)


def _holds(square: Array, bulk: Bulk, of_one: Array, of_log: Array) -> Array:
    """Whether the last Chebyshev terms of the sums of q and of log(1 + q) - q, times what these enter with, are small enough."""

    def last(coefficients: tuple[Array, Array]) -> Array:
        half, moments = LAST // 2, jnp.abs(bulk.moments[-LAST:])
        even, odd = (jnp.abs(x[:, -half:]) for x in coefficients)
        return even @ moments[0::2] + odd @ moments[1::2]

    error = (jnp.abs(of_one) * last(bulk.of_q) + jnp.abs(of_log) * last(bulk.of_log)).sum()
    share = max(ALLOWED * len(of_one) ** -3.0, 100 * float(jnp.finfo(error.dtype).eps))
    return error <= share * square * of_one.shape[1]


def _transposed(coefficients: tuple[Array, Array], factor: Array) -> Array:
    """`Re sum_k C_kr factor_ki`, orders interleaved again, `(R, i)`."""
    even, odd = coefficients[0].T @ factor.real, -coefficients[1].T @ factor.imag
    return jnp.stack([even, odd], 1).reshape(-1, even.shape[1])


def _polynomial_slope(coefficients: Array, x: Array) -> Array:
    """`sum_r A_ri T_r'(x_ij)`: the series of the derivative, by Clenshaw's recurrence."""
    r = np.arange(len(coefficients))
    derivative = np.where((r[None, :] > r[:, None]) & ((r[None, :] - r[:, None]) % 2 == 1), 2.0 * r[None, :], 0)
    derivative[0] /= 2
    slope = jnp.asarray(derivative, x.dtype) @ coefficients
    after, now = jnp.zeros_like(x), jnp.zeros_like(x)
    for s in range(len(r) - 2, 0, -1):
        after, now = now, 2 * x * now - after + slope[s][None]
    return x * now - after + slope[0][None]


def _chosen(holds: Array, found: Any, direct: Any, g: Array, b: Array) -> Any:
    """What the compressed series has found, where it holds; else the direct one."""
    return jax.lax.cond(holds, lambda found, g, b: found, lambda found, g, b: direct(g, b), found, g, b)  # noqa: ARG005


def losses(sets: Sets, law: Magnitude, g: Array, b: Array, *, nodes: int) -> Array:
    """As `fourier_series.losses`, of one model."""
    known, span = many_inputs.known(sets, law, g, b, nodes=nodes, spread=SPREAD)
    done = _pass(sets, law, known.log, g, b, span, nodes)
    direct = partial(fourier_series.series, sets, law, span, nodes=nodes, spread=SPREAD)
    return known.closed + _chosen(done.holds, done.terms.value.sum(0), direct, g, b)


def losses_and_slopes(sets: Sets, law: Magnitude, g: Array, b: Array, *, nodes: int) -> tuple[Array, Array, Array]:
    """As `fourier_series.losses_and_slopes`, of one model."""
    known, pull, span = jax.vjp(
        lambda g, b: many_inputs.known(sets, law, g, b, nodes=nodes, spread=SPREAD), g, b, has_aux=True
    )
    done = _pass(sets, law, known.log, g, b, span, nodes)

    def direct(g: Array, b: Array) -> tuple[Slopes, Array]:
        found = fourier_series.series_and_slopes(sets, law, span, g, b, nodes=nodes, spread=SPREAD)
        return found, jnp.zeros_like(found.value)

    found, by_log = _chosen(done.holds, _slopes(sets, done, span, nodes, g, b), direct, g, b)
    by_g, by_b = pull(many_inputs.Known(jnp.ones_like(b), *kept((found.length, by_log))))
    return known.closed + found.value, by_g + found.overlap, by_b + found.bias


def _slopes(sets: Sets, done: Passed, span: Period, nodes: int, g: Array, b: Array) -> tuple[Slopes, Array]:
    """The series' value and slopes, and that in `log prod c`, which is all of the shares that compressed features enter with."""
    slopes = done.bulk.scale[None] * _polynomial_slope(done.polynomial, done.bulk.x)
    held, by_c = _of_large(done, span)
    at = done.large, np.arange(len(g))
    found = slopes_of(span, g, b, done.terms, slopes.at[at].set(held))
    overlaps = jnp.take_along_axis(g, done.large, axis=0)
    _, pull = jax.vjp(
        lambda g, T: left_of(sets.density[0], 2 * np.pi * nodes / T[None] * g, len(b), SPREAD), overlaps, span.length
    )
    by_g, by_length = pull(found.value[None] / done.taken.c - by_c)
    return found._replace(overlap=found.overlap.at[at].add(by_g), length=found.length + by_length), found.value


def _of_large(done: Passed, span: Period) -> tuple[Array, Array]:
    """Slopes in the large overlaps, shares held, and slopes in their shares; shapes (1 + LARGE, i)."""
    terms, (_, dpsi, q) = done.terms, done.explicit
    c = done.taken.c
    gain = done.density / c
    elsewhere = jnp.asarray(np.arange(1 + LARGE) > 0, gain.dtype)[None, :, None]
    pulled = terms.square[:, None] * (terms.every[:, None] - q) + scaled(elsewhere, terms.cross[:, None])
    pulled = quotient(pulled, jax.lax.complex(q.real + 1, q.imag))
    w = node_numbers(len(q), gain)[:, None] * (2 * np.pi / span.length)[None]
    held = gain * ((pulled * dpsi).real * w[:, None]).sum(0)
    weighed = (terms.square[:, None] * q).real.sum(0)
    return held.at[0].add(terms.own_slopes[0].sum(0)), by_share(terms, weighed, elsewhere[0], c)
