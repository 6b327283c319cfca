"""The parts of the population loss that need no series: terms with hardly any set active, and polynomial moments.

With nobody active the law of a pre-activation has an atom, with one active feature a step; both would make a cosine series
converge slowly, so their share of the loss is taken exactly. Also exact: binary features while their states can be listed; few
features with a flat law are in `superpose.box_averages`.
"""

from itertools import product as cartesian

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from superpose.magnitudes import Magnitude
from superpose.sets import Pairs, Sets, product

Rows = Float[Array, " n"]
Square = Float[Array, "n n"]

MOST_STATES = 1024
"""Binary features are summed state by state up to this many states."""


def low_order(sets: Sets, law: Magnitude, gram: Square, b: Rows) -> Rows:
    """Each output's loss with no set active, and where a closed form has it with exactly one; shape `(n,)`.

    `P_0 r(b_i)^2 + sum_{j != i} P_j E r(b_i + g_ij u)^2 + P_i E (u - r(b_i + g_ii u))^2`, with `P_j` the probability that
    feature j is active and all other sets idle.
    """
    none = jnp.prod(sets.idle) * jnp.maximum(b, 0) ** 2
    if sets.removed == 0:
        return none
    alone = sets.density * sets.others_idle[sets.number]
    shape = gram.shape
    square = law.relu_square(jnp.broadcast_to(b[:, None], shape), gram)
    off_diagonal = jnp.where(np.eye(len(b), dtype=bool), 0, square) @ alone
    return none + off_diagonal + alone * law.relu_error(b, jnp.diagonal(gram))


def _set_sums(sets: Sets, x: Array) -> Array:
    """Sum the last axis (features) within sets."""
    if sets.alone:
        return x
    member = np.equal.outer(sets.number, np.arange(len(sets.idle)))
    return x @ jnp.asarray(member, x.dtype)


def set_moments(sets: Sets, law: Magnitude, gram: Square) -> tuple[Array, Array]:
    """First and second moment of each set's share of each pre-activation, `E Y_s` and `E Y_s^2`; shapes `(n, S)`."""
    mu1, mu2, _ = law.moments
    p = sets.density[None, :]
    first, second = _set_sums(sets, gram * p * mu1), _set_sums(sets, gram**2 * p * mu2)
    if sets.kind == "together" and not sets.alone:
        pairs = _set_sums(sets, gram) ** 2 - _set_sums(sets, gram**2)
        second = second + (1 - sets.idle)[None, :] * mu1**2 * pairs
    return first, second


def moments(sets: Sets, law: Magnitude, gram: Square, offset: Rows) -> tuple[Float[Array, ""], Rows, Rows, Rows, Rows]:
    """Polynomial moments over the inputs that `low_order` and pairs leave.

    With Y = sum_j g_ij x_j, and everything restricted to more than `sets.removed` active sets, less `sets.pairs`:

    Returns:
        the probability; `E (offset_i + Y_i)^2`; the probability that feature i is active; `E x_i (offset_i + Y_i)` and
        `E x_i (offset_i + Y_i)^2`; the last four of shape `(n,)`.
    """
    first, second = set_moments(sets, law, gram)
    removed = sets.removed == 1
    others, any_, several = _activity(sets)
    probability = several if removed else any_
    others = others if removed else jnp.ones_like(others)
    total, squares = first.sum(1), (first**2).sum(1)
    square = offset**2 * probability + 2 * offset * (first @ others) + second @ others + total**2 - squares
    own_first, own_second = _own(sets, first), _own(sets, second)
    outside = total - own_first
    outside_square = second.sum(1) - own_second + outside**2 - (squares - own_first**2)
    mass, linear, quadratic = _own_moments(sets, law, gram, offset)
    cross = quadratic * others[sets.number] + 2 * linear * outside + mass * outside_square
    tilt = linear * others[sets.number] + mass * outside
    found = probability, square, sets.density * others[sets.number], tilt, cross
    if sets.pairs is None:
        return found
    paired = _pair_moments(sets.pairs, sets.density, law, gram, offset)
    return tuple(x - y for x, y in zip(found, paired, strict=True))


