"""What an edit along directions does to the toy model's outputs on average: exactly, without sampling.

An edit of concept t moves the pre-activations `y = b + W^T h` to `y'`, both affine in the features x. So `E (r(y'_j) - r(y_j))^2`
is made of the moments of `superpose.expected_loss`, for every concept t and output j.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from superpose import features
from superpose.expected_loss import product_moments, rectified_moments
from superpose.toy_model import Params


@struct.dataclass
class Ablation:
    """Of taking the direction `v_t` out of the activations, `h - v_t v_t . h`, for each concept t (rows) and output j (columns).

    `wanted` (n, n): `E (x*_j - x_j)^2`, x* the outputs if feature t were 0 and all else as it is.
    `missed` (n, n): `E (x'_j - x*_j)^2`, how far the edit ends from that.
    """

    wanted: Array
    missed: Array


def gain(params: Params, directions: Float[Array, "m n"]) -> Float[Array, " n"]:
    """`v_t . W_t / |W_t|`: the share of a push along the handle that goes along the concept, from -1 to 1."""
    return jnp.diagonal(_cosines(params, directions))


def leakage(params: Params, directions: Float[Array, "m n"]) -> Float[Array, " n"]:
    """`sum_{j != t} (v_t . W_j / |W_j|)^2`: what goes along others."""
    cosines = _cosines(params, directions)
    return jnp.sum(cosines**2, axis=1) - jnp.diagonal(cosines) ** 2


def selectivity(moved: Float[Array, "n n"]) -> Float[Array, " n"]:
    """`moved_tt / sum_j moved_tj`: how much of what an edit moves is what it was to move, from 0 to 1; 0 if nothing moves."""
    total = jnp.sum(moved, axis=1)
    return jnp.where(total > 0, jnp.diagonal(moved) / jnp.where(total > 0, total, 1), 0)


def collateral(moved: Float[Array, "n n"]) -> Float[Array, " n"]:
    """`sum_{j != t} moved_tj`: what is moved of others."""
    return jnp.sum(moved, axis=1) - jnp.diagonal(moved)


def steering(
    params: Params,
    directions: Float[Array, "m n"],
    distribution: features.Distribution,
    *,
    strength: Float[Array, ""] | float,
    nodes: int = 32,
) -> Float[Array, "n n"]:
    """`E (x'_j - x_j)^2` of adding `strength v_t` to the activations, for each concept t (rows) and output j (columns).

    x and x' are the outputs before and after: the pre-activation j rises by `strength W_j . v_t`.

    Args:
        params: of the toy model.
        directions: `v_t`, in columns.
        distribution: of the features.
        strength: how much of the direction is added, in the units of h.
        nodes: of the series, at least 8.
    """
    before, after = _biases(params, directions, strength)
    overlaps = params.W.T @ params.W
    return _apart(overlaps, before, overlaps, after, distribution, nodes)


def flips(
    params: Params,
    directions: Float[Array, "m n"],
    distribution: features.Distribution,
    *,
    strength: Float[Array, ""] | float,
    nodes: int = 128,
) -> Float[Array, "n n"]:
    """Probability that adding `strength v_t` turns output j on or off, for each concept t (rows) and output j (columns).

    `|P(y'_j > 0) - P(y_j > 0)|`, as all inputs move the same way. `P(y_j > 0)` is the slope of `E r(y_j)` in its bias, whose
    series converges an order more slowly.

    Args:
        params: of the toy model.
        directions: `v_t`, in columns.
        distribution: of the features.
        strength: how much of the direction is added, in the units of h.
        nodes: of the series, at least 8.
    """
    before, after = _biases(params, directions, strength)
    overlaps = params.W.T @ params.W

    def mean(b: Array) -> Array:
        return jnp.sum(rectified_moments(overlaps, b, distribution, nodes=nodes).mean)

    chance = jax.vmap(jax.grad(mean))
    return jnp.abs(chance(after) - chance(before[:1]))


def _biases(params: Params, directions: Array, strength: Array | float) -> tuple[Array, Array]:
    """Biases of all outputs before and after each concept is added."""
    before = jnp.broadcast_to(params.b[None], (directions.shape[1], len(params.b)))
    return before, before + strength * directions.T @ params.W


def projection(
    params: Params, directions: Float[Array, "m n"], distribution: features.Distribution, *, nodes: int = 32
) -> Ablation:
    """Take `v_t v_t . h` out of the activations, for each concept t: `y' = b + W^T (1 - v_t v_t^T) W x`.

    Args:
        params: of the toy model.
        directions: `v_t`, in columns.
        distribution: of the features.
        nodes: of the series, at least 8.
    """
    n = len(params.b)
    b, overlaps = jnp.broadcast_to(params.b[None], (n, n)), params.W.T @ params.W
    without = jnp.where(jnp.eye(n, dtype=bool)[:, None, :], 0, overlaps[None])  # (t, j, i): feature t is 0
    read = directions.T @ params.W
    taken = overlaps[None] - read[:, :, None] * read[:, None, :]
    return Ablation(
        wanted=_apart(overlaps, b, without, b, distribution, nodes),
        missed=_apart(taken, b, without, b, distribution, nodes),
    )


def _apart(G: Array, c: Array, H: Array, d: Array, distribution: features.Distribution, nodes: int) -> Float[Array, "n n"]:
    """`E (r(c_tj + G_tj x) - r(d_tj + H_tj x))^2` for all t and j; G and H may be the same for all t."""
    n = c.shape[0]
    G, H = (jnp.broadcast_to(x, (n, n, n)).reshape(n * n, n) for x in (G, H))
    c, d = c.ravel(), d.ravel()
    squares = [rectified_moments(A, a, distribution, nodes=max(64, 2 * nodes)).square for A, a in ((G, c), (H, d))]
    apart = squares[0] + squares[1] - 2 * product_moments(G, c, H, d, distribution, nodes=nodes)
    same = jnp.all(G == H, axis=1) & (c == d)
    return jnp.where(same, 0, jnp.maximum(apart, 0)).reshape(n, n)


def _cosines(params: Params, directions: Array) -> Array:
    lengths = jnp.sqrt(jnp.sum(params.W**2, axis=0) + jnp.finfo(params.W.dtype).tiny)
    return directions.T @ params.W / lengths[None]
