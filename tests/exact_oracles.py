"""Two independent exact routes to the population loss, neither of them the library's.

`corner_sums`: independent uniform features, n up to about 9, by the sum over corners of the active features' box, in integers.
`bromwich`: one output among any number of features, by the inverse Laplace transform on a line right of 0.

Each takes one output: its row `g` of the Gram matrix, its bias `b`, and which feature `i` it stands for. Each returns
`(E r(y), E r(y)^2, E x_i r(y))`, `y = b + sum_j g_j x_j`, r(y) = max(y, 0).
"""

from fractions import Fraction
from functools import lru_cache
from math import factorial, lcm, prod

import mpmath
import numpy as np
from oracles import gram

DIGITS = 60
"""The by-parts formula divides by g_ii: this leaves 40 digits where g_ii is 1e-10."""


def corner_sums(g, b, densities, i):
    """Condition on the active set A, of k features, then integrate over its box.

    `E r(b + g.u)^q = q! / (q+k)! / prod_j g_j sum_{C subset A} (-1)^{k-|C|} r(b + sum_{j in C} g_j)^{q+k}` and, by parts,
    `E[u_i r(b + g.u)] = (E r(b + g_i + (g.u without i))^2 - E r(b + g.u)^2) / (2 g_i)`. A feature with g_j = 0 is left out.
    """
    g, b, p = [Fraction(x) for x in g], Fraction(b), [mpmath.mpf(x) for x in densities]
    with mpmath.workdps(DIGITS):
        first, second = (_average(g, b, p, q) for q in (1, 2))
        rest, others = g[:i] + g[i + 1 :], p[:i] + p[i + 1 :]
        if g[i] == 0:
            cross = _average(rest, b, others, 1) / 2
        else:  # second = p_i (i active) + (1 - p_i) (i idle)
            idle = _average(rest, b, others, 2)
            active = _average(rest, b, others, 2, own=g[i])
            cross = (_average(rest, b + g[i], others, 2) - active) / (2 * _mpf(g[i]))
            assert mpmath.almosteq(second, p[i] * active + (1 - p[i]) * idle, 1e-40)
        return first, second, p[i] * cross


def uniform_losses(W, b, densities):
    """`E (x_i - r(y_i))^2` of each output by `corner_sums`, shape `(n,)`, from W (m, n), b (n,) and densities (n,)."""
    losses = []
    for i, row in enumerate(gram(W)):
        _, second, cross = corner_sums(row.tolist(), float(b[i]), [float(x) for x in densities], i)
        with mpmath.workdps(DIGITS):
            losses.append(float(mpmath.mpf(float(densities[i])) / 3 - 2 * cross + second))
    return np.array(losses)


def _mpf(x):
    return mpmath.mpf(x.numerator) / x.denominator


def _average(g, b, p, q, own=None):
    """`E r(b + sum_j g_j x_j)^q`; with `own`, one more feature that is always active."""
    kept = [(x, chance) for x, chance in zip(g, p, strict=True) if x != 0]
    always = [] if own is None else [(own, mpmath.mpf(1))]
    values = [x for x, _ in kept + always]
    unit = lcm(b.denominator, *(x.denominator for x in values))
    table = _box_table(tuple(int(x * unit) for x in values), int(b * unit), q)
    weights = [mpmath.mpf(1)]
    for _, chance in kept + always:  # feature j is bit j of the mask
        weights = [w * (1 - chance) for w in weights] + [w * chance for w in weights]
    return mpmath.fdot(weights, table) / mpmath.mpf(unit) ** q


@lru_cache(maxsize=4096)
def _box_table(g, b, q):
    """`E r(b + sum_{j in A} g_j u_j)^q` over the box of each active set A, for integers g, b, as mpf by the mask of A."""
    corner = [b]
    for x in g:
        corner += [c + x for c in corner]
    corner = [max(c, 0) for c in corner]
    table = []
    for A in range(2 ** len(g)):
        k, total, C = A.bit_count(), 0, A
        while True:
            total += (-1) ** (k - C.bit_count()) * corner[C] ** (q + k)
            if C == 0:
                break
            C = (C - 1) & A
        scale = factorial(q + k) * prod(x for j, x in enumerate(g) if A >> j & 1)
        table.append(mpmath.mpf(total * factorial(q)) / scale)
    return table


# --- any number of features


def _uniform(z):
    """`E e^{zu}` and `E u e^{zu}` of u ~ U[0, 1]; by series where |z| < 1."""
    small = np.abs(z) < 1
    far, near = np.where(small, 1, z), np.where(small, z, 0)
    psi = np.expm1(far) / far
    slope = (np.exp(far) - psi) / far
    near_psi, near_slope = (sum(near**k / (factorial(k) * (k + d + 1)) for k in range(19)) for d in (0, 1))
    return np.where(small, near_psi, psi), np.where(small, near_slope, slope)


def _symmetric(z):
    """U = 2v - 1: `E e^{zu} = e^{-z} E e^{2zv}`, `E u e^{zu} = e^{-z} E (2v - 1) e^{2zv}`."""
    psi, slope = _uniform(2 * z)
    return np.exp(-z) * psi, np.exp(-z) * (2 * slope - psi)


