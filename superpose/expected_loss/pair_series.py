"""`E r(y) r(z)` of two pre-activations by a Fourier series in two dimensions, with its slopes.

`y = c + g.x` and `z = d + h.x` have the characteristic function `Phi(u, v) = e^{i(uc + vd)} prod_s phi_s(u g + v h)`. As in
`fourier_series`, while y lies in [-T, T] and with `Y = 2 pi y / T`,

    2 r(y) / T = P(Y) - sum_k cos(kY) / (pi k)^2,   P(Y) = Y^2 / (2 pi)^2 + Y / (2 pi) + 1 / 6.

A parabola is nearly a sum of waves much longer than its interval: P is one over four frequencies, to 4e-10 in float64. So
`2 r(y) / T = Re sum_k weight_k e^{ikY}`, and the expectation of a product of two such series is a sum of Phi over a lattice.

Frequencies above the nodes count where y is c, its kink, in many inputs: when all features that it sees are idle. That part of
them is known, as y is (`at_constants`).

`shares` takes the terms that fall off slowest out of Phi; they are `one_active` here. The frequencies k, j of both axes come in
blocks. Their weight falls as 1 / (k j)^2, so blocks far from both axes count for nothing and are left out.

Arrays are (feature or group s, sign, k, j, pair). Pairs do not know of each other.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose._jax.complex_numbers import phase, plus_one, quotient, scaled
from superpose._jax.models_last import in_parts
from superpose._jax.stored import kept
from superpose.expected_loss.groups import Groups, group_sums, lift, product
from superpose.expected_loss.period import Period, period
from superpose.expected_loss.shares import Shares, shares
from superpose.features import Magnitude, forest

BLOCK = 4
"""Frequencies of each axis that are worked on at once; and those that stand for P, the first block."""
LONG_WAVES = (1.03, 3.8, 6.8, 8.9)
"""Frequencies of P in units of eps^(1/12), found numerically: P to 4e-10 in float64, 9e-6 in float32, with small weights."""
REACH = 1.6
"""Blocks in which all `k j` are above `nodes^REACH` are left out, but for those on the diagonal: latents can be the same."""
SHARP = 1e-3
"""Overlaps times the highest frequency below which |overlap| is rounded off."""
AT_ONCE = 2**15
"""Numbers in an array of one block: so many pairs are worked on at once as stay within a CPU's cache."""


class Pair(NamedTuple):
    """`y = c + g.x` and `z = d + h.x` of each pair; g and h of shape (n, pairs), c and d of shape (pairs,)."""

    g: Array
    c: Array
    h: Array
    d: Array


