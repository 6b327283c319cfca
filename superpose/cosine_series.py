"""Expectations of `r(y)^2` and `x_i r(y)` over more than one active set, by a Fourier-cosine series, with their gradient.

For output i, `y = b_i + sum_j g_ij x_j` has characteristic function `e^{iwb_i} prod_s (idle_s + active_s(w))`. On an
interval [a, c] that holds y but for a negligible tail, L = c - a, w_k = k pi / L, and for any f with f'(a) = f'(c) = 0,

    E f(y) = F_0 P + sum_{k=1}^K F_k Re[Phi(w_k) e^{iw_k (b - a)}],   F_k = (2/L) int_a^c f(y) cos(w_k (y - a)) dy.

r^2 and r become such f when a parabola, whose expectation is known, is subtracted: `r(y)^2 - (c/L)(y - a)^2` and
`r(y) - (y - a)^2 / (2L)` have `F_k = (4/L) sin(-w_k a) / w_k^3` and `-(2/L) cos(w_k a) / w_k^2`: only the kink at 0 is left.
Phi stands for the terms of the product with more active sets than are removed, which fall off as w^-2 or faster.

One pass over the nodes gives the products, a second one, with everything per output known, the gradient in each g_ij:
O(n^2 K) work, O(n^2) memory, no sine or cosine per element. Passes are separate because XLA would otherwise evaluate what
belongs to an output again for each of its n inputs. In the passes arrays are (input j, output i, model).

Reference: the COS method, Fang and Oosterlee 2008, SIAM J. Sci. Comput. 31, 826.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from superpose.few_active import set_moments
from superpose.ladder import ladder, powers, scaled
from superpose.magnitudes import Magnitude, times_i_power
from superpose.models_last import models_last
from superpose.sets import Pairs, Sets, active_part, active_slope, pair_sums, product

Rows = Float[Array, " n"]
Square = Float[Array, "n n"]
RowsOfAll = Float[Array, "n models"]
Squares = Float[Array, "n n models"]


class Interval(NamedTuple):
    """[a, c] for each output, and the probability of lying outside, all of shape `(n,)`.

    `on`: y is never negative, so that r(y) = y; a = 0 there. `off`: y is never positive. Both are exact without a series, as
    is an ignored feature, whose y = b_i would be an atom: `kink` is 1 for the other outputs and 0 for these.
    """

    a: Array
    c: Array
    tail: Array
    on: Array
    off: Array

    @property
    def kink(self) -> Array:
        """1 where y can have both signs."""
        return (~(self.on | self.off)).astype(self.a.dtype)


def interval(sets: Sets, law: Magnitude, gram: Square, b: Rows, *, nodes: int) -> Interval:
    """An interval with 0 in it that y leaves with probability at most `nodes^-4` on each side, or its whole support.

    Bounded laws: Bennett's inequality, `P(Y - EY >= t) <= exp(-v h(D t / v) / D^2)`, `h(x) = (1 + x) ln(1 + x) - x`, with v
    the variance and D the largest excess of one set; h is inverted by Newton steps that stay on the safe side. Exponential
    magnitudes: Bernstein's, `t = D l + sqrt(2 V l)`, V = 2 sum p g^2.
    """
    first, second = set_moments(sets, law, gram)
    mean, variance = b + first.sum(1), (second - first**2).sum(1)
    level = 4 * float(np.log(nodes))
    positive, negative = jnp.maximum(gram, 0), jnp.maximum(-gram, 0)
    if not np.isfinite(law.support[1]):
        spread = 2 * (gram**2 @ sets.density)
        up, down = (side.max(1) * level + jnp.sqrt(2 * spread * level) for side in (positive, negative))
        a, c = mean - down, mean + up
        high = jnp.where(positive.max(1) > 0, jnp.inf, b)
        low = jnp.where(negative.max(1) > 0, -jnp.inf, b)
    else:
        highest = law.support[1] * positive - law.support[0] * negative
        lowest = -law.support[1] * negative + law.support[0] * positive
        high, low = b + highest.sum(1), b + lowest.sum(1)
        tops, bottoms = (_set_extremes(sets, x) for x in (highest, -lowest))
        a = jnp.maximum(low, mean - _bennett(variance, (bottoms + first).max(1), level))
        c = jnp.minimum(high, mean + _bennett(variance, (tops - first).max(1), level))
    tail = ((a > low).astype(b.dtype) + (c < high).astype(b.dtype)) * nodes**-4.0
    margin = 1e-6  # an output that is always 0 still has an interval
    on, off = low >= 0, high <= 0
    a, c = jnp.where(on, 0, jnp.minimum(a, 0) - margin), jnp.maximum(c, 0) + margin
    return jax.lax.stop_gradient(Interval(a, c, jnp.where(on | off, 0, tail), on, off))


def _set_extremes(sets: Sets, x: Square) -> Array:
    """Largest share of each set, shape `(n, S)`: the sum over its features, or the largest where they are exclusive."""
    if sets.alone:
        return x
    reduce_ = jax.ops.segment_max if sets.kind == "exclusive" else jax.ops.segment_sum
    return reduce_(x.T, sets.number, len(sets.idle)).T


def _bennett(variance: Rows, excess: Rows, level: float) -> Rows:
    """T with `variance / excess^2 h(excess t / variance) >= level`, at most slightly larger than need be."""
    tiny = jnp.finfo(variance.dtype).tiny ** 0.25
    excess, variance = jnp.maximum(excess, tiny), jnp.maximum(variance, tiny**2)
    target = level * excess**2 / variance
    x = target / 3 + jnp.sqrt(target**2 / 9 + 2 * target)  # Bernstein's bound: too large, and h is convex
    for _ in range(3):
        x = x - ((1 + x) * jnp.log1p(x) - x - target) / jnp.log1p(x)
    return x * variance / excess


def parabola(span: Interval) -> tuple[Rows, Rows, Rows, Rows]:
    """Of `r^2` and of `r`: the factor of the parabola `(y - a)^2`, and F_0 of what is left; shapes `(n,)`.

    Where y is never negative, `r^2 = (y - a)^2` with a = 0, and all of r is in the line that the caller adds.
    """
    length, c, kink = span.c - span.a, span.c, span.kink
    square = jnp.where(span.on, 1, kink * c / length), kink * (c**3 / (3 * length) - c * length / 3)
    return *square, kink / (2 * length), kink * (c**2 / (2 * length) - length / 6)


def chances(sets: Sets) -> tuple:
    """What may differ between models in `sets`; `lifted` puts it back with models last."""
    return sets.density, sets.idle, sets.others_idle, sets.pairs


def bare(sets: Sets) -> Sets:
    """The sets without what may differ, for functions that are traced later."""
    return sets._replace(density=None, idle=None, others_idle=None, pairs=None)


def lifted(sets: Sets, density: Array, idle: Array, others_idle: Array, pairs: Pairs | None) -> Sets:
    """The sets with `(S, M)` arrays made to go along (input or set, output, model)."""
    pairs = pairs and Pairs(spread=pairs.spread[:, None], scale=pairs.scale[None])
    return sets._replace(density=density[:, None], idle=idle[:, None], others_idle=others_idle[:, None], pairs=pairs)


def _first_pass(sets: Sets, law: Magnitude, gram: Squares, theta: RowsOfAll, k: Array) -> tuple:
    """Per node and output: terms with one and with more active sets, and `pair_sums`; and psi, psi', psi'' of the own set."""
    padded = jnp.concatenate([gram, jnp.zeros_like(gram[:1])])
    own = padded[sets.members.T, np.arange(len(theta))] * theta[None]
    every, mine = ladder(law, theta[None] * gram, 0), ladder(law, own, 2)

    def step(states: tuple, k: Array) -> tuple[tuple, tuple]:
        (first, (psi,)), (second, values) = every.step(states[0], k), mine.step(states[1], k)
        active = active_part(sets, psi)
        paired = () if sets.pairs is None else pair_sums(sets.pairs, active)
        return (first, second), ((*product(sets.idle, active), *paired), values)

    return jax.lax.scan(step, (every.start, mine.start), k)[1]


