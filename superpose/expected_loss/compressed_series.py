"""The series of `fourier_series` for many features of one density, with sums over features compressed.

On the nodes `w_k = k theta_i` of output i, a factor `1 + q` of the product and its logarithm are analytic functions of
`w_k g_ij`, so a Chebyshev series in `x_ij = theta_i g_ij / tau`, tau the largest, holds them for all j at once:

    sum_j f(w_k g_ij) = sum_r C_kr M_ri,   M_ri = sum_j T_r(x_ij),

with coefficients C from the values of f at R points, the same for all outputs. What took n^2 K complex factors takes n^2 R real
multiplications for the moments M, as many for the gradient, a polynomial in x_ij, and two small products of matrices. Each
output's own feature and its largest overlaps stay factors of their own: the range of x shrinks to what is left. All is of one
model, in arrays (input j, output i).

f is q, for the terms with one active feature, and `log(1 + q) - q`: so terms with several active features keep their digits where
p is small. Sums of shares, which are functions of `w_K g_ij`, come from the same moments. The series converges fast while R is
above `K tau`, but for features that are active more often than not, whose log has singularities nearby. So what its last terms
add is held against what the nodes leave out, and where it is more, as for weights with many large overlaps to each output, the
direct product takes over.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose._jax.complex_numbers import expm1, log1p_less, quotient, scaled
from superpose._jax.models_last import chosen
from superpose._jax.stored import kept
from superpose.expected_loss import chebyshev, fourier_series
from superpose.expected_loss.compressed_sums import (
    SPREAD,
    Later,
    Reach,
    Single,
    Split,
    Sums,
    Taken,
    closed_part,
    diagonal,
    faded,
    period,
    reach_of,
    reach_slope,
    single,
    single_slope,
    size_of,
    split,
    sums,
    sums_slope,
    taken_by,
    turning_up,
    turning_up_slope,
    with_own,
    without_own,
)
from superpose.expected_loss.fourier_series import (
    Factors,
    Mine,
    Slopes,
    Terms,
    apart,
    by_part,
    by_share,
    highest,
    node_numbers,
    q_of,
    series_terms,
    slopes_of,
    turns,
)
from superpose.expected_loss.groups import Groups, combine, product
from superpose.expected_loss.own_feature import Aside
from superpose.expected_loss.period import Period
from superpose.expected_loss.shares import SMALLEST, Shares, left_of, part_of
from superpose.features import Magnitude

FEWEST = 32
"""Features from which it is the faster way."""
LARGE = 4
"""Overlaps of each output that stay factors of their own: an antipodal partner, the rest of a pentagon."""
ALLOWED = 0.1
"""The last terms of the Chebyshev series may add this times `nodes^-3 E x^2`: a tenth of that is seen as its error."""
FARTHEST = 10.0
"""The largest tau: beyond, what a share does near 0 falls between the points, and no last term tells."""


def terms_for(nodes: int) -> int:
    """Chebyshev terms R for so many nodes."""
    return chebyshev.STRIDE * -(-(16 + 3 * nodes // 2) // chebyshev.STRIDE)


def applies(groups: Groups, law: Magnitude) -> bool:
    """Whether outputs are to give features, which are independent, of one density, of a law that compresses, and many.

    Moments without targets have Hessians that take a third derivative, which is off here.
    """
    return groups.targets and groups.independent and groups.equal and law.compresses and len(groups.density) >= FEWEST


class Large(NamedTuple):
    """Each output's own feature and its `LARGE` largest overlaps: which, `(1 + LARGE, i)`; the largest |g| of the others.

    `compressed` (j, i) says which are the others.
    """

    index: Array
    compressed: Array
    rest: Array


def _large(g: Array) -> Large:
    """By a key, |g| with the row in its last digits: no two are equal, and a maximum tells where it is."""
    real, whole = g.dtype, jnp.int64 if g.dtype == jnp.float64 else jnp.int32
    row = jnp.arange(len(g), dtype=whole)
    digits = 2 ** math.ceil(math.log2(len(g))) - 1
    bits = jax.lax.bitcast_convert_type(jnp.abs(jax.lax.stop_gradient(g)) + 1, whole)
    key = jax.lax.bitcast_convert_type((bits & ~digits) | row[:, None], real)
    key = jnp.where(row[:, None] == row[None], 0, key)
    chosen = [kept(key.max(0))]
    for _ in range(LARGE - 1):
        chosen.append(kept(jnp.where(key < chosen[-1][None], key, 0).max(0)))
    index = [row] + [jax.lax.bitcast_convert_type(x, whole) & digits for x in chosen]
    compressed = (key < chosen[-1][None]) & (key > 0)
    rest = jnp.where(compressed, jnp.abs(jax.lax.stop_gradient(g)), 0).max(0)
    return Large(jnp.stack(index).astype(jnp.int32), compressed, rest)


class Bulk(NamedTuple):
    """What the compressed features add to each node, and how it changes with their overlaps."""

    x: Array  # scaled overlaps (j, i), 0 for those that are factors of their own
    tau: Array  # x = theta g / tau
    moments: chebyshev.Halves  # (R/2, i)
    of_q: chebyshev.Halves  # (K, R/2)
    of_log: chebyshev.Halves  # of log(1 + q) - q
    of_shares: chebyshev.Halves  # (4, R/2); see _share_functions
    product: tuple[Array, Array]  # sum q, and the rest of prod (1 + q)
    shares: tuple[Array, Array]  # sums of the real and of the imaginary parts, (4, i)


def _bulk(law: Magnitude, p: Array, theta: Array, g: Array, large: Large, k: Array) -> Bulk:
    tau = (jax.lax.stop_gradient(theta) * large.rest).max()
    tau = jnp.maximum(tau, 1e-3)  # powers of theta / tau must not overflow where all these overlaps are almost 0
    x = jnp.where(large.compressed, kept(theta / tau)[None] * g, 0)
    terms = terms_for(len(k))
    even, odd = chebyshev.moments(x, terms)
    skipped = (1 + LARGE) * (-1.0) ** np.arange(terms // 2)  # T_r(0)
    moments = even - jnp.asarray(skipped, x.dtype)[:, None], odd
    points = jnp.asarray(chebyshev.points(terms), g.dtype)
    rung = law.recurrence(tau * points, 0)
    psi = jax.lax.scan(rung.step, rung.start, k)[1][0]
    left = left_of(p, len(k) * tau * points, len(g), SPREAD)
    c = (1 - left)[None]
    q = jax.lax.complex((p * (psi.real - 1) + left[None]) / c, p * psi.imag / c)
    parts = kept((q, log1p_less(q), _share_functions(left, points)))
    of_q, of_log, of_shares = (chebyshev.coefficients(f) for f in parts)
    one, log, shares = (chebyshev.sums(f, moments) for f in (of_q, of_log, of_shares))
    grown = one + log
    largest = -1.1 * math.log(SMALLEST)  # of 1 over the product of c
    rest = expm1(jax.lax.complex(jnp.minimum(grown.real, largest), grown.imag)) - one
    return Bulk(x, tau, moments, of_q, of_log, of_shares, (one, rest), (shares.real, shares.imag))


def _share_functions(left: Array, x: Array) -> Array:
    """What `compressed_sums.Taken` sums over features, of even and of odd order in x beside each other, `(4, R/2)`."""
    log, ratio, first, second, third, fourth = taken_by(left, x)
    odd, none = (first, third), jnp.zeros_like(log)
    even = (log, ratio, second, fourth)
    return jnp.stack([jax.lax.complex(x, y) for x, y in zip(even, (*odd, none, none), strict=True)])


def _taken(bulk: tuple[Array, Array], scale: Array, large: Array, overlaps: Array) -> Taken:
    """Of all features, from the sums of the compressed ones, and 1 - c of the others."""
    (log, ratio, second, fourth), (first, third, *_) = bulk
    compressed = Taken(log, ratio, first / scale, second / scale**2, third / scale**3, fourth / scale**4)
    return Taken(*(x + y.sum(0) for x, y in zip(compressed, taken_by(large, overlaps), strict=True)))


class Closed(NamedTuple):
    """What the closed part of the losses is made from, beside p."""

    length: Array  # of the period
    b: Array
    overlaps: Array  # the large ones, (1 + LARGE, i)
    given: Split
    shares: tuple[Array, Array]  # of the compressed features
    alone: Array
    part: Array


class Passed(NamedTuple):
    """The loss in its two parts, and all that the slopes are made from."""

    closed: Array
    series: Array
    by_closed: Closed  # slopes of the whole loss in these, the series' shares of compressed features held
    terms: Terms
    taken: Shares  # of the large overlaps, (1 + LARGE, i)
    bulk: Bulk
    large: Array  # which, (1 + LARGE, i)
    overlaps: Array
    explicit: tuple[Array, Array, Array]  # psi, psi' and q of the large overlaps, (K, 1 + LARGE, i)
    of_series: chebyshev.Halves  # d loss_i / d M_ri
    of_shares: chebyshev.Halves
    holds: Array  # whether the Chebyshev series does
    fade: Array
    single: Single
    later: Later
    by_later: tuple[Array, Array]
    span: Period
    density: Array
    own: Aside


def _pass(groups: Groups, law: Magnitude, g: Array, b: Array, given: Split, span: Period, nodes: int) -> Passed:
    k, theta, p = node_numbers(nodes, g), 2 * np.pi / span.length, groups.density[0]
    w = kept(highest(span, nodes))
    fade = kept(faded(g, w))
    alone, found = single(law, p, g, b, w, fade, given.own), turning_up(law, p, g, w, fade)
    part, to_later = jax.vjp(part_of, found.count, found.drift)
    large = _large(g)
    overlaps = kept(jnp.take_along_axis(g, large.index, axis=0))
    bulk = _bulk(law, p, theta, g, large, k)
    left = left_of(p, nodes * theta[None] * overlaps, len(b), SPREAD)

    def closed_from(x: Closed) -> tuple[Array, Array]:
        w = 2 * np.pi / x.length
        large = left_of(p, nodes * w[None] * x.overlaps, len(b), SPREAD)
        taken = _taken(x.shares, w / bulk.tau, large, x.overlaps)
        moved = span._replace(length=x.length)
        closed = closed_part(law, p, moved, x.b, x.given, taken, x.alone, x.part, nodes=nodes)
        return closed, taken.log

    (closed, log), pull = jax.vjp(closed_from, Closed(span.length, b, overlaps, given, bulk.shares, alone.value, part))
    taken = Shares(left, 1 - left, log, jnp.exp(log)[None] / (1 - left), part)
    rung = law.recurrence(theta[None] * overlaps, 2)
    psi, dpsi, ddpsi = jax.lax.scan(rung.step, rung.start, k)[1]
    q = q_of(Factors((p / taken.c)[None], ((left - p) / taken.c)[None]), psi)
    products = kept(combine(product(jnp.moveaxis(q, 1, 0)), bulk.product))
    mine = Mine(
        jnp.broadcast_to(p, b.shape), *(x[0] for x in (taken.left, taken.c, taken.others))
    )  # the first of the large ones
    own_psi = [x[:, 0] for x in (psi, dpsi, ddpsi)]
    terms = kept(series_terms(mine, taken, turns(b, span, k), span, k, products, own_psi, given.own))
    series = terms.value.sum(0)
    (by_closed,) = pull((jnp.ones_like(closed), series))  # the whole series is proportional to the product of c
    of_log = terms.square * terms.every + terms.cross + terms.square
    of_one = of_log - scaled(part[None], terms.square)
    of_share = jax.lax.complex(by_closed.shares[0], -by_closed.shares[1])
    of_series = chebyshev.added(chebyshev.pulled(bulk.of_q, of_one), chebyshev.pulled(bulk.of_log, of_log))
    of_shares = chebyshev.pulled(bulk.of_shares, of_share)
    holds = _holds(p * law.moments[1], nodes, bulk, (of_one, of_log, of_share))
    return Passed(
        closed=closed,
        series=series,
        by_closed=by_closed,
        terms=terms,
        taken=taken,
        bulk=bulk,
        large=large.index,
        overlaps=overlaps,
        explicit=(psi, dpsi, q),
        of_series=of_series,
        of_shares=of_shares,
        holds=holds,
        fade=fade,
        single=alone,
        later=found,
        by_later=to_later(by_closed.part + by_part(terms)),
        span=span,
        density=p,
        own=given.own,
    )


def _holds(square: Array, nodes: int, bulk: Bulk, factors: tuple[Array, Array, Array]) -> Array:
    """Whether the last Chebyshev terms of each sum, times what it enters the losses with, are small enough."""
    series = bulk.of_q, bulk.of_log, bulk.of_shares
    errors = [jnp.abs(x) * chebyshev.last_terms(f, bulk.moments) for x, f in zip(factors, series, strict=True)]
    error = sum((x.sum() for x in errors), jnp.zeros_like(square))
    share = max(ALLOWED * nodes**-3.0, 100 * float(jnp.finfo(error.dtype).eps))
    return (error <= share * square * bulk.x.shape[1]) & (bulk.tau < FARTHEST)


def losses(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int) -> Array:
    """As `fourier_series.losses`, of one model."""
    p = groups.density[0]
    given = split(law, p, diagonal(g), b, sums(without_own(g)))
    left = with_own(g, given.overlap)
    reached, _ = reach_of(left, kept(size_of(given.known)))
    done = _pass(groups, law, left, b, given, period(law, p, given.known, reached, b, nodes=nodes), nodes)

    def compressed(g: Array, b: Array) -> Array:  # noqa: ARG001
        return done.closed + done.series

    return chosen(done.holds, compressed, partial(fourier_series.losses, groups, law, nodes=nodes, spread=SPREAD), g, b)


def losses_and_slopes(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int) -> tuple[Array, Array, Array]:
    """As `fourier_series.losses_and_slopes`, of one model."""
    p = groups.density[0]
    given, to_given = jax.vjp(partial(split, law, p), diagonal(g), b, sums(without_own(g)))
    given, left = kept(given), with_own(g, given.overlap)
    size, to_size = jax.vjp(size_of, given.known)
    size = kept(size)
    reached, by_size = reach_of(left, size)

    def length(known: Sums, reached: Reach, b: Array) -> tuple[Array, Period]:
        span = period(law, p, known, reached, b, nodes=nodes)
        return span.length, span

    _, to_sums, span = jax.vjp(length, given.known, reached, b, has_aux=True)
    done = _pass(groups, law, left, b, given, span, nodes)
    by, found, w = done.by_closed, _series_slopes(groups, done, nodes, b), highest(span, nodes)
    by_count, by_drift = done.by_later
    by_w = by.alone * done.single.by_w + by_count * done.later.count_by_w + by_drift * done.later.drift_by_w
    moved = chebyshev.growth(done.of_shares, done.bulk.moments) + by_w * w
    by_known, by_reached, by_b = to_sums(found.length + by.length - moved / span.length)
    (through_size,) = to_size(sum(x * y for x, y in zip(by_reached, by_size, strict=True)))
    by_large, own, by_cube = found.overlap + by.overlaps, given.overlap[None], by.alone * done.single.by_cube
    by_overlap = (
        by_large[0]
        + (reach_slope(own, size, by_reached) + turning_up_slope(law, p, own, w, faded(own, w), done.by_later))[0]
    )
    by_given = Split(
        overlap=by.given.overlap + by_overlap,
        known=jax.tree.map(lambda *x: sum(x), by.given.known, by_known, through_size),
        own=by.given.own._replace(cube=jax.tree.map(lambda *x: sum(x), by.given.own.cube, by_cube, found.cube)),
    )
    by_own, through_given, by_others = to_given(by_given)
    by_g = kept(
        _BySums(
            polynomial=chebyshev.added(done.of_series, done.of_shares),
            scale=2 * np.pi / (span.length * done.bulk.tau),
            known=by_others,
            reached=by_reached,
            alone=by.alone,
            later=done.by_later,
            large=by_large,
            own=by_own,
        )
    )
    by_b = by_b + by.b + found.bias + by.alone * done.single.by_b + through_given

    def compressed(g: Array, b: Array) -> tuple[Array, Array, Array]:
        slopes = by_g.scale[None] * chebyshev.slope(by_g.polynomial, done.bulk.x)
        slopes = slopes.at[done.large, np.arange(len(g))].set(by_g.large)
        slopes = slopes + sums_slope(g, by_g.known) + reach_slope(g, size, by_g.reached)
        slopes = slopes + by_g.alone[None] * single_slope(law, p, g, b, w, done.fade, given.own)
        slopes = slopes + turning_up_slope(law, p, g, w, done.fade, by_g.later)
        return done.closed + done.series, with_own(slopes, by_g.own), by_b

    direct = partial(fourier_series.losses_and_slopes, groups, law, nodes=nodes, spread=SPREAD)
    return chosen(done.holds, compressed, direct, g, b)


class _BySums(NamedTuple):
    """The slopes of each output's loss in the sums over its inputs."""

    polynomial: chebyshev.Halves  # in the moments
    scale: Array  # x = scale g
    known: Sums
    reached: Reach
    alone: Array
    later: tuple[Array, Array]
    large: Array  # in the large overlaps, beside, (1 + LARGE, i)
    own: Array  # in each output's overlap with itself, of everything


