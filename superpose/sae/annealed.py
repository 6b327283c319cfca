"""p-annealing: a penalty `sum_l z_l^p` whose power p falls from 1 in training, towards the number of active latents."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose.autoencoder import Params
from superpose.sae import relu
from superpose.sae.variant import Knobs, outputs, squared_error, unit_columns

LAST_POWER = 0.2
"""The power at the end."""
BEGINS = 0.2
"""Share of the steps after which the power begins to fall, linearly."""
SMALLEST = 1e-3
"""Added to active latents in `z^p`, whose slope has no bound at 0."""


def power(progress: Float[Array, ""]) -> Float[Array, ""]:
    """p: 1 at first, then linear down to `LAST_POWER`."""
    return 1 - (1 - LAST_POWER) * jnp.clip((progress - BEGINS) / (1 - BEGINS), 0, 1)


def _loss(params: Params, h: Array, target: Array, knobs: Knobs) -> tuple[Array, Array]:
    params = unit_columns(params)
    z = relu.latents(params, h)
    p = power(knobs.progress)
    on = z > 0
    powers = jnp.mean(jnp.sum(jnp.where(on, (jnp.where(on, z, 1) + SMALLEST) ** p, 0), axis=0))
    same = jnp.mean(jnp.sum(z, axis=0)) / jnp.maximum(powers, SMALLEST)
    sparsity = jax.lax.stop_gradient(same) * powers
    return squared_error(target, outputs(params, z)) + knobs.penalty * sparsity, z


P_ANNEALED = relu.UNIT_RELU._replace(loss=_loss)
"""`|h - h'|^2 + penalty c sum_l z_l^p`, p from 1 to .2, columns of length 1; c makes the term as large as with p = 1 at each step.

The source fixes c anew only where p changes, in steps.

Reference: Karvonen et al. 2024, "Measuring progress in dictionary learning", section 4.
"""