def moments_and_slopes(groups: Groups, law: Magnitude, pair: Pair, *, nodes: int, line: bool = False) -> tuple[Array, Pair]:
    """`E r(y) r(z)` of each pair, or if `line` `E y r(z)`, and its slopes."""
    if len(pair.c) == 0:
        return pair.c, pair
    numbers, structure = jax.tree.flatten(groups)
    numbers = [jnp.broadcast_to(lift(x, pair.g), (len(x), len(pair.c))) for x in numbers]

    def some(numbers: list, pair: Pair) -> tuple[Array, Pair]:
        return _some(jax.tree.unflatten(structure, numbers), law, pair, nodes, line)

    width = max(8, AT_ONCE // (2 * BLOCK**2 * len(pair.g)) // 8 * 8)
    return in_parts(some, width, numbers, pair)


def _some(groups: Groups, law: Magnitude, pair: Pair, nodes: int, line: bool) -> tuple[Array, Pair]:
    def parts(pair: Pair) -> tuple[tuple[Array, Array, Pair, Shares], Period]:
        """What the shares take out; the unit of the series; and what it is made from: in units of the periods."""
        g, c, h, d = pair
        one = partial(jnp.concatenate, axis=-1)
        at_once = jax.tree.map(lambda x: one([x, x]), groups)
        span = period(at_once, law, one([g, h]), one([c, d]), nodes=nodes)
        S, T = jnp.split(span.length, 2)
        unit = Pair(*(_times(2 * np.pi / t, x) for x, t in zip(pair, (S, S, T, T), strict=True)))
        square = unit.h**2 if line else unit.g**2 + unit.h**2  # a line takes no high frequencies
        taken = shares(groups, law, nodes * jnp.sqrt(square + jnp.finfo(c.dtype).tiny))
        few = one_active(groups, law, taken.taken_out, pair)
        if line:  # y = r(y) - r(-y)
            few = few - one_active(groups, law, taken.taken_out, pair._replace(g=-g, c=-c))
        size = S * T / 8
        few = few + size * at_constants(groups, law, taken, unit, _signs(span), nodes, line)
        return (few, size, unit, taken), span

    (few, size, unit, taken), pull, span = jax.vjp(parts, pair, has_aux=True)
    total, by_unit, by_left, by_part = _lattice(groups, law, taken, unit, _signs(span), nodes, line)
    by_taken = jax.tree.map(jnp.zeros_like, taken)._replace(left=_times(size, by_left), part=size * by_part)
    (slopes,) = pull((jnp.ones_like(few), total, jax.tree.map(partial(_times, size), by_unit), by_taken))
    never = _never_both(law, pair._replace(g=jnp.zeros_like(pair.g), c=jnp.ones_like(pair.c)) if line else pair)
    some = (~never).astype(few.dtype)
    return some * (few + size * total), jax.tree.map(partial(_times, some), slopes)


def _signs(span: Period) -> list[tuple[Array, Array]]:
    """Factors of the even and of the odd part of the weights of both axes."""
    even, odd = (jnp.split(x, 2) for x in (span.kink, 1 + span.side))
    return list(zip(even, odd, strict=True))


def _times(factor: Array, x: Array) -> Array:
    """A number for each pair times x, (pairs,) or (n, pairs)."""
    return (factor if x.ndim == 1 else factor[None]) * x


def one_active(groups: Groups, law: Magnitude, taken: Shares, pair: Pair) -> Array:
    """`E r(y) r(z)` over what the shares take out: nobody active, or one feature."""
    g, c, h, d = pair
    idle = taken.whole + (taken.others * (taken.left - groups.chance)).sum(0)
    alone = taken.others[groups.member] * groups.alone
    each = law.relu_product(jnp.broadcast_to(c[None], g.shape), g, jnp.broadcast_to(d[None], g.shape), h)
    return idle * jnp.maximum(c, 0) * jnp.maximum(d, 0) + (alone * each).sum(0)


def _never_both(law: Magnitude, pair: Pair) -> Array:
    """Whether y and z are never positive at once, since a mean of both never is: `s y + (1 - s) z`, s where an overlap cancels."""
    g, c, h, d = pair
    low, high = law.support
    s = jnp.clip(h / jnp.where(h == g, 1, h - g), 0, 1)
    s = jnp.concatenate([jnp.zeros_like(c)[None], jnp.ones_like(c)[None], s])
    mean = s[:, None] * g[None] + (1 - s[:, None]) * h[None]
    mean = jnp.where(jnp.abs(mean) <= 4 * jnp.finfo(c.dtype).eps * (jnp.abs(g) + jnp.abs(h))[None], 0, mean)
    most = jnp.where(mean > 0, high * jnp.maximum(mean, 0), low * jnp.minimum(mean, 0) if low else 0).sum(1)
    return jnp.any(s * c[None] + (1 - s) * d[None] + jnp.where(jnp.isnan(most), 0, most) <= 0, axis=0)


def _frequencies(nodes: int, dtype: jnp.dtype, *, line: bool) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies k of an axis and their complex weights, filled up to whole blocks with others of weight 0.

    Of `2 r(y) / T`; or if `line` of `2 y / T`, which needs none but the first block.
    """
    whole, few = np.arange(1, nodes + 1), np.array(LONG_WAVES) * float(jnp.finfo(dtype).eps) ** (1 / 12)
    y = np.cos(np.pi * np.arange(257) / 256)
    waves = np.concatenate([np.cos(np.outer(y, few)), np.sin(np.outer(y, few))], axis=1)
    even, odd = np.split(np.linalg.lstsq(waves, y**2 + y + 1 / 6)[0], 2)
    if line:
        even, odd, whole = 0 * even, 2 * odd, whole[:0]
    k, weight = np.append(few / (2 * np.pi), whole), np.append(even - 1j * odd, -1 / (np.pi * whole) ** 2)
    more = -len(k) % BLOCK
    return np.pad(k, (0, more), mode="edge").reshape(-1, BLOCK), np.pad(weight, (0, more)).reshape(-1, BLOCK)


def _blocks(nodes: int, k: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the blocks along both axes that are not left out."""
    first = np.multiply.outer(np.maximum(k[:, 0], 1), np.maximum(j[:, 0], 1))
    rows, columns = np.nonzero((first <= nodes**REACH) | np.equal.outer(k[:, 0], j[:, 0]))
    return rows, columns


class _Axis(NamedTuple):
    """What `at_constants` needs to know of `y = c + g.x`.

    The first terms of its `series` at c, (k, pairs); what is `missing` there of r(c) with these alone, and what is with all;
    `psi` of each feature (n, k, pairs); and the part of it that is `unseen` while it is active, (n, 1, pairs).
    """

    series: Array
    missing: Array
    missed: Array
    psi: Array
    unseen: Array


def at_constants(groups: Groups, law: Magnitude, taken: Shares, at: Pair, signs: list, nodes: int, line: bool) -> Array:
    """What frequencies above the nodes add where y = c or z = d, as all features that it sees are idle.

    `2 E [missed_y r(z) + missed_z r(y) - missed_y missed_z]` over what the shares leave. The first term is the row `k = infinity`
    of the lattice, where `unseen psi(j h)` takes the place of `psi(k g + j h)`; as it is small, few j do. A line misses nothing.
    """
    gain = 1 / taken.c
    offset = gain * (taken.left - groups.chance)

    y, z = (_axis(law, *x, nodes) for x in ((at.g, at.c, signs[0], line), (at.h, at.d, signs[1], False)))
    idle = scaled(y.unseen * z.unseen, jnp.ones_like(z.psi[:, :1]))
    rows = jnp.concatenate(
        [scaled(y.unseen, z.psi), scaled(z.unseen, y.psi), idle], axis=1
    )  # one product: it compiles sooner
    left = scaled(taken.whole[None], _left(groups, taken.part, gain, offset, rows)[0])
    series = jnp.concatenate([y.missed[None] * z.series, z.missed[None] * y.series])
    both = y.missed * z.missing + z.missed * y.missing - y.missed * z.missed
    return 2 * ((left[:-1] * series).real.sum(0) + left[-1].real * both)


def _axis(law: Magnitude, g: Array, c: Array, sign: tuple[Array, Array], line: bool, nodes: int) -> _Axis:
    """In units of the period.

    With `t = nodes g`, `missed` at `c + g u` in place of c has at c = 0 a mean less by about `e^{-(t^2 + pi |t|) / 4}` for
    u ~ U[0, 1]; so much of a feature is unseen. The kink at t = 0 is that of r, so it is rounded off where c is not 0.
    """
    k, weight = _frequencies(nodes, c.dtype, line=line)
    k = jnp.asarray(k.reshape(-1, 1), c.dtype)
    waves = phase(k * c[None])
    even, odd = (jnp.ones_like(c),) * 2 if line else sign
    series = waves * _weighed(jnp.asarray(weight.reshape(-1, 1), waves.dtype), even[None], odd[None])
    few = BLOCK + max(8, nodes // 4)
    missing, missed = (
        jnp.zeros_like(c) if line else jnp.maximum(c, 0) / np.pi - x.real.sum(0) for x in (series[:few], series)
    )
    t = k[None, :few] * g[:, None]
    square = 3 * law.moments[1] * (nodes * g) ** 2
    size = jnp.sqrt(square + (nodes * c)[None] ** 2 + SHARP**2)
    unseen = jnp.exp(-square * (1 + np.pi / size) / 4)
    return _Axis(series[:few], missing, missed, law.on_phase(t, phase(t / 2))[0], unseen[:, None])


def _lattice(
    groups: Groups, law: Magnitude, taken: Shares, at: Pair, signs: list, nodes: int, line: bool
) -> tuple[Array, Pair, Array, Array]:
    """Twice the expectation of the product of both series over what the shares leave; its slopes in `at`, 1 - c and the part.

    `2 Re a Re b = Re(a b + a conj b)`: both signs of j, on an axis. The product of characteristic functions does not depend on the
    shares, so the slopes in them are those of what is taken out, a sum over single groups. `signs` are the factors of the even and
    of the odd part of each axis' weights: 1 and 1, or 0 and 2 where y is never negative, so that r(y) = y.
    """
    axes = [_frequencies(nodes, at.c.dtype, line=x) for x in (line, False)]
    gain = 1 / taken.c
    offset = gain * (taken.left - groups.chance)
    sign = jnp.asarray([1.0, -1.0], at.c.dtype).reshape(1, 2, 1, 1, 1)
    whole, c, d = (x[None, None, None] for x in (taken.whole, at.c, at.d))
    g, h = (x[:, None, None, None] for x in (at.g, at.h))
    factors = [tuple(x[None, None, None] for x in pair) for pair in signs]
    if line:
        factors[0] = tuple(jnp.ones_like(x) for x in factors[0])

    def step(sums: tuple, block: tuple) -> tuple[tuple, None]:
        k, j, of_k, of_j = (
            x.reshape(shape) for x, shape in zip(block, ((1, 1, -1, 1, 1), (1, 1, 1, -1, 1)) * 2, strict=True)
        )
        a, b = k * g, j * h
        of_k, of_j = (_weighed(of[0], *two) for of, two in zip((of_k, of_j), factors, strict=True))
        waves = phase(a / 2), phase(b / 2), of_k * phase(k[0] * c), of_j * phase(j[0] * d)
        of_a, of_b, turn, other = kept(waves)
        j = sign * j
        psi, slope = law.on_phase(a + sign * b, of_a * _signed(sign, of_b))
        turn = scaled(whole, turn * _signed(sign[0], other))
        left, single, by_psi = _left_and_slopes(groups, taken.part, gain, offset, psi, turn)
        by_t, term = (by_psi * slope).real, left * turn
        by_unit = Pair(
            (k * by_t).sum((1, 2, 3)),
            -(k[0] * term.imag).sum((0, 1, 2)),
            (j * by_t).sum((1, 2, 3)),
            -(j[0] * term.imag).sum((0, 1, 2)),
        )
        found = term.real.sum((0, 1, 2)), by_unit, (single * turn[None]).real.sum((1, 2, 3)), turn.real.sum((0, 1, 2))
        return jax.tree.map(jnp.add, sums, found), None

    chosen = _blocks(nodes, *(k for k, _ in axes))
    blocks = tuple(
        jnp.asarray(x[i][rows], dtype)
        for i, dtype in enumerate((at.c.dtype, phase(at.c).dtype))
        for x, rows in zip(axes, chosen, strict=True)
    )
    start = jax.tree.map(jnp.zeros_like, (at.c, at, taken.left, at.c))
    (total, by_at, single, none), _ = jax.lax.scan(step, start, blocks)
    every = single.sum(0)
    return total, by_at, taken.part[None] * gain * (every[None] - single), -(none + every)


def _weighed(weight: Array, even: Array, odd: Array) -> Array:
    """A weight with its factors for each pair."""
    return jax.lax.complex(even * weight.real, odd * weight.imag)


def _signed(sign: Array, z: Array) -> Array:
    """Z and its conjugate."""
    return jax.lax.complex(jnp.broadcast_to(z.real, jnp.broadcast_shapes(z.shape, sign.shape)), sign * z.imag)


def _left(groups: Groups, part: Array, gain: Array, offset: Array, psi: Array) -> tuple[Array, Array]:
    """What the shares leave of the product of characteristic functions, over that of all c, from psi of each feature.

    `prod_s (1 + q_s) - part (1 + sum_s x_s)` with `q = gain active + offset` and `x_s = q_s - R_s / c_s`, R_s what has several
    features of group s active. And x.
    """
    given, gain = lift(groups.given, psi), lift(gain, psi)
    weighed = scaled(given, psi)
    active = weighed if groups.independent else forest.active_part(groups.coupling, given, weighed)
    q = jax.lax.complex(gain * active.real + lift(offset, psi), gain * active.imag)
    one, rest = kept(product(q))
    part = part.reshape((1,) * (one.ndim - 1) + (-1,))
    left, single = rest + scaled(1 - part, plus_one(one)), q
    if groups.deep:
        several = scaled(gain, active - group_sums(groups, scaled(lift(groups.alone, psi), psi)))
        left, single = left + scaled(part, several.sum(0)), q - several
    return left, single


def _left_and_slopes(
    groups: Groups, part: Array, gain: Array, offset: Array, psi: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """`_left`, and the slope of `Re sum weight left` in psi: the real part of its product with a change counts."""
    if not groups.independent:
        left, pull, single = jax.vjp(partial(_left, groups, part, gain, offset), psi, has_aux=True)
        return left, single, *pull(weight)
    both = lift(gain, psi) * lift(groups.given, psi)
    q = jax.lax.complex(both * psi.real + lift(offset, psi), both * psi.imag)
    one, rest = kept(product(q))
    part = part.reshape((1,) * (one.ndim - 1) + (-1,))
    left = rest + scaled(1 - part, plus_one(one))
    others = quotient((one + rest)[None] - q, plus_one(q)) + (1 - part)[None]
    return left, q, scaled(both, weight[None] * others)
