"""The toy model whose activations are un-mixed: trained, or solved to a certified minimum."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from superpose import expected_loss, features, solve, toy_model, train
from superpose.settings import Unmixing
from superpose.toy_model import Params

STARTS, STEPS = 4, 5000
NODES = 128
"""Of the series where the model is solved."""
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS))


def model(key: Key[Array, ""], settings: Unmixing) -> tuple[Params, Float[Array, ""]]:
    """The best of a few starts, and its exact loss `sum_i E (x_i - x'_i)^2`."""
    n, m, law = settings.n, settings.m, features.SparseUniform(settings.density)
    if settings.model == "solve":
        found = solve.toy_minima(key, law, n=n, m=m, restarts=STARTS, nodes=NODES)
        return jax.tree.map(lambda a: a[found.best], (found.params, found.loss))
    starts = jax.vmap(lambda r: toy_model.init(jax.random.fold_in(key, r), n=n, m=m))(jnp.arange(STARTS))
    run = partial(train.fit, distribution=law, steps=STEPS, batch=512, optimizer=OPTIMIZER)
    params = jax.vmap(run, in_axes=(None, 0))(jax.random.fold_in(key, STARTS), starts).params
    losses = jax.vmap(lambda p: expected_loss.relu_output(p, law))(params)
    return jax.tree.map(lambda a: a[jnp.argmin(losses)], (params, losses))