class Own(NamedTuple):
    """Of each output's own set: its active part, `chi = E[x_i e^{iwY_s}]`, and chi's slopes in w g_il, member by member."""

    active: Array
    chi: Array
    slopes: list[Array]


def _own(sets: Sets, psi: list[Array]) -> Own:
    """From psi, psi', psi'' of shape (nodes, L, n, M); `E[u e^{itu}] = -i psi'(t)`."""
    p = sets.density[None, :, 0]
    members = [[x[:, k] for x in psi] for k in range(sets.members.shape[1])]
    chi, bend = (scaled(p, times_i_power(x, -1)) for x in members[0][1:])
    if sets.kind != "together":
        densities = jnp.concatenate([p, jnp.zeros_like(p[:, :1])], axis=1)[:, sets.members]
        active = sum((scaled(densities[:, :, k], m[0]) for k, m in enumerate(members)), jnp.zeros_like(chi))
        return Own(active, chi, [bend] + [jnp.zeros_like(bend)] * (len(members) - 1))
    others = jnp.ones_like(chi)
    for mate in members[1:]:
        others = others * mate[0]
    slopes = [bend * others]
    for k in range(1, len(members)):
        slope = chi * members[k][1]
        for j in range(1, len(members)):
            slope = slope if j == k else slope * members[j][0]
        slopes.append(slope)
    return Own(scaled(p, members[0][0]) * others, chi * others, slopes)


