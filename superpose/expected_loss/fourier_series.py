"""Expectations of `r(y)^2` and `x_i r(y)` by a Fourier series in the kink, with their gradient.

For output i, `y = b_i + sum_j g_ij x_j` has characteristic function `Phi(w) = e^{iwb_i} prod_s phi_s(w)`. The kink is the absolute
value: `r(y) = (y + |y|) / 2` and `r(y)^2 = (y^2 + y|y|) / 2`. While y lies in [-T, T], with w_k = 2 pi k / T,

    |y|  = y^2 / T + T / 6 - sum_k T / (pi k)^2 cos(w_k y)
    y|y| = 2 y^3 / (3 T) + T y / 3 - sum_k T^2 / (pi k)^3 sin(w_k y),

so their expectations are moments, which are known, and sums over `Phi(w_k)`. A period as long as y reaches on *one* side of 0
is enough. `shares` takes the terms that fall off slowest out of Phi, and `low_order` has them in closed form;
`own_feature` says for which outputs it is cubes instead, `(|y|^3 - y^3) / 2`, with

    |y|^3 = y^4 / (2 T) + T y^2 / 2 - T^3 / 60 + sum_k 3 T^3 / (2 (pi k)^4) cos(w_k y).

A y outside [-T, T] by t errs by 2t in |y| and 2t^2 in y|y|. T moves with the overlaps, and the slopes count that: they are those of
the number returned. In the series T only sets the scale: it is `T C(g / T, b / T) + T^2 S(g / T, b / T)`, C from |y|, S from y|y|;
with cubes, T^3 times such a function.

One pass over the nodes gives the products, a second one, with everything per output known, the gradient in each g_ij:
O(n^2 K) work, O(n^2) memory, no sine or cosine per element. Passes are separate because XLA would otherwise evaluate what
belongs to an output again for each of its n inputs. Arrays are (input j, output i, ...), with any further axes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose._jax.complex_numbers import phase, plus_one, quotient, scaled, times_i_power
from superpose._jax.stored import kept
from superpose.expected_loss.groups import Groups, at_own, lift, of_own, own_number, own_rows, product
from superpose.expected_loss.low_order import Moments, low_order, moments
from superpose.expected_loss.own_feature import NONE, Aside, aside
from superpose.expected_loss.period import Period, period
from superpose.expected_loss.shares import SPREAD, Shares, shares
from superpose.expected_loss.truncation_error import Walk
from superpose.features import Magnitude
from superpose.features.characteristic import powers


def closed_part(
    groups: Groups,
    law: Magnitude,
    span: Period,
    g: Array,
    b: Array,
    own: Aside = NONE,
    *,
    nodes: int | Array,
    spread: float = SPREAD,
) -> Array:
    """Everything but the series: what the shares take out, and the moments of the rest; shape `(n, ...)`."""
    taken = shares(groups, law, kept(highest(span, nodes))[None] * g, spread).taken_out
    rest = rest_of(law, span, moments(groups, law, taken, g, b), own)
    return own.loss + low_order(groups, law, taken, g, b, own) + rest


def rest_of(law: Magnitude, span: Period, m: Moments, own: Aside = NONE) -> Array:
    """Over a measure with these moments, without the series.

    `E x^2 - E xy - E x|y|`, `(E y^2 + E y|y|) / 2` and `(E |y|^3 - E y^3) / 2`, with their weights.
    """
    T = span.length
    odd = span.kink * (2 / (3 * T) * m.third + T / 3 * m.first) + span.side * m.second
    crossed = span.kink * (m.own_second / T + T / 6 * m.own) + span.side * m.own_first
    crossed = law.moments[1] * m.active - m.own_first - crossed
    total = own.cross * crossed + own.square * (m.second + odd) / 2
    if own.cube is None or m.fourth is None:
        return total
    even = span.kink * (m.fourth / (2 * T) + T / 2 * m.second - T**3 / 60 * m.mass) + span.side * m.third
    return total + own.cube * (even - m.third) / 2


def highest(span: Period, nodes: int | Array) -> Array:
    """The frequency of the last node, `2 pi K / T`."""
    return 2 * np.pi * nodes / span.length


class Own(NamedTuple):
    """Of each output's own feature, `(nodes, n, ...)`.

    Its active part `p psi`, `chi = E[x_i e^{iwx_i g_ii}] = -i p psi'`, and the slope of chi in w g_ii.
    """

    active: Array
    chi: Array
    slope: Array


def _own(p: Array, psi: list[Array]) -> Own:
    """From psi, psi', psi'' of shape (nodes, n, ...)."""
    chi, slope = (scaled(p[None], times_i_power(x, -1)) for x in psi[1:])
    return Own(scaled(p[None], psi[0]), chi, slope)


