"""The exact phase diagram: solve the toy model from many starts at each density and importance of the last feature.

One density is a row, the unit of work: all its importances and restarts are solved together. Every start has its own key
from its coordinates, so a cell's result does not depend on which others are computed.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from superpose import features, solve, toy_model
from superpose.expected_loss import error_bound, relu_output
from superpose.phase.candidates import candidate_losses
from superpose.phase.labels import label


@dataclass(frozen=True)
class Diagram:
    """A phase diagram of n features in m dimensions; the last feature's importance varies, the others have 1.

    Args:
        n: features.
        m: hidden dimensions, at most n.
        densities: grid points from density `density_max` down to `density_min`, evenly in log density.
        importances: grid points from `importance_min` to `importance_max`, evenly in log importance.
        restarts: random starts a cell.
        density_min: smallest density, in (0, 1].
        density_max: largest density, in (0, 1].
        importance_min: smallest importance of the last feature, above 0.
        importance_max: largest importance of the last feature.
        nodes: terms of the cosine series, a multiple of 8; not used up to n = 3, where the loss is a closed form.
        steps: quasi-Newton steps a start may take.
        tolerance: squared length below which a column or an overlap counts as nothing in labels, in (0, 1).
        seed: of the random starts.
    """

    n: int = 2
    m: int = 1
    densities: int = 50
    importances: int = 50
    restarts: int = 10
    density_min: float = 0.01
    density_max: float = 1.0
    importance_min: float = 0.1
    importance_max: float = 10.0
    nodes: int = 64
    steps: int = 500
    tolerance: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting that is out of range."""
        for name in ("n", "m", "densities", "importances", "restarts", "steps"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        _require("m", self.m, self.m <= self.n, f"at most n = {self.n}")
        _require("density_min", self.density_min, 0 < self.density_min <= 1, "a density in (0, 1]")
        upper = f"a density in [{self.density_min}, 1]"
        _require("density_max", self.density_max, self.density_min <= self.density_max <= 1, upper)
        finite = 0 < self.importance_min < np.inf
        _require("importance_min", self.importance_min, finite, "a positive importance")
        above = self.importance_min <= self.importance_max < np.inf
        _require("importance_max", self.importance_max, above, f"at least importance_min = {self.importance_min}")
        _require("nodes", self.nodes, self.nodes >= 8 and self.nodes % 8 == 0, "a positive multiple of 8")
        _require("tolerance", self.tolerance, 0 < self.tolerance < 1, "a number in (0, 1)")
        _require("seed", self.seed, 0 <= self.seed < 2**32, "an integer in [0, 2^32)")


def _require(name: str, value: float, holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {value}: needs {what}")


def axes(diagram: Diagram) -> tuple[np.ndarray, np.ndarray]:
    """Densities, descending, and importances, ascending."""
    d, i = diagram, np.geomspace
    return i(d.density_max, d.density_min, d.densities), i(d.importance_min, d.importance_max, d.importances)


def starts(diagram: Diagram, row: Array | int) -> toy_model.Params:
    """The random starts of a row, each from its key by coordinates; leading axes (importance, restart)."""

    def one(column: Array, restart: Array) -> toy_model.Params:
        key = jax.random.key(diagram.seed)
        for coordinate in (row, column, restart):
            key = jax.random.fold_in(key, coordinate)
        return toy_model.init(key, n=diagram.n, m=diagram.m)

    over_restarts = jax.vmap(one, in_axes=(None, 0))
    return jax.vmap(over_restarts, in_axes=(0, None))(jnp.arange(diagram.importances), jnp.arange(diagram.restarts))


@partial(jax.jit, static_argnums=0)
def solve_row(diagram: Diagram, row: Array | int, density: Array, importances: Array) -> dict[str, Array]:
    """Solve one density for all importances and restarts.

    The loss is divided by `sum_i I_i E x_i^2` while solving, so that gradient norms are in units of the loss of a model that
    stores nothing; `loss` is the plain one.

    Returns:
        Arrays with leading axes (importance, restart): W, b, loss, gradient_norm, lowest_eigenvalue, converged, basin, steps;
        with the leading axis importance: best (the restart of least loss), label of its features, loss_error,
        candidate_loss.
    """
    shape = (diagram.importances, diagram.restarts)
    distribution = features.SparseUniform(density)

    def scale(importance: Array) -> Array:
        return (diagram.n - 1 + importance) * density / 3

    def loss(params: toy_model.Params, importance: Array) -> Array:
        weights = features.last_importance(importance, n=diagram.n)
        return relu_output(params, distribution, weights, nodes=diagram.nodes) / scale(importance)

    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), starts(diagram, row))
    lanes = 200 if diagram.n == 2 else 50
    found = solve.minimize(loss, flat, jnp.repeat(importances, diagram.restarts), steps=diagram.steps, lanes=lanes)
    found = jax.tree.map(lambda x: x.reshape(shape + x.shape[1:]), found)
    basin, _ = jax.vmap(solve.basins)(found.loss, found.converged)
    best = jnp.argmin(jnp.where(jnp.isfinite(found.loss), found.loss, jnp.inf), axis=1)
    chosen = jax.tree.map(lambda x: jax.vmap(lambda row, k: row[k])(x, best), found.params)

    def uncertainty(params: toy_model.Params, importance: Array) -> Array:
        weights = features.last_importance(importance, n=diagram.n)
        return error_bound(params, distribution, weights, nodes=diagram.nodes)

    return {
        "W": found.params.W,
        "b": found.params.b,
        "loss": found.loss * scale(importances)[:, None],
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
