"""Dead latents begin anew at samples that are badly reconstructed."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key

from superpose.sae.variant import Variant, outputs
from superpose.weights import unit

SHARE = 0.2
"""Length of a new row of `W_enc`, as a share of the mean length of those that live."""


def resampled(
    key: Key[Array, ""],
    h: Float[Array, "m samples"],
    target: Float[Array, "o samples"],
    dead: Bool[Array, " L"],
    params: Any,
    optimizer_state: Any,
    *,
    variant: Variant,
    optimizer: optax.GradientTransformation,
) -> tuple[Any, Any]:
    """Parameters and the optimiser's state, with the dead latents' directions those of samples, drawn with chance `|h - h'|^4`.

    Reference: Bricken et al. 2023, "Towards Monosemanticity", appendix "Autoencoder resampling".
    """
    error = jnp.sum((target - outputs(params, variant.latents(params, h))) ** 2, axis=0)
    chosen = jax.random.categorical(key, 2 * jnp.log(error + jnp.finfo(error.dtype).tiny), shape=dead.shape)
    center, alive = jnp.mean(h, axis=1), ~dead
    rows = SHARE * _mean_length(params.W_enc.T, alive) * unit((h - center[:, None])[:, chosen]).T
    columns = _mean_length(params.W_dec, alive) * unit((target - params.b_dec[:, None])[:, chosen])
    new = params.replace(
        W_enc=jnp.where(dead[:, None], rows, params.W_enc),
        b_enc=jnp.where(dead, -rows @ center, params.b_enc),
        W_dec=jnp.where(dead[None], columns, params.W_dec),
    )
    touched = jax.tree.map(jnp.zeros_like, params).replace(
        W_enc=jnp.broadcast_to(dead[:, None], rows.shape), b_enc=dead, W_dec=jnp.broadcast_to(dead[None], columns.shape)
    )
    state = optax.tree_utils.tree_map_params(optimizer, lambda x, t: jnp.where(t > 0, 0, x), optimizer_state, touched)
    return new, state


def _mean_length(D: Float[Array, "m L"], of: Bool[Array, " L"]) -> Float[Array, ""]:
    """Mean length of some columns; of none 1."""
    lengths = jnp.sqrt(jnp.sum(D**2, axis=0))
    return jnp.where(jnp.any(of), jnp.sum(jnp.where(of, lengths, 0)) / jnp.maximum(jnp.sum(of), 1), 1)