class Terms(NamedTuple):
    """Per node and output: what loss (its real part) and slope in b_i add up, and the factors of the second pass."""

    complex_value: Array
    of_square: Array  # the part of y|y| in it
    of_cube: Array | None  # and that of |y|^3, over its weight
    bias: Array
    square: Array  # factor of the rest of the product, of both powers, in the loss
    cross: Array  # factor of the product over other features than the own one
    one: Array  # sum over features of q
    every: Array  # prod over features of (1 + q), less 1
    crossed: Array  # E[x_i e^{iwy}] with all other features at their shares, times its factor
    own_slope: Array

    @property
    def value(self) -> Array:
        """What each node adds to the loss."""
        return self.complex_value.real


class Mine(NamedTuple):
    """Of each output's own feature, `(n, ...)`: its density, 1 - c and c of its share, and the product of c over the others."""

    density: Array
    left: Array
    c: Array
    others: Array


def mine_of(groups: Groups, taken: Shares) -> Mine:
    """From the shares of all features in all outputs."""
    left = of_own(groups, taken.left)
    return Mine(own_number(groups, groups.density, left), left, of_own(groups, taken.c), of_own(groups, taken.others))


def series_terms(
    mine: Mine,
    taken: Shares,
    turn: Array,
    span: Period,
    k: Array,
    products: tuple[Array, Array],
    psi: list[Array],
    aside: Aside = NONE,
) -> Terms:
    """The series' terms at nodes `k`.

    From, per node, `turn`, `e^{iwb}`; `products`, `sum q` and the rest of `prod (1 + q)`; and psi, psi', psi'' of the own feature.
    """
    one, rest = products
    k, T = k.reshape(-1, *(1,) * span.length.ndim), span.length[None]
    w = 2 * np.pi * k / T
    square = scaled(span.kink[None] * T**2 / (2 * (np.pi * k) ** 3), times_i_power(turn, 1))
    cross = scaled(span.kink[None] * T / (np.pi * k) ** 2, turn)
    square = scaled(taken.whole[None], square)
    own, every = _own(mine.density, psi), one + rest
    q = jax.lax.complex((own.active.real + (mine.left - mine.density)[None]) / mine.c[None], own.active.imag / mine.c[None])
    without = quotient(every - q, plus_one(q))  # prod over other features of (1 + q), less 1
    stays = 1 - taken.part[None]
    counted, left = rest + scaled(stays, plus_one(one)), jax.lax.complex(without.real + stays, without.imag)
    chain = scaled((aside.cross * mine.others)[None], cross)
    crossed, of_cube = chain * own.chi, None
    if aside.cube is not None:
        square = scaled(jnp.asarray(aside.square)[None], square)
        cube = scaled(taken.whole[None] * span.kink[None] * 0.75 * T**3 / (np.pi * k) ** 4, turn)
    of_square = square * counted
    if aside.cube is not None:
        of_cube, square = (cube * counted).real, square + scaled(aside.cube[None], cube)
    summand = square * counted + crossed * left
    return Terms(
        complex_value=summand,
        of_square=of_square.real,
        of_cube=of_cube,
        bias=-summand.imag * w,
        square=square,
        cross=crossed * plus_one(without),
        one=one,
        every=every,
        crossed=crossed,
        own_slope=(chain * left * own.slope).real * w,
    )


def turns(b: Array, span: Period, k: Array) -> Array:
    """`e^{i w_k b}` for each node: one product after the other."""
    rung = powers(2 * np.pi * b / span.length)
    return jax.lax.scan(rung.step, rung.start, k)[1][0]


class Factors(NamedTuple):
    """`q = gain psi + offset`, from the shares: factors of the product are `1 + q`; shapes (n, n, ...)."""

    gain: Array
    offset: Array


def factors_of(groups: Groups, taken: Shares) -> Factors:
    """For all features and outputs."""
    p = lift(groups.density, taken.c)
    return Factors(p / taken.c, (taken.left - p) / taken.c)


def q_of(found: Factors, psi: Array) -> Array:
    """Q of each feature and output."""
    return jax.lax.complex(found.gain * psi.real + found.offset, found.gain * psi.imag)


def _first_pass(groups: Groups, law: Magnitude, taken: Shares, g: Array, theta: Array, k: Array) -> tuple:
    """Per node and output: `sum q` and the rest of `prod (1 + q)`; and psi, psi', psi'' of the own feature."""
    every, mine = law.recurrence(theta[None] * g, 0), law.recurrence(theta * of_own(groups, g), 2)
    factors = factors_of(groups, taken)

    def step(states: tuple, k: Array) -> tuple[tuple, tuple]:
        (first, (psi,)), (second, values) = every.step(states[0], k), mine.step(states[1], k)
        return (first, second), (product(q_of(factors, psi)), values)

    return jax.lax.scan(step, (every.start, mine.start), k)[1]


