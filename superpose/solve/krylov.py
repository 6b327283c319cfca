"""What products with a symmetric matrix tell about it: its extreme eigenvalues, and `g^T A^-1 g`, without its entries.

Reference: Golub and Van Loan 2013, "Matrix Computations", sections 10.1 to 10.3 (Lanczos); Nocedal and Wright 2006, "Numerical
Optimization", algorithm 7.2 (conjugate gradients that stop at negative curvature).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from superpose._jax.one_by_one import eigh

Vector = Float[Array, " d"]
Product = Callable[[Vector], Vector]

BREAKDOWN = 0.5
"""Power of the rounding of 1, times the size of A, below which what is left of a product is nothing new."""
LOW = 8
"""So many of the lowest Ritz values are returned."""
LOOK = 50
"""Products after which the error is looked at."""


class Ends(NamedTuple):
    """The two ends of a spectrum, from Ritz values.

    `low`: the lowest ones, ascending, with their `vectors` in rows; where there are fewer, the last again. `error`: how near to
    the lowest an eigenvalue is for certain. `largest`.
    """

    low: Float[Array, " k"]
    vectors: Float[Array, "k d"]
    error: Float[Array, ""]
    largest: Float[Array, ""]

    @property
    def lowest(self) -> Float[Array, ""]:
        """The lowest Ritz value."""
        return self.low[0]


class _Basis(NamedTuple):
    vectors: Array  # (most, d), orthonormal; 0 where there is none yet
    now: Array
    before: Array
    alpha: Array
    beta: Array
    count: Array
    ends: Ends


def ends(
    product: Product,
    start: Vector,
    steps: Int[Array, ""] | int,
    *,
    most: int,
    atol: Array | float = 0.0,
    rtol: Array | float = 0.0,
    within: Product = lambda v: v,
) -> Ends:
    """Extreme eigenvalues of a symmetric matrix A by Lanczos's iteration, every vector orthogonal to all before.

    With `A Q = Q T + beta q e^T` and `T s = theta s`, `theta` is a Ritz value, and an eigenvalue of A lies within
    `|beta s_last|` of it. The lowest eigenvalue of A is at most the lowest Ritz value: a negative one proves a negative
    eigenvalue. A lower one is missed only if `start` has next to no part along its vector, so take it at random.

    Args:
        product: v to A v.
        start: any vector but 0.
        steps: products, at least 1, at most `most`.
        most: vectors that are kept; at most as many are used as `start` has numbers.
        atol: it stops where the error, looked at now and then, is at most `max(rtol |lowest|, atol)`.
        rtol: see `atol`.
        within: an orthogonal projection; the spectrum is that of A there.
    """
    most = min(most, start.shape[0])
    steps, zeros, small = jnp.minimum(steps, most), jnp.zeros(most, start.dtype), jnp.finfo(start.dtype).eps ** BREAKDOWN

    def unfinished(s: _Basis) -> Bool[Array, ""]:
        return (s.count < steps) & (s.now @ s.now > 0)

    def advance(s: _Basis) -> _Basis:
        vectors, image = s.vectors.at[s.count].set(s.now), product(s.now)
        alpha = image @ s.now
        image = image - alpha * s.now - s.beta[s.count - 1] * s.before
        image = within(image - (vectors @ image) @ vectors)
        beta = jnp.linalg.norm(image)
        alphas, betas = s.alpha.at[s.count].set(alpha), s.beta.at[s.count].set(beta)
        over = beta <= small * jnp.maximum(jnp.abs(alphas).max(), betas.max())
        after = jnp.where(over, 0, image / jnp.where(over, 1, beta))
        return _Basis(vectors, after, s.now, alphas, betas, s.count + 1, s.ends)

    def looked_at(s: _Basis) -> _Basis:
        last = s.count + LOOK
        s = jax.lax.while_loop(lambda s: unfinished(s) & (s.count < last), advance, s)
        return s._replace(ends=_ritz(s))

    def unsure(s: _Basis) -> Bool[Array, ""]:
        return unfinished(s) & (s.ends.error > jnp.maximum(rtol * jnp.abs(s.ends.lowest), atol))

    zero, start = jnp.zeros_like(start), within(start)
    empty = jnp.zeros((most, start.shape[0]), start.dtype)
    count = jnp.zeros((), jnp.int32)
    begin = _Basis(empty, start / jnp.linalg.norm(start), zero, zeros, zeros, count, unknown(start, most))
    return jax.lax.while_loop(unsure, looked_at, begin).ends


def unknown(like: Vector, most: int) -> Ends:
    """Before the first product."""
    count, infinite = min(LOW, most, len(like)), jnp.full((), jnp.inf, like.dtype)
    return Ends(jnp.zeros(count, like.dtype), jnp.zeros((count, len(like)), like.dtype), infinite, infinite)


def _ritz(s: _Basis) -> Ends:
    row = jnp.arange(len(s.alpha))
    beside = jnp.where(row[:-1] < s.count - 1, s.beta[:-1], 0)
    beyond = jnp.max(jnp.abs(s.alpha)) + 2 * jnp.max(s.beta)  # no Ritz value is as large
    diagonal = jnp.diag(jnp.where(row < s.count, s.alpha, beyond))
    values, vectors = eigh(diagonal + jnp.diag(beside, 1) + jnp.diag(beside, -1))
    chosen = jnp.minimum(jnp.arange(len(s.ends.low)), s.count - 1)
    error = s.beta[s.count - 1] * jnp.abs(vectors[s.count - 1, 0])
    return Ends(values[chosen], vectors[:, chosen].T @ s.vectors, error, values[s.count - 1])


class Solved(NamedTuple):
    """`x` near `-(A + shift)^-1 g`, and an upper bound of `g^T (A + shift)^-1 g / 2`, infinite for an A that is not positive.

    Then `curvature` is that of A along the unit vector `direction`, at most `-shift`; else infinite.
    """

    x: Vector
    decrement: Float[Array, ""]
    curvature: Float[Array, ""]
    direction: Vector


def solved(product: Product, g: Vector, shift: Array, *, atol: Array, rtol: Array, steps: int) -> Solved:
    """Conjugate gradients for `(A + shift) x = -g`, until `|r| <= max(rtol |g|, atol)`, negative curvature, or so many steps.

    With the residual `r = g + (A + shift) x` the bound is `(-g^T x - r^T x + r^T r / shift) / 2`, as no eigenvalue of `A + shift`
    is below `shift` if A has no negative one. Curvatures far below `shift` count as flat: they add `|g|^2 / shift` at most.
    """
    target = jnp.maximum(rtol * jnp.linalg.norm(g), atol)

    def unfinished(s: tuple) -> Bool[Array, ""]:
        _, r, _, curvature, count = s
        return (curvature > 0) & (jnp.linalg.norm(r) > target) & (count < steps)

    def advance(s: tuple) -> tuple:
        x, r, direction, _, count = s
        image = product(direction) + shift * direction
        curvature = direction @ image
        going_up = curvature > 0
        length = jnp.where(going_up, r @ r / jnp.where(going_up, curvature, 1), 0)
        rest = r + length * image
        turned = jnp.where(going_up, (rest @ rest) / (r @ r) * direction - rest, direction)
        return x + length * direction, rest, turned, curvature, count + 1

    start = (jnp.zeros_like(g), g, -g, jnp.full((), jnp.inf, g.dtype), jnp.zeros((), jnp.int32))
    x, r, direction, curvature, _ = jax.lax.while_loop(unfinished, advance, start)
    size = jnp.linalg.norm(direction)
    going_up, size = curvature > 0, jnp.where(size > 0, size, 1)
    return Solved(
        x,
        jnp.where(going_up, (r @ r / shift - (g + r) @ x) / 2, jnp.inf),
        jnp.where(going_up, jnp.inf, curvature / size**2 - shift),
        direction / size,
    )
