"""Which features fire: how often, which of them together, and which only below another.

A feature is a candidate if a normal number g_i lies above the quantile of its rate: `g_i > Phi^-1(1 - p_i)`. The numbers are
correlated, `g = F e + s eta` with `s_i^2 = 1 - |F_i|^2`, so each has variance 1 and is a candidate with probability p_i exactly.
In trees, of the children of one parent at most one candidate fires, chosen uniformly among them, and only if the parent fires.

Reference: arXiv:2602.14687, section 3; `sae_lens.synthetic`, whose rules these are.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.scipy.special import ndtri
from jaxtyping import Array, Bool, Float, Key

from superpose._jax import random_bits
from superpose._jax.stored import kept

LARGEST = 0.99
"""The most of a variance that the shared numbers may bring; rows of F that bring more are scaled down to it."""


@struct.dataclass
class Copula:
    """A Gaussian copula of low rank r.

    Args:
        rates: p, the probability that each feature is a candidate, in (0, 1], shape `(n,)`.
        factor: F, shape `(n, r)`, each row shorter than 1.
    """

    rates: Array
    factor: Array


@dataclass(frozen=True)
class Trees:
    """Trees of one shape over the first features, level by level: all roots, then the children of each root, and so on.

    The children of feature k are the features `roots + branching k` to `roots + branching k + branching - 1`. So neither a loop
    nor two parents of one feature can be written down.

    Args:
        roots: number of trees, >= 1.
        branching: children of each feature above the lowest level, >= 1.
        depth: number of levels below the roots, >= 0.

    Raises:
        ValueError: one of them below its least value.
    """

    roots: int
    branching: int = 4
    depth: int = 3

    def __post_init__(self):
        for name, value, least in (("roots", self.roots, 1), ("branching", self.branching, 1), ("depth", self.depth, 0)):
            if value < least:
                raise ValueError(f"{name} = {value}: needs at least {least}")

    @property
    def levels(self) -> tuple[int, ...]:
        """Number of features in each level, the roots first."""
        return tuple(self.roots * self.branching**level for level in range(self.depth + 1))

    @property
    def nodes(self) -> int:
        """Number of features in trees: the rest are free."""
        return sum(self.levels)


def parents(trees: Trees, *, n: int) -> np.ndarray:
    """The parent of each of n features, shape `(n,)`: `(k - roots) // branching`, -1 for roots and free features."""
    check_trees(trees, n=n)
    k = np.arange(n)
    return np.where((k >= trees.roots) & (k < trees.nodes), (k - trees.roots) // trees.branching, -1)


def zipf_rates(*, n: int, exponent: float = 0.5, low: float = 5e-4, high: float = 0.4) -> Float[Array, " {n}"]:
    """Power-law rates, `z_i = (i + 1)^-exponent` rescaled: `low + (high - low) (z_i - z_last) / (z_first - z_last)`.

    Args:
        n: number of features, >= 2; the most frequent first.
        exponent: of the power law, > 0.
        low: rate of the last feature, in (0, high).
        high: rate of the first feature, at most 1.

    Raises:
        ValueError: an argument out of its range.

    Reference: arXiv:2602.14687, section 3.
    """
    if n < 2:
        raise ValueError(f"n = {n}: needs at least 2 features")
    if not exponent > 0:
        raise ValueError(f"exponent = {exponent}: needs to be above 0")
    if not 0 < low < high <= 1:
        raise ValueError(f"low, high = {low}, {high}: needs 0 < low < high <= 1")
    z = np.arange(1, n + 1) ** -float(exponent)
    return jnp.asarray(low + (high - low) * (z - z[-1]) / (z[0] - z[-1]), float)


def copula(key: Key[Array, ""], rates: Float[Array, " n"], *, rank: int = 25, scale: float = 0.1) -> Copula:
    """A random copula: `F_ik = scale N(0, 1)`, a row with `|F_i|^2 > .99` scaled down to .99.

    Two features then correlate, before thresholds, with standard deviation `scale^2 sqrt(rank)`: .05 as SynthSAEBench has it.

    Args:
        key: draws F, once.
        rates: in (0, 1].
        rank: r, the number of shared normal numbers, >= 1.
        scale: >= 0; 0 makes features independent.

    Raises:
        ValueError: an argument out of its range.
    """
    check_rates(rates)
    if rank < 1:
        raise ValueError(f"rank = {rank}: needs at least 1")
    if not scale >= 0:
        raise ValueError(f"scale = {scale}: needs to be at least 0")
    factor = scale * jax.random.normal(key, (len(rates), rank), rates.dtype)
    shared = jnp.sum(factor**2, axis=1, keepdims=True)
    return Copula(rates, factor * jnp.sqrt(LARGEST / jnp.maximum(shared, LARGEST)))


def latent_correlation(law: Copula) -> Float[Array, "n n"]:
    """The correlation of the normal numbers g: `F F^T` off the diagonal, 1 on it."""
    return (law.factor @ law.factor.T).at[jnp.diag_indices(len(law.rates))].set(1)


def compensated_rates(rates: Float[Array, " n"], trees: Trees) -> Float[Array, " n"]:
    """Candidate rates that make up for what trees take away, by the approximation that SynthSAEBench uses.

    A child c of parent P gets `min(1, p_c / p_P (1 + sum_others p / p_P))`, the sum over its siblings; others keep their rates.
    It defines that benchmark and is not exact. Exclusive children cannot fire more often than their parent, so no rule holds
    rates with `sum_children p > p_P`; with Zipf rates of exponent 1/2 and branching 4 the sum is about `2 p_P`. Where the rates
    are low enough to hold, the factor is too large. `marginal_rates` tells what follows.

    Raises:
        ValueError: fewer than the features in `trees`, or a rate outside (0, 1].

    Reference: `sae_lens.synthetic`, `Hierarchy.compute_probability_correction_factors`.
    """
    check_trees(trees, n=len(rates))
    check_rates(rates)
    up = rates[: _above(trees)]
    ratio = rates[trees.roots : trees.nodes].reshape(-1, trees.branching) / up[:, None]
    others = jnp.maximum(jnp.sum(ratio, axis=1, keepdims=True) - ratio, 0)
    return rates.at[trees.roots : trees.nodes].set(jnp.minimum(ratio * (1 + others), 1).ravel())


def marginal_rates(candidates: Float[Array, " n"], trees: Trees) -> Float[Array, " n"]:
    """How often each feature fires, if candidates are independent.

    A child fires at `p_P q_c int_0^1 prod_others (1 - q + q t) dt`, with p_P its parent's result and q the candidates' rates: the
    integral is the mean of 1 / (1 + number of other candidates). Quadrature is exact for these polynomials. Correlated candidates
    move the result a little, and so do magnitudes that are rectified to 0.

    Raises:
        ValueError: fewer than the features in `trees`.
    """
    check_trees(trees, n=len(candidates))
    q = candidates[trees.roots : trees.nodes].reshape(-1, trees.branching)
    t, weights = np.polynomial.legendre.leggauss(trees.branching // 2 + 1)
    factors = 1 - q[:, None, :, None] * jnp.asarray((1 - t) / 2, q.dtype)[None, None, None, :]
    own = jnp.eye(trees.branching, dtype=bool)[None, :, :, None]
    wins = q * jnp.sum(jnp.where(own, 1, factors).prod(2) * jnp.asarray(weights / 2, q.dtype)[None, None, :], axis=2)
    rates, start = candidates, trees.roots
    for width in trees.levels[:-1]:
        k = (start - trees.roots) // trees.branching
        fired = rates[k : k + width, None] * wins[k : k + width]
        rates = rates.at[start : start + fired.size].set(fired.ravel())
        start += fired.size
    return rates


def excess(key: Key[Array, ""], law: Copula, *, batch: int) -> Float[Array, "n batch"]:
    """`(F_i e - Phi^-1(1 - p_i)) / s_i`, from shared numbers e that are drawn: a candidate has `-eta` below it."""
    e = jax.random.normal(key, (law.factor.shape[1], batch), law.factor.dtype)
    s = jnp.sqrt(1 - jnp.sum(law.factor**2, axis=1, keepdims=True))
    return jnp.matmul(law.factor / s, e, precision="highest") + ndtri(law.rates)[:, None] / s


def chance(over: Float[Array, "n batch"]) -> Float[Array, "n batch"]:
    """Probability that a feature is a candidate once e is drawn: `Phi(over)`, to the float type's relative precision."""
    return jax.lax.erfc(-(2**-0.5) * over) / 2