def _exponential(z):
    return 1 / (1 - z), 1 / (1 - z) ** 2


TRANSFORMS = {"uniform": _uniform, "symmetric": _symmetric, "exponential": _exponential}
SECOND_MOMENTS = {"uniform": 1 / 3, "symmetric": 1 / 3, "exponential": 2.0}


def bromwich(g, b, densities, i, *, law="uniform", kind="independent", sets=None, nodes=4000):
    """`E r(y)^q = q!/(2 pi i) int M(s) / s^{q+1} ds`, M(s) = E e^{sy}, by the trapezoid rule on `s = al + i k h`.

    The term with nobody active is a jump, taken out of M and added back; h = 2 pi al / 38 errs by e^-38, as singularities
    are al away or more: at 0, and an exponential's at 1 / g >= 2 al. What is cut off falls as (nodes h)^-2 or faster.
    Not for binary features, whose M does not decay.

    Args:
        g: the row, `(n,)`.
        b: the bias.
        densities: of each feature, `(n,)`; for `kind` "together" that of its set.
        i: the output's own feature.
        law: a key of `TRANSFORMS`.
        kind: "independent", "exclusive" or "together".
        sets: number of each feature's set; sets of one by default.
        nodes: of the rule.
    """
    g, p = np.asarray(g, float), np.broadcast_to(np.asarray(densities, float), np.shape(g))
    sets = np.arange(len(g)) if sets is None else np.asarray(sets)
    row = (g, p, sets, TRANSFORMS[law], kind)
    al = _saddle(row, b, law)
    h, none = 2 * np.pi * al / 38, np.prod(_idle(p, sets, kind))
    sums = np.zeros(3)
    for ks in np.array_split(np.arange(nodes), max(1, nodes * len(g) // 10**6)):
        s = al + 1j * h * ks
        whole, cross = _transform(row, s, i)
        turn = np.exp(s * b) * np.where(ks == 0, 0.5, 1)
        terms = [turn * (whole - none) / s**2, 2 * turn * (whole - none) / s**3, turn * cross / s**2]
        sums += h / np.pi * np.array([t.sum().real for t in terms])
    return sums[0] + none * max(b, 0), sums[1] + none * max(b, 0) ** 2, sums[2]


def bromwich_loss(g, b, densities, i, *, law="uniform", **settings):
    """`E (x_i - r(y))^2` of one output by `bromwich`."""
    _, second, cross = bromwich(g, b, densities, i, law=law, **settings)
    return np.broadcast_to(densities, np.shape(g))[i] * SECOND_MOMENTS[law] - 2 * cross + second


def _idle(p, sets, kind):
    first = np.unique(sets, return_index=True)[1]
    return 1 - (np.bincount(sets, p) if kind == "exclusive" else p[first])


def _transform(row, s, i):
    """`E e^{s(y - b)}` and `E x_i e^{s(y - b)}` at the nodes s."""
    g, p, sets, law, kind = row
    psi, slope = law(s[:, None] * g[None, :])
    number = sets.max() + 1
    member = np.equal.outer(np.arange(number), sets)
    idle = _idle(p, sets, kind)[None, :]
    if kind == "independent":
        factors, own = idle + p[None, :] * psi, p[i] * slope[:, i]
    elif kind == "exclusive":
        factors, own = idle + (p[None, :] * psi) @ member.T, p[i] * slope[:, i]
    else:
        factors = idle + (1 - idle) * np.stack([np.prod(psi[:, m], axis=1) for m in member], 1)
        mates = member[sets[i]] & (np.arange(len(g)) != i)
        own = p[i] * slope[:, i] * np.prod(psi[:, mates], axis=1)
    others = np.prod(np.delete(factors, sets[i], axis=1), axis=1)
    return others * factors[:, sets[i]], others * own


def _saddle(row, b, law):
    """Al > 0 that minimises `ln M(al) + al b - 3 ln al`, on a grid."""
    g, spread = row[0], max(np.abs(row[0]).max(), 1e-3)
    top = 0.5 / spread if law == "exponential" else min(500 / (np.abs(g).sum() + abs(b) + spread), 1000.0)
    grid = np.geomspace(1e-3 * top, top, 200)
    whole, _ = _transform(row, grid, 0)
    return grid[np.argmin(np.log(whole) + grid * b - 3 * np.log(grid))]


def tree_states(tree):
    """Every pattern of active features with its probability, feature by feature, from the definition."""
    p, n = np.asarray(tree.features.density), len(tree.parents)
    for pattern in np.ndindex(*(2,) * n):
        chance = 1.0
        for parent in range(-1, n):
            children = [i for i in range(n) if tree.parents[i] == parent]
            on = [i for i in children if pattern[i]]
            if parent >= 0 and not pattern[parent]:
                chance *= not on
            elif tree.exclusive and parent >= 0:
                chance *= 0 if len(on) > 1 else p[on[0]] if on else 1 - p[children].sum()
            else:
                chance *= np.prod([p[i] if pattern[i] else 1 - p[i] for i in children])
        yield np.array(pattern), chance