def _series_slopes(groups: Groups, done: Passed, nodes: int, b: Array) -> Slopes:
    """The series' value and slopes, in the large overlaps only, `log prod c` held."""
    span, overlaps = done.span, done.overlaps
    held, by_c = _of_large(done, span)
    moved = chebyshev.growth(done.of_series, done.bulk.moments) + (overlaps * held).sum(0)
    found = slopes_of(span, b, done.terms, held, moved, done.own)
    _, pull = jax.vjp(
        lambda g, T: left_of(groups.density[0], 2 * np.pi * nodes / T[None] * g, len(b), SPREAD), overlaps, span.length
    )
    by_g, by_length = pull(found.value[None] / done.taken.c - by_c)
    return found._replace(overlap=held + by_g, length=found.length + by_length)


def _of_large(done: Passed, span: Period) -> tuple[Array, Array]:
    """Slopes in the large overlaps, shares held, and slopes in their shares; shapes (1 + LARGE, i)."""
    terms, (_, dpsi, q) = done.terms, done.explicit
    c = done.taken.c
    gain = done.density / c
    elsewhere = jnp.asarray(np.arange(1 + LARGE) > 0, gain.dtype)[None, :, None]
    rest = apart(terms.every[:, None], q, done.taken.part[None, None])
    pulled = terms.square[:, None] * rest + scaled(elsewhere, terms.cross[:, None])
    pulled = quotient(pulled, jax.lax.complex(q.real + 1, q.imag))
    w = node_numbers(len(q), gain)[:, None] * (2 * np.pi / span.length)[None]
    held = gain * ((pulled * dpsi).real * w[:, None]).sum(0)
    weighed = (terms.square[:, None] * q).real.sum(0)
    return held.at[0].add(terms.own_slope.sum(0)), done.taken.part[None] * by_share(terms, weighed, elsewhere[0], c)