class Terms(NamedTuple):
    """Per node and output: what the loss adds up, what its slope in b_i does, and the factors of the second pass."""

    value: Array
    bias: Array
    square_factor: Array
    cross_factor: Array
    more: Array
    own_slopes: list[Array]
    pairs: tuple[Array, ...]


def series_terms(sets: Sets, b: RowsOfAll, span: Interval, k: Array, products: tuple, psi: list[Array]) -> Terms:
    """The series' terms at nodes `k`, from per-node `products`, the terms with one and with more active sets, and own psi's."""
    length = span.c - span.a
    theta = jnp.pi / length
    one, rest, *paired = products
    turn, edge = (_powers(theta * x, k) for x in (b - span.a, -span.a))
    w = k[:, None, None] * theta[None]
    height = (span.kink / length)[None]
    of_cross = -2 * height * edge.real / w**2
    of_square = 4 * height * edge.imag / w**3
    own, more = _own(sets, psi), one + rest
    idle, others = (x[None, sets.number, 0] for x in (sets.idle, sets.others_idle))
    total = jax.lax.complex(idle + own.active.real, own.active.imag)
    without = quotient(more - scaled(others, own.active), total)  # others active, without the own set
    every = jax.lax.complex(without.real + others, without.imag)
    kept, left = (rest, without) if sets.removed else (more, every)
    square, cross = scaled(of_square, turn), scaled(-2 * of_cross, turn)
    pairs, correction = (), 0
    if sets.pairs is not None:
        spread, scale = sets.pairs.spread[None, :, 0], sets.pairs.scale[None]
        kept, left = kept - paired[1], left - scaled(scale * spread, paired[0] - scaled(spread, own.active))
        bend, mate = scaled(w * scale, square), scaled(w * scale * spread, cross * own.chi)
        pairs = (bend, bend * paired[0] + mate)  # in the second pass `mate` comes with every feature, the own one too
        correction = (scaled(spread * sets.density[None, :, 0], mate) * psi[1][:, 0]).real
    summand, chain = square * kept + cross * own.chi * left, cross * left
    first, *others_slopes = [(chain * slope).real * w for slope in own.slopes]
    return Terms(
        value=summand.real,
        bias=-summand.imag * w,
        square_factor=scaled(w, square),
        cross_factor=scaled(w, cross * own.chi * every),
        more=more,
        own_slopes=[first + correction, *others_slopes],
        pairs=pairs,
    )


def _powers(theta: RowsOfAll, k: Array) -> Array:
    """`e^{i k theta}` for each node: one product after the other."""
    rung = powers(theta)
    return jax.lax.scan(rung.step, rung.start, k)[1][0]


