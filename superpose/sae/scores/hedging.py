"""Hedging: a latent for which there is no partner turns from its feature towards others that are on together with it.

Reference: Chanin et al. 2025, "Feature hedging", arXiv:2505.11756.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from superpose.sae.scores.matching import Matching, Plain, directions


@struct.dataclass
class Turn:
    """Where each latent has turned, shape (L,).

    `angle` from its feature, in radians, in [0, pi/2]; nan without a feature. `towards`: the other feature that it has turned to,
    -1 for none. `alignment`: the cosine, in [-1, 1], between its turn and that feature, each without its part along the latent's
    own feature; 0 for none.
    """

    angle: Array
    towards: Array
    alignment: Array


def hedging_angle(
    p1: Float[Array, ""] | float, p2: Float[Array, ""] | float, p12: Float[Array, ""] | float
) -> Float[Array, ""]:
    """The angle a, in radians, by which one linear latent turns from feature 1 towards feature 2.

    `tan 2a = 2 (p12 - p1 p2) / (p1 (1 - p1) - p2 (1 - p2))`, a in (-pi/2, pi/2]: the direction of the largest variance of two
    features of value 1 in orthogonal directions of length 1. It is that of the best autoencoder with one latent, no ReLU, and
    biases. Negative where the features avoid each other. 0, with slope 0, where both variances agree and the features are
    uncorrelated, as then every direction is as good.

    Args:
        p1: probability that feature 1 is on, in (0, 1).
        p2: probability that feature 2 is on.
        p12: probability that both are, at most p1 and p2.
    """
    above, below = 2 * (p12 - p1 * p2), jnp.asarray(p1 * (1 - p1) - p2 * (1 - p2))
    none = (above == 0) & (below == 0)
    return jnp.where(none, 0, jnp.arctan2(jnp.where(none, 0, above), jnp.where(none, 1, below)) / 2)


@jax.jit
def turn(W_dec: Float[Plain, "m L"], D: Float[Plain, "m n"], matching: Matching) -> Turn:
    """The angle between each latent's direction and its feature's, and the feature that it has turned to.

    With unit columns, latent l matched to feature i, and s the sign of `d_l . D_i`: `angle = 2 arcsin(|s d_l - D_i| / 2)`, accurate
    for small angles too. The turn is r, `s d_l - D_i` without its part along `D_i`, and `towards` is the feature j with the largest
    `alignment = cos(r, D_j - (D_j . D_i) D_i)`. Turns below 16 roundings count as none.

    Args:
        W_dec: directions of L latents, in columns.
        D: directions of n features, in columns.
        matching: of the two.
    """
    eps = jnp.finfo(jnp.asarray(D).dtype).eps
    d, true = directions(W_dec), directions(D)
    own = true[:, matching.feature]
    off = jnp.where(jnp.sum(d * own, axis=0, keepdims=True) < 0, -d, d) - own
    angle = 2 * jnp.arcsin(jnp.minimum(jnp.linalg.norm(off, axis=0) / 2, jnp.sqrt(1 / 2)))
    rest = off - jnp.sum(off * own, axis=0, keepdims=True) * own
    length = jnp.linalg.norm(rest, axis=0)
    side = 1 - jnp.matmul(own.T, true, precision="highest") ** 2  # |D_j - (D_j . D_i) D_i|^2, (L, n)
    scale = length[:, None] * jnp.sqrt(jnp.maximum(side, 0))
    turned = (length > 16 * eps)[:, None] & (side > 64 * eps) & (matching.feature >= 0)[:, None]
    alignment = jnp.where(turned, jnp.matmul(rest.T, true, precision="highest") / jnp.where(turned, scale, 1), -jnp.inf)
    best, any_turned = jnp.max(alignment, axis=1), jnp.any(turned, axis=1)
    return Turn(
        angle=jnp.where(matching.feature >= 0, angle, jnp.nan),
        towards=jnp.where(any_turned, jnp.argmax(alignment, axis=1), -1),
        alignment=jnp.where(any_turned, best, 0),
    )