def candidates(key: Key[Array, ""], chance: Float[Array, "n batch"]) -> Float[Array, "n batch"]:
    """A number uniform on (0, 1) for each candidate, and 0 for each feature that is none.

    From a single uniform number u each: a candidate if `u < chance`, and then `u / chance` is uniform again.
    """
    u = uniform(key, *chance.shape, dtype=chance.dtype)
    return kept(jnp.where(u < chance, u / chance, 0))


def uniform(key: Key[Array, ""], n: int, batch: int, *, dtype: np.dtype) -> Float[Array, "{n} {batch}"]:
    """Uniform on (0, 1), in steps of 2^-32 or less, never 0 or 1."""
    if dtype == jnp.float64:
        v = jnp.maximum(random_bits.uniform(key, n * batch), 2.0**-53)
    else:
        v = (random_bits.bits(key, n * batch).astype(dtype) + 0.5) * 2.0**-32
        v = jnp.minimum(v, 1 - jnp.finfo(dtype).epsneg)  # the largest integers round up to 1
    return v.reshape(n, batch)


def one_of_each(
    v: Float[Array, "groups branching batch"],
) -> tuple[Bool[Array, "groups branching batch"], Float[Array, "groups batch"]]:
    """Of the candidates in each group one, chosen uniformly, and a number uniform on (0, 1) that does not depend on the choice.

    The largest of k uniform numbers wins, and its k-th power is uniform again.

    Args:
        v: a number uniform on (0, 1) for each candidate, 0 for those that are none.
    """
    best, count = jnp.max(v, axis=1), jnp.sum(v > 0, axis=1)
    taken, wins = best == 0, []
    for number in jnp.moveaxis(v, 1, 0):
        wins.append((number == best) & ~taken)
        taken |= wins[-1]
    return jnp.stack(wins, axis=1), best ** count.astype(v.dtype)


def check_rates(rates: Float[Array, " n"]) -> None:
    """Raise a `ValueError` for a rate outside (0, 1], where the values are known."""
    if isinstance(rates, Tracer):
        return
    known = np.asarray(rates)
    if not np.all((known > 0) & (known <= 1)):
        wrong = int(np.flatnonzero(~((known > 0) & (known <= 1)))[0])
        raise ValueError(f"rates[{wrong}] = {known[wrong]}: needs to lie in (0, 1]")


def check_trees(trees: Trees, *, n: int) -> None:
    """Raise a `ValueError` if there are fewer features than `trees` hold."""
    if n < trees.nodes:
        raise ValueError(f"n = {n}: needs at least the {trees.nodes} features of {trees}")


def _above(trees: Trees) -> int:
    return trees.nodes - trees.levels[-1]