def walk(groups: Groups, law: Magnitude, g: Array, b: Array, nodes: int | Array) -> Walk:
    """The same series, node by node."""
    g, own = aside(groups, law, g, b)
    span = period(groups, law, g, b, nodes=nodes)
    taken = shares(groups, law, highest(span, nodes)[None] * g)
    theta, factors, mine = 2 * np.pi / span.length, factors_of(groups, taken), mine_of(groups, taken)
    rungs = law.recurrence(theta[None] * g, 0), law.recurrence(theta * of_own(groups, g), 2), powers(theta * b)

    def term(k: Array, psi: Array, mine_psi: list[Array], turn: Array) -> Array:
        products = jax.tree.map(lambda x: x[None], product(q_of(factors, psi)))
        at_k = [x[None] for x in mine_psi]
        return series_terms(mine, taken, turn[None], span, k[None], products, at_k, own).complex_value[0]

    def step(states: tuple, k: Array) -> tuple[tuple, Array]:
        (first, (psi,)), (second, values), (third, (turn,)) = (x.step(s, k) for x, s in zip(rungs, states, strict=True))
        return (first, second, third), term(k, psi, values, turn)

    def at(k: Array) -> Array:
        w = k * theta
        return term(k, law.derivatives(w[None] * g, 0)[0], law.derivatives(w * of_own(groups, g), 2), phase(w * b))

    return Walk(closed_part(groups, law, span, g, b, own, nodes=nodes), tuple(x.start for x in rungs), step, at)


def _terms(groups: Groups, law: Magnitude, taken: Shares, g: Array, b: Array, span: Period, k: Array, own: Aside) -> Terms:
    products, psi = _first_pass(groups, law, taken, g, 2 * np.pi / span.length, k)
    return series_terms(mine_of(groups, taken), taken, turns(b, span, k), span, k, products, psi, own)


def series(
    groups: Groups,
    law: Magnitude,
    span: Period,
    g: Array,
    b: Array,
    own: Aside = NONE,
    *,
    nodes: int,
    spread: float = SPREAD,
) -> Array:
    """The series' part of each output's loss, `(n, ...)`."""
    taken = shares(groups, law, highest(span, nodes)[None] * g, spread)
    return _terms(groups, law, taken, g, b, span, node_numbers(nodes, g), own).value.sum(0)


class Slopes(NamedTuple):
    """The series' part of each output's loss, `(n, ...)`; its slopes in g_ij, `(j, i, ...)`, in b_i, T_i and a cube's weight."""

    value: Array
    overlap: Array
    bias: Array
    length: Array
    cube: Array | None


def series_and_slopes(
    groups: Groups,
    law: Magnitude,
    span: Period,
    g: Array,
    b: Array,
    own: Aside = NONE,
    *,
    nodes: int,
    spread: float = SPREAD,
) -> Slopes:
    """The same with its slopes."""
    k = node_numbers(nodes, g)
    taken = shares(groups, law, highest(span, nodes)[None] * g, spread)
    terms = _terms(groups, law, taken, g, b, span, k, own)
    slopes, weighed = _second_pass(groups, law, taken, g, span, k, terms)
    found = slopes_of(span, b, terms, slopes, (g * slopes).sum(0), own)

    def taken_at(g: Array, T: Array) -> tuple[Array, Array]:
        taken = shares(groups, law, 2 * np.pi * nodes / T[None] * g, spread)
        return taken.left, taken.part

    _, pull = jax.vjp(taken_at, g, span.length)
    by_g, by_length = pull((-_by_shares(groups, taken, terms, weighed), by_part(terms)))
    return found._replace(overlap=found.overlap + by_g, length=found.length + by_length)


def slopes_of(span: Period, b: Array, terms: Terms, by_g: Array, moved: Array, own: Aside) -> Slopes:
    """The slope in T follows from the others, as T only sets the scale; `moved` is `sum_j g_j dL/dg_j`, shares held in both."""
    value, by_b = terms.value.sum(0), terms.bias.sum(0)
    more, by_cube = terms.of_square.sum(0), None
    if own.cube is not None and terms.of_cube is not None:
        by_cube = terms.of_cube.sum(0)
        more = more + 2 * own.cube * by_cube
    return Slopes(value, by_g, by_b, (value + more - moved - b * by_b) / span.length, by_cube)


def node_numbers(nodes: int, like: Array) -> Array:
    """K of each node, in the dtype of `like`."""
    return jnp.arange(1, nodes + 1, dtype=like.dtype)


