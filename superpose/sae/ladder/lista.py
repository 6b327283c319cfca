"""LISTA: steps of a solver of the penalised problem, unrolled, with matrices that are learned; latents are not negative."""

from functools import cache, partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from superpose.autoencoder import Params
from superpose.sae import relu
from superpose.sae.variant import ABSENT, Knobs, Variant, as_they_are, outputs, pre_activations, present, squared_error


@struct.dataclass
class ListaParams(Params):
    """`S` (L, L), what latents pass on from step to step."""

    S: Array


@cache
def lista(layers: int) -> Variant:
    """`z_1 = r(y)`, `z_t = r(y + S z_{t-1})` with `y = W_enc h + b_enc`, and `z = z_T`; loss `|h - h'|^2 + penalty sum_l z_l`.

    It starts as projected gradient descent with step size `1 / s`, s the largest eigenvalue of `W_dec^T W_dec`:
    `W_enc = W_dec^T / s` and `S = I - W_enc W_dec`. One layer is the plain encoder `r(W_enc h + b_enc)`, and S is idle.

    Args:
        layers: number of steps T, >= 1.

    Raises:
        ValueError: `layers` below 1.

    Reference: Gregor and LeCun 2010, "Learning fast approximations of sparse coding", algorithm 3, with r for the soft threshold.
    """
    if layers < 1:
        raise ValueError(f"layers = {layers}: needs at least 1")
    return Variant(_begin, partial(_latents, layers), partial(_loss, layers), as_they_are)


def _begin(params: Params, _: Array) -> ListaParams:
    s = jnp.linalg.norm(params.W_dec, ord=2) ** 2
    W_enc = params.W_dec.T / s
    b_enc = jnp.where(present(params), -W_enc @ params.b_dec, ABSENT)
    S = jnp.eye(len(W_enc), dtype=W_enc.dtype) - W_enc @ params.W_dec
    return ListaParams(W_enc=W_enc, b_enc=b_enc, W_dec=params.W_dec, b_dec=params.b_dec, S=S)


def _latents(layers: int, params: ListaParams, h: Float[Array, "m samples"]) -> Float[Array, "L samples"]:
    if layers == 1:
        return relu.latents(params, h)
    y = pre_activations(params, h)
    z = jax.nn.relu(y)
    for _ in range(layers - 1):
        z = jax.nn.relu(y + params.S @ z)
    return z


def _loss(layers: int, params: ListaParams, h: Array, target: Array, knobs: Knobs) -> tuple[Array, Array]:
    z = _latents(layers, params, h)
    return squared_error(target, outputs(params, z)) + knobs.penalty * jnp.mean(jnp.sum(z, axis=0)), z
