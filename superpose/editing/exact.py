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
class Steering:
    """Of adding `strength v_t` to the activations, for each concept t (rows) and output j (columns).

    `push` (n, n): `W_j . v_t`, so the pre-activation j rises by `strength push`; its diagonal is the gain.
    `moved` (n, n): `E (x'_j - x_j)^2`, x and x' the outputs before and after.
    `flips` (n, n): probability that output j goes on or off.
    """

    push: Array
    moved: Array
    flips: Array


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
) -> Steering:
    """Add `strength v_t` to the activations, for each concept t: `y'_j = y_j + strength W_j . v_t`.

    Chances to be on, `P(y_j > 0)`, are slopes of `E r(y_j)` in b_j: their series converges an order more slowly.

    Args:
        params: of the toy model.
        directions: `v_t`, in columns.
        distribution: of the features.
        strength: how much of the direction is added, in the units of h.
        nodes: of the series, at least 8.
    """
    n = len(params.b)
    push = directions.T @ params.W
    overlaps = params.W.T @ params.W
    before, shift = jnp.broadcast_to(params.b[None], (n, n)), strength * push
    moved = _apart(overlaps, before, overlaps, before + shift, distribution, nodes)

    def chance_on(b: Array) -> Array:
        def mean(b: Array) -> Array:
            return jnp.sum(rectified_moments(jnp.tile(overlaps, (n, 1)), b.ravel(), distribution, nodes=4 * nodes).mean)

        return jax.grad(mean)(b)

    return Steering(push=push, moved=moved, flips=jnp.abs(chance_on(before + shift) - chance_on(before)))


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