def _pair_moments(pairs: Pairs, density: Rows, law: Magnitude, gram: Square, offset: Rows) -> tuple:
    """What `moments` returns, over the pairs j < l alone, each of weight `scale spread_j p_j spread_l p_l`."""
    mu1, mu2, mu3 = law.moments
    chance = pairs.spread * density
    single = pairs.scale * chance * (chance.sum() - chance)  # one of the pair is j
    probability = single.sum() / 2
    pulls = gram * chance[None, :]
    products = pairs.scale * (pulls.sum(1) ** 2 - (pulls**2).sum(1))  # 2 sum over pairs of g_ij g_il
    square = offset**2 * probability + 2 * mu1 * offset * (gram @ single) + mu2 * (gram**2 @ single) + mu1**2 * products
    g, own = jnp.diagonal(gram), pairs.scale * chance
    mates, squares = own * (pulls.sum(1) - chance * g), own * ((gram * pulls).sum(1) - chance * g**2)
    linear = mu1 * offset + mu2 * g
    tilt = single * linear + mu1**2 * mates
    cross = single * (mu1 * offset**2 + 2 * mu2 * offset * g + mu3 * g**2) + 2 * mu1 * linear * mates + mu1 * mu2 * squares
    return probability, square, single, tilt, cross


def _activity(sets: Sets) -> tuple[Array, Array, Array]:
    """Probability that a set other than s is active, shape `(S,)`; that any set is; that more than one is.

    From each set's chance and `log(1 - chance)`: `1 - chance`, rounded, keeps few digits of a small chance.
    """
    chance = sets.density if sets.alone else 1 - sets.idle
    logs = jnp.log1p(-jnp.minimum(chance, 1 - jnp.finfo(chance.dtype).eps))
    total, small = logs.sum(), chance < 0.5
    fewer = jnp.exp(total) + (chance * jnp.exp(total - logs)).sum()
    odds = jnp.where(fewer < 0.5, 0, jnp.where(small, chance / jnp.where(small, 1 - chance, 1), chance))
    _, more = product(jnp.where(small, 1, 1 - chance), odds)  # nothing is subtracted
    several = jnp.where(fewer < 0.5, 1 - fewer, jnp.exp(jnp.where(small, logs, 0).sum()) * more)
    return -jnp.expm1(total - logs), -jnp.expm1(total), several


def _own(sets: Sets, x: Array) -> Rows:
    """The entry of each output's own set, from shape `(n, S)`."""
    return x[np.arange(len(sets.number)), sets.number]


def _own_moments(sets: Sets, law: Magnitude, gram: Square, offset: Rows) -> tuple[Rows, Rows, Rows]:
    """`E x_i`, `E x_i (o + Y)` and `E x_i (o + Y)^2`, Y the own set's share while feature i is active."""
    mu1, mu2, mu3 = law.moments
    g = jnp.diagonal(gram)
    linear, quadratic = offset * mu1 + g * mu2, offset**2 * mu1 + 2 * offset * g * mu2 + g**2 * mu3
    if sets.kind == "together" and not sets.alone:
        mates = jnp.asarray(np.equal.outer(sets.number, sets.number) & ~np.eye(len(g), dtype=bool), g.dtype)
        mean = mu1 * (gram * mates).sum(1)
        square = (mu2 - mu1**2) * (gram**2 * mates).sum(1) + mean**2
        linear, quadratic = linear + mu1 * mean, quadratic + 2 * linear * mean + mu1 * square
    return sets.density * mu1, sets.density * linear, sets.density * quadratic


def states(sets: Sets) -> np.ndarray | None:
    """All patterns of active features, shape `(states, n)`, or None if they are more than `MOST_STATES`."""
    n = len(sets.number)
    options = []
    for s in range(len(sets.idle)):
        mates = sets.number == s
        options.append([np.zeros(n, bool)] + ([mates] if sets.kind == "together" else list(np.eye(n, dtype=bool)[mates])))
    if np.prod([float(len(o)) for o in options]) > MOST_STATES:
        return None
    return np.array([np.any(choice, axis=0) for choice in cartesian(*options)])


def binary(sets: Sets, patterns: np.ndarray, gram: Square, b: Rows) -> Rows:
    """`sum_A P(A) (1[i in A] - r(b_i + sum_{j in A} g_ij))^2` over all patterns A; shape `(n,)`."""
    x = jnp.asarray(patterns, b.dtype)
    on = np.array([[np.any(row & (sets.number == s)) for s in range(len(sets.idle))] for row in patterns])
    probability = jnp.prod(jnp.where(on, _active_probability(sets, patterns), sets.idle[None, :]), axis=1)
    return probability @ (x - jnp.maximum(b[None, :] + x @ gram, 0)) ** 2


def _active_probability(sets: Sets, patterns: np.ndarray) -> Array:
    """Probability of each set's part of each pattern, where the set is on; shape `(states, S)`."""
    if sets.kind == "together":
        return (1 - sets.idle)[None, :]
    return _set_sums(sets, jnp.where(patterns, sets.density[None, :], 0))