def applies(groups: Groups, law: Magnitude) -> bool:  # noqa: ARG001
    """Whether the features are independent."""
    return groups.independent


def losses(groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int, spread: float = SPREAD) -> Array:
    """Each output's loss, `(n, ...)`."""
    g, own = aside(groups, law, g, b)
    span = period(groups, law, g, b, nodes=nodes)
    parts = (f(groups, law, span, g, b, own, nodes=nodes, spread=spread) for f in (closed_part, series))
    return sum(parts, jnp.zeros_like(b))


def losses_and_slopes(
    groups: Groups, law: Magnitude, g: Array, b: Array, *, nodes: int, spread: float = SPREAD
) -> tuple[Array, Array, Array]:
    """Each output's loss, `(n, ...)`; its slopes in g_ij, `(j, i, ...)`; and in b_i, `(n, ...)`."""

    def closed(g: Array, b: Array) -> tuple[tuple, tuple[Period, Aside]]:
        left, own = aside(groups, law, g, b)
        span = period(groups, law, left, b, nodes=nodes)
        found = closed_part(groups, law, span, left, b, own, nodes=nodes, spread=spread)
        return (found, left, span.length, own.cube), (span, own)

    (known, left, *_), pull, (span, own) = jax.vjp(closed, g, b, has_aux=True)
    found = series_and_slopes(groups, law, span, left, b, own, nodes=nodes, spread=spread)
    # an output depends on its own column and bias alone
    by_g, by_b = pull((jnp.ones_like(known), found.overlap, kept(found.length), found.cube))
    return known + found.value, by_g, by_b + found.bias


def _second_pass(
    groups: Groups, law: Magnitude, taken: Shares, g: Array, span: Period, k: Array, terms: Terms
) -> tuple[Array, Array]:
    """The series' slopes in g, shares held, and `sum_k Re[square q_j]`, both `(n, n, ...)`."""
    theta, factors, elsewhere = 2 * np.pi / span.length, factors_of(groups, taken), _elsewhere(groups, g)
    rung = law.recurrence(theta[None] * g, 1)

    def step(carry: tuple, xs: tuple) -> tuple[tuple, None]:
        state, slopes, weighed = carry
        k, square, cross, every = xs
        state, (psi, dpsi) = rung.step(state, k)
        q = q_of(factors, psi)
        rest = apart(every[None], q, taken.part[None])
        pulled = quotient(square[None] * rest + scaled(elsewhere, cross[None]), plus_one(q))
        moved = (pulled * dpsi).real * ((k * theta)[None] * factors.gain)
        weighed = weighed + square.real[None] * q.real - square.imag[None] * q.imag
        return (state, slopes + moved, weighed), None

    start = (rung.start, jnp.zeros_like(g), jnp.zeros_like(taken.c))
    xs = (k, terms.square, terms.cross, terms.every)
    (_, slopes, weighed), _ = jax.lax.scan(step, start, xs)
    here = own_rows(groups, g.shape[1])
    return slopes.at[here, np.arange(g.shape[1])].add(terms.own_slope.sum(0)), weighed


def _elsewhere(groups: Groups, like: Array) -> Array:
    """1 for all features but an output's own, `(n, outputs, 1...)`."""
    return jnp.where(at_own(groups, like), 0, jnp.ones((), like.dtype))


def _by_shares(groups: Groups, taken: Shares, terms: Terms, weighed: Array) -> Array:
    """The series' slopes in the shares c, `(n, n, ...)`."""
    return taken.part[None] * by_share(terms, weighed, _elsewhere(groups, taken.c), taken.c)


def apart(every: Array, q: Array, part: Array) -> Array:
    """`(1 + every) - part (1 + q)`: over 1 + q, what the product without a set adds to what is not taken out."""
    stays = 1 - part
    return jax.lax.complex(every.real - q.real + stays * (1 + q.real), every.imag - q.imag + stays * q.imag)


def by_part(terms: Terms) -> Array:
    """The series' slope in the part that is taken out of it."""
    return -(terms.square.real + (terms.square * terms.one).real + terms.crossed.real).sum(0)


def by_share(terms: Terms, weighed: Array, elsewhere: Array, c: Array) -> Array:
    """The series' slopes in shares c_s: of what these take out, with the opposite sign.

    `d/dc_s` of `C [prod_l (1 + q_l) - 1 - sum_l q_l]`, C the product of c, is `-(C / c_s) sum_{l != s} q_l`; of the product over
    other sets than the own one, less what it is at their shares, `-C / (c_own c_s)`. `weighed` is `sum_k Re[square q_s]`.
    """
    single = (terms.square * terms.one).real.sum(0)
    return (weighed - single[None] - elsewhere * terms.crossed.real.sum(0)[None]) / c
