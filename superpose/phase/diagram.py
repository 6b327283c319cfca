"""The exact phase diagram: solve the toy model from many starts at each density and importance of the last feature.

One density is a row, the unit of work: all its importances and restarts are solved together. Every start has its own key
from its coordinates, so a cell's result does not depend on which others are computed.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose import features, solve, toy_model
from superpose.expected_loss import error_estimate, relu_output
from superpose.labels import label
from superpose.phase.candidates import candidate_losses, candidates
from superpose.settings import Diagram

SHAKE = 0.05
"""Size of the random part of a start near a fixed candidate."""


def axes(diagram: Diagram) -> tuple[np.ndarray, np.ndarray]:
    """Densities, descending, and importances, ascending."""
    d, i = diagram, np.geomspace
    return i(d.density_max, d.density_min, d.densities), i(d.importance_min, d.importance_max, d.importances)


def starts(diagram: Diagram, row: Array | int, density: Array) -> toy_model.Params:
    """The starts of a row, leading axes (importance, restart): random ones, then one near each fixed candidate.

    Each draws with the key of its coordinates. The candidates are shaken a little, since most are saddle points.
    """
    fixed = [c.params(density) for c in candidates(n=diagram.n, m=diagram.m)]

    def one(column: Array, restart: Array) -> toy_model.Params:
        key = jax.random.key(diagram.seed)
        for coordinate in (row, column, restart):
            key = jax.random.fold_in(key, coordinate)
        return toy_model.init(key, n=diagram.n, m=diagram.m)

    over_restarts = jax.vmap(one, in_axes=(None, 0))
    grid = jnp.arange(diagram.importances), jnp.arange(diagram.restarts + len(fixed))
    drawn = jax.vmap(over_restarts, in_axes=(0, None))(*grid)
    for k, candidate in enumerate(fixed, start=diagram.restarts):
        shaken = candidate.W[None] + SHAKE * drawn.W[:, k]
        biases = jnp.broadcast_to(candidate.b, drawn.b[:, k].shape)
        drawn = toy_model.Params(W=drawn.W.at[:, k].set(shaken), b=drawn.b.at[:, k].set(biases))
    return drawn


@partial(jax.jit, static_argnums=0)
def solve_row(diagram: Diagram, row: Array | int, density: Array, importances: Array) -> dict[str, Array]:
    """Solve one density for all importances and restarts.

    Solved in `solve.natural_units`. Gradient norms and eigenvalues are those of the scaled problem; loss, W and b are plain.

    Returns:
        Arrays with leading axes (importance, restart): W, b, loss, gradient_norm, lowest_eigenvalue, converged, basin, steps;
        with the leading axis importance: best (the restart of least loss), label of its features, loss_error,
        candidate_loss.
    """
    distribution = features.SparseUniform(density)

    def units(importance: Array) -> solve.Units:
        return solve.natural_units(distribution, features.last_importance(importance, n=diagram.n), n=diagram.n)

    def loss(params: toy_model.Params, importance: Array) -> Array:
        weights, unit = features.last_importance(importance, n=diagram.n), units(importance)
        return relu_output(unit.plain(params), distribution, weights, nodes=diagram.nodes) / unit.loss

    first = starts(diagram, row, density)
    shape, unit = first.b.shape[:2], jax.vmap(units)(importances)
    natural = jax.vmap(lambda unit, row: jax.vmap(unit.natural)(row))(unit, first)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), natural)
    lanes = 130 if diagram.n == 2 else 50  # both divide the starts of a published diagram's row
    found = solve.minimize(loss, flat, jnp.repeat(importances, shape[1]), steps=diagram.steps, lanes=lanes)
    found = jax.tree.map(lambda x: x.reshape(shape + x.shape[1:]), found)
    solved = jax.vmap(lambda unit, row: jax.vmap(unit.plain)(row))(unit, found.params)
    basin, _ = jax.vmap(solve.basins)(found.loss, found.converged)
    doubted = jnp.where(found.converged, found.loss, found.loss * (1 + 1e-9))  # of equals, take a certified one
    best = jnp.argmin(jnp.where(jnp.isfinite(doubted), doubted, jnp.inf), axis=1)
    chosen = jax.tree.map(lambda x: jax.vmap(lambda row, k: row[k])(x, best), solved)

    def uncertainty(params: toy_model.Params, importance: Array) -> Array:
        weights = features.last_importance(importance, n=diagram.n)
        return error_estimate(params, distribution, weights, nodes=diagram.nodes)

    return {
        "W": solved.W,
        "b": solved.b,
        "loss": found.loss * unit.loss[:, None],
        "gradient_norm": found.gradient_norm,
        "lowest_eigenvalue": found.eigenvalues[..., 0],
        "converged": found.converged.astype(jnp.int8),
        "basin": basin,
        "steps": found.steps,
        "best": best.astype(jnp.int32),
        "label": jax.vmap(partial(label, tolerance=diagram.tolerance))(chosen.W),
        "loss_error": jax.vmap(uncertainty)(chosen, importances),
        "candidate_loss": jax.vmap(lambda i: candidate_losses(density, i, n=diagram.n, m=diagram.m))(importances),
    }
