"""Which latent stands for which feature: cosines of a dictionary with the truth, and the best matching of one to one.

`W_dec` has shape (m, L), its column `d_l` the direction that latent l writes; `D` has shape (m, n), its column `D_i` the direction
of feature i. `d_l_hat = d_l / |d_l|`, and 0 for a zero column.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment

from superpose import weights

Plain = Array | np.ndarray
"""An array of jax or of NumPy."""


@struct.dataclass
class Matching:
    """One latent for one feature: min(L, n) pairs with the largest sum of cosines.

    `feature` (L,): the feature of each latent, -1 for none. `latent` (n,): the latent of each feature, -1 for none. `cosine` (L,):
    of each latent with its feature, `|d_l_hat . D_i_hat|`, or `d_l_hat . D_i_hat` if the matching is signed; 0 for none.
    """

    feature: Array
    latent: Array
    cosine: Array


def directions(W: Float[Plain, "m k"]) -> Float[Array, "m k"]:
    """Columns of length 1: `W_i / |W_i|`, and 0 for a zero column."""
    W = jnp.asarray(W)
    W = W / weights.power_of_two(W, axis=0)
    length = jnp.linalg.norm(W, axis=0, keepdims=True)
    return W / jnp.where(length == 0, 1, length)


@jax.jit
def cosines(W_dec: Float[Plain, "m L"], D: Float[Plain, "m n"]) -> Float[Array, "L n"]:
    """`C_li = d_l_hat . D_i_hat`, signed, in [-1, 1] up to rounding; 0 for a zero column."""
    return jnp.matmul(directions(W_dec).T, directions(D), precision="highest")


def nearest(C: Float[Plain, "L n"]) -> Int[Array, " L"]:
    """The feature that each latent's direction is nearest to, `argmax_i |C_li|`; several latents may share one."""
    return jnp.argmax(jnp.abs(C), axis=1)


def match(W_dec: Float[Plain, "m L"], D: Float[Plain, "m n"], *, signed: bool = False) -> Matching:
    """Match latents to features, one to one, at the maximum of `sum |C_li|` over the pairs, or of `sum C_li` if `signed`.

    By the Hungarian method on the host, so not under `jit`; seconds for L = 4,096 and n = 16,384. The cosine of a pair is
    `1 - |s d_l_hat - D_i_hat|^2 / 2`, s the sign of C_li (1 if `signed`): exact where both are the same direction, so that
    the true dictionary scores 1, not 1 up to rounding.

    Args:
        W_dec: directions of L latents, in columns.
        D: directions of n features, in columns.
        signed: whether a latent opposite to a feature is a bad match. Latents are not negative, so it then cannot write it.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.

    Reference: Kuhn 1955, "The Hungarian method for the assignment problem"; matching by |cos| as in arXiv:2505.20254.
    """
    check_dictionaries(W_dec, D)
    weights.check_finite(W_dec, "W_dec")
    C = cosines(W_dec, D)
    row, column = linear_sum_assignment(np.asarray(C) if signed else np.abs(C), maximize=True)
    feature, latent = np.full(C.shape[0], -1), np.full(C.shape[1], -1)
    feature[row], latent[column] = column, row
    return Matching(jnp.asarray(feature), jnp.asarray(latent), _pair_cosines(W_dec, D, feature, signed=signed))


def check_dictionaries(W_dec: Float[Plain, "_ _"], D: Float[Plain, "_ _"]) -> None:
    """Raise unless both are matrices of real numbers with as many rows, and `D` is finite.

    Raises:
        ValueError: names what does not fit.
    """
    weights.check(W_dec, "W_dec")
    weights.check(D, "D")
    if W_dec.shape[0] != D.shape[0]:
        raise ValueError(f"W_dec has shape {W_dec.shape}, D {D.shape}: needs (m, L) and (m, n) with the same m")
    weights.check_finite(D, "D")


@partial(jax.jit, static_argnames="signed")
def _pair_cosines(W_dec: Plain, D: Plain, feature: Int[Plain, " L"], *, signed: bool) -> Float[Array, " L"]:
    d, true = directions(W_dec), directions(D)[:, feature]
    sign = 1 if signed else jnp.where(jnp.sum(d * true, axis=0, keepdims=True) < 0, -1, 1)
    cosine = 1 - jnp.sum((sign * d - true) ** 2, axis=0) / 2
    return jnp.where((feature >= 0) & jnp.any(d != 0, axis=0) & jnp.any(true != 0, axis=0), cosine, 0)
