"""Non-negative least squares with an L1 penalty: `min |h - D x|^2 / 2 + penalty sum_i x_i` over x >= 0, solved exactly.

The minimum is linear in the penalty between breakpoints. The path starts at x = 0, where the penalty is `max_i D_i . h`, and goes
down from breakpoint to breakpoint: at each a feature joins the active ones or drops out. It ends after about as many breakpoints as
there are active features, and the duality gap certifies the answer. Zero columns of D stay inactive.

Reference: Efron et al. 2004, "Least angle regression", sections 3.1 and 3.4.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from superpose.sae.ladder.inputs import check, check_number

BREAKPOINTS = 6
"""The path is given up after so many breakpoints for each feature that may be active."""


@struct.dataclass
class Codes:
    """Codes of one activation.

    `x` (n,), >= 0: the codes. `gap`, >= 0: they lie at most so far above the minimum.
    """

    x: Array
    gap: Array


def lasso(
    D: Float[Array, "m n"], h: Float[Array, " _"], penalty: Float[Array, ""] | float = 0.0, *, most: int | None = None
) -> Codes:
    """Minimise `|h - D x|^2 / 2 + penalty sum_i x_i` over x >= 0; with penalty 0 these are non-negative least squares.

    Where many x are minima at penalty 0, as they are for n > m, this is the limit of a falling penalty: the one with the least
    `sum_i x_i`. Penalties below `64 eps max_i D_i . h` count as that in the gap. A breakpoint takes O(m n + most^3).

    Args:
        D: directions of the features, in columns of any length.
        h: one activation, shape (m,).
        penalty: >= 0.
        most: features that may be active, >= 1. The path stops before it has more, and then the gap is large. None: min(m, n),
            which is enough.

    Raises:
        ValueError: shapes that do not fit, `h` with nan or inf, a negative penalty, or `most` out of range.
    """
    check(D, h)
    check_number("penalty", penalty)
    most = min(D.shape) if most is None else most
    if not 1 <= most <= D.shape[1]:
        raise ValueError(f"most = {most}: needs at least 1 and at most n = {D.shape[1]}")
    with jax.default_matmul_precision("highest"):
        floor = 64 * jnp.finfo(h.dtype).eps * jnp.max(jnp.abs(D.T @ h))
        index = _path(D, h, jnp.maximum(penalty, floor), most)
        u, d, *_ = _segment(D, h, index)
        x = scattered(jnp.maximum(u - penalty * d, 0), index, D.shape[1])
        return Codes(x, gap(D, h, x, jnp.maximum(penalty, floor)))


def gap(D: Float[Array, "m n"], h: Float[Array, " m"], x: Float[Array, " n"], penalty: Array | float) -> Float[Array, ""]:
    """`(1 - s)^2 |r|^2 / 2 + sum_i x_i (penalty - s D_i . r)` with `r = h - D x`: how far x lies above the minimum at most.

    It is the objective less that of the dual, `u . h - |u|^2 / 2` at `u = s r`, where s <= 1 is such that `D_i . u <= penalty`.

    Args:
        D: directions of the features, in columns.
        h: one activation.
        x: codes, >= 0.
        penalty: > 0.

    Reference: Kim et al. 2007, "An interior-point method for large-scale l1-regularized least squares", section III.
    """
    r = h - D @ x
    top = jnp.max(D.T @ r)
    s = jnp.where(top > penalty, penalty / jnp.where(top > penalty, top, 1), 1)
    return (1 - s) ** 2 * jnp.sum(r**2) / 2 + jnp.maximum(jnp.sum(x * (penalty - s * (D.T @ r))), 0)


def _path(D: Array, h: Array, penalty: Array, most: int) -> Int[Array, " most"]:
    """The active features at the penalty, in slots; n in an empty one."""
    n = D.shape[1]

    def step(carry: tuple) -> tuple:
        at, index, t = carry
        u, d, e, a, active = _segment(D, h, index)
        rising = ~active & (1 - a > jnp.finfo(h.dtype).eps ** 0.75) & jnp.any(index == n)
        join = jnp.where(rising, jnp.minimum(e / jnp.where(rising, 1 - a, 1), at), -jnp.inf)
        falling = (index < n) & (d < 0)
        drop = jnp.where(falling, jnp.minimum(u / jnp.where(falling, d, 1), at), -jnp.inf)
        feature, slot = jnp.argmax(join), jnp.argmax(drop)
        joined = index.at[jnp.argmax(index == n)].set(feature)
        ahead = jnp.maximum(join[feature], drop[slot])
        changed = jnp.where(join[feature] >= drop[slot], joined, index.at[slot].set(n))
        return ahead, jnp.where(ahead > penalty, changed, index), t + 1

    def unfinished(carry: tuple) -> Array:
        return (carry[0] > penalty) & (carry[2] < BREAKPOINTS * most + 1)

    start = jnp.asarray(jnp.inf, h.dtype), jnp.full(most, n), 0
    return jax.lax.while_loop(unfinished, step, start)[1]


def _segment(D: Array, h: Array, index: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Between two breakpoints the active codes are `u - penalty d`, and `D_i . (h - D x) = e + penalty a` for all i."""
    B = columns(D, index)
    u, d = solved(B, jnp.stack([B.T @ h, jnp.ones(len(index), h.dtype)], axis=1), index == D.shape[1]).T
    active = jnp.zeros(D.shape[1] + 1, bool).at[index].set(True)[:-1]
    return u, d, D.T @ (h - B @ u), D.T @ (B @ d), active


def columns(D: Float[Array, "m n"], index: Int[Array, " k"]) -> Float[Array, "m k"]:
    """Some columns of D; a zero column for the number n."""
    return jnp.concatenate([D, jnp.zeros_like(D[:, :1])], axis=1)[:, index]


def solved(B: Float[Array, "m k"], right: Float[Array, "k c"], empty: Array) -> Float[Array, "k c"]:
    """`(B^T B)^-1 right` of the columns that are not empty; 0 for those."""
    found = jnp.linalg.solve(B.T @ B + jnp.diag(empty.astype(B.dtype)), right)
    return jnp.where(empty[:, None], 0, found)


def scattered(x: Float[Array, " k"], index: Int[Array, " k"], n: int) -> Float[Array, " {n}"]:
    """Codes at their features, the others 0; what stands at the number n is left out."""
    return jnp.zeros(n + 1, x.dtype).at[index].set(x)[:n]
