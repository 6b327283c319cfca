"""Orthogonal matching pursuit with a known dictionary: one feature after the other, all codes fitted anew each time."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from superpose.sae.ladder.inputs import check, check_number
from superpose.sae.ladder.lasso import columns, lasso, scattered, solved


def pursuit(
    D: Float[Array, "m n"],
    h: Float[Array, " _"],
    k: Int[Array, ""] | int,
    tolerance: Float[Array, ""] | float = 0.0,
    *,
    most: int | None = None,
    signed: bool = False,
) -> Float[Array, " n"]:
    """Add the feature with the largest `D_i . r / |D_i|`, fit codes `x >= 0` of all so far to h, and again, until there are k.

    r = h - D x is the residual. It stops early where `|r| <= tolerance`, where that is rounding of h, or where no feature points
    along r. With `signed` codes, features count by `|D_i . r| / |D_i|` and the fit is plain least squares.

    Args:
        D: directions of the features, in columns; a zero column is never chosen.
        h: one activation, shape (m,).
        k: features to choose at most, from 0 to `most`; it may differ from activation to activation.
        tolerance: length of the residual that counts as none, >= 0: `sigma sqrt(m)` for noise of standard deviation sigma.
        most: the largest k, from 1 to min(m, n). None: k itself, which then has to be a plain number.
        signed: whether codes may be negative.

    Returns:
        Codes, at most k of them not 0.

    Raises:
        ValueError: shapes that do not fit, `h` with nan or inf, `k` or `most` out of range, or a negative tolerance.

    Reference: Pati, Rezaiifar and Krishnaprasad 1993, "Orthogonal matching pursuit"; Bruckstein, Elad and Zibulevsky 2008, "On the
    uniqueness of nonnegative sparse solutions to underdetermined systems of equations", for non-negative codes.
    """
    check(D, h)
    check_number("tolerance", tolerance)
    most = _largest(k, most, D.shape)
    with jax.default_matmul_precision("highest"):
        return _pursuit(D, h, jnp.asarray(k), tolerance, most, signed)


def _pursuit(D: Array, h: Array, k: Array, tolerance: Array | float, most: int, signed: bool) -> Array:
    n = D.shape[1]
    eps = 64 * jnp.finfo(h.dtype).eps * jnp.linalg.norm(h)
    lengths = jnp.linalg.norm(D, axis=0)

    def step(carry: tuple) -> tuple:
        index, x, t, _ = carry
        r = h - columns(D, index) @ x
        along = D.T @ r / jnp.where(lengths > 0, lengths, 1)
        chosen = jnp.zeros(n + 1, bool).at[index].set(True)[:n]
        score = jnp.where(chosen, 0, jnp.abs(along) if signed else along)
        feature = jnp.argmax(score)
        more = (score[feature] > eps) & (jnp.linalg.norm(r) > jnp.maximum(tolerance, eps))
        index = jnp.where(more, index.at[t].set(feature), index)
        return index, _fitted(D, h, index, signed), t + 1, more

    start = jnp.full(most, n), jnp.zeros(most, h.dtype), 0, True
    index, x, *_ = jax.lax.while_loop(lambda carry: carry[3] & (carry[2] < k), step, start)
    return scattered(x, index, n)


def _fitted(D: Array, h: Array, index: Array, signed: bool) -> Array:
    """Codes of the features chosen that fit h best."""
    B = columns(D, index)
    return solved(B, (B.T @ h)[:, None], index == D.shape[1])[:, 0] if signed else lasso(B, h, 0.0).x


def _largest(k: Array | int, most: int | None, shape: tuple[int, ...]) -> int:
    if most is None:
        if not isinstance(k, int):
            raise ValueError("most = None: needs the largest k, where k is an array")
        most = k
    if not 1 <= most <= min(shape):
        raise ValueError(f"{'k' if k is most else 'most'} = {most}: needs at least 1 and at most min(m, n) = {min(shape)}")
    if not isinstance(k, Tracer) and not np.all((np.asarray(k) >= 0) & (np.asarray(k) <= most)):
        raise ValueError(f"k = {k}: needs at least 0 and at most most = {most}")
    return most