def quotient(x: Array, y: Array) -> Array:
    """X / y, and 0 where y = 0."""
    tiny = jnp.finfo(y.real.dtype).tiny
    return scaled(1 / (y.real**2 + y.imag**2 + tiny), x * jnp.conj(y))


def _terms(sets: Sets, law: Magnitude, gram: Squares, b: RowsOfAll, span: Interval, k: Array) -> Terms:
    return series_terms(sets, b, span, k, *_first_pass(sets, law, gram, jnp.pi / (span.c - span.a), k))


def node_values(sets: Sets, law: Magnitude, gram: Square, b: Rows, span: Interval, *, nodes: int) -> Float[Array, "nodes n"]:
    """What each node adds to each output's `E r^2 - 2 E[x_i r]`."""
    known = bare(sets)

    def core(varied: tuple, fixed: tuple) -> Array:
        (g, offset), (span, *rest) = varied, fixed
        return _terms(lifted(known, *rest), law, g, offset, span, node_numbers(nodes, g)).value

    return models_last(core, jax.ShapeDtypeStruct((nodes, *b.shape), b.dtype))((gram.T, b), (span, *chances(sets)))


def value_and_slopes(
    sets: Sets, law: Magnitude, gram: Square, b: Rows, span: Interval, *, nodes: int
) -> tuple[Rows, Square, Rows]:
    """The series' share of each output's loss, `(n,)`; its slopes in g_ij, `(i, j)`; and in b_i, `(n,)`."""
    known = bare(sets)

    def core(varied: tuple, fixed: tuple) -> tuple[Array, Array, Array]:
        (g, offset), (span, *rest) = varied, fixed
        return _both_passes(lifted(known, *rest), law, g, offset, span, node_numbers(nodes, g))

    value, slopes, bias = models_last(core, (b, gram, b))((gram.T, b), (span, *chances(sets)))
    return value, slopes.T, bias


def node_numbers(nodes: int, like: Array) -> Array:
    """K of each node, in the dtype of `like`."""
    return jnp.arange(1, nodes + 1, dtype=like.dtype)


def _both_passes(
    sets: Sets, law: Magnitude, gram: Squares, b: RowsOfAll, span: Interval, k: Array
) -> tuple[Array, Array, Array]:
    terms = _terms(sets, law, gram, b, span, k)
    rung = ladder(law, (jnp.pi / (span.c - span.a))[None] * gram, 1)
    elsewhere = jnp.asarray(~np.equal.outer(np.unique(sets.number), sets.number), b.dtype)[..., None]

    def step(carry: tuple, xs: tuple) -> tuple[tuple, None]:
        state, slopes = carry
        k, square, cross, more, *paired = xs
        state, (psi, dpsi) = rung.step(state, k)
        active = active_part(sets, psi)
        total = jax.lax.complex(sets.idle + active.real, active.imag)
        factor = square[None] * (more[None] - scaled(sets.others_idle, active)) + scaled(elsewhere, cross[None])
        factor = quotient(factor, total)
        if sets.pairs is not None:
            spread, (bend, pull) = sets.pairs.spread, paired
            factor = factor - scaled(spread, pull[None] - bend[None] * scaled(spread, active))
        if not sets.removed:
            factor = factor + scaled(sets.others_idle, square[None])
        factor = factor if sets.alone else factor[sets.number]
        return (state, slopes + (factor * active_slope(sets, psi, dpsi)).real), None

    start = (rung.start, jnp.zeros_like(gram))
    (_, slopes), _ = jax.lax.scan(step, start, (k, terms.square_factor, terms.cross_factor, terms.more, *terms.pairs))
    slopes = jnp.concatenate([slopes, jnp.zeros_like(slopes[:1])])
    own = jnp.stack([x.sum(0) for x in terms.own_slopes])
    slopes = slopes.at[sets.members.T, np.arange(len(b))].add(own)[:-1]
    return terms.value.sum(0), slopes, terms.bias.sum(0)
