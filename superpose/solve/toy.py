"""The toy model solved in one call: from a distribution and importances to certified minima, everything in plain units.

Inside, the loss is divided by what it is with no model at all, `sum_i I_i E x_i^2`, and bias i is in units of
`sqrt(p_i I_max / I_i)`: a positive bias costs about `I_i b^2` wherever a feature is off, so the Hessian in b itself grows as I_i/p.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from superpose import features, labels, toy_model
from superpose.expected_loss import MOST_NODES, Importance, nodes_for, relu_output
from superpose.solve.basins import basins
from superpose.solve.dense import minimize
from superpose.solve.large import minimize_large
from superpose.solve.rotations import without_rotations
from superpose.solve.solution import INEXACT, Solution
from superpose.toy_model import Params

FEWEST = 64
"""Nodes of the first search."""
FINER = 2
"""The loss with so many times the nodes goes into the certificate."""
COARSEST = 16
"""Nodes with which a search begins where that saves time."""
SMALL, DENSE = 40, 128
"""Numbers of a start up to which it does not, and up to which Hessians are stored."""
STEPS, STEPS_OF_LARGE = 800, 10_000
"""Quasi-Newton steps at most."""

LEAST = 0.01
"""Importances below this share of the largest leave the unit of their bias alone: it stays of order 1."""


@struct.dataclass
class Units:
    """Natural units of a toy problem: `bias`, shape `(n,)`; `loss`, a scalar."""

    bias: Array
    loss: Array

    def plain(self, params: Params) -> Params:
        """Parameters in plain units, from natural ones."""
        return Params(W=params.W, b=params.b * self.bias)

    def natural(self, params: Params) -> Params:
        """Parameters in natural units, from plain ones."""
        return Params(W=params.W, b=params.b / self.bias)


def natural_units(distribution: features.Distribution, importance: Importance = 1.0, *, n: int) -> Units:
    """Units in which the loss of a toy model is of order 1, and so are the curvatures that densities and importances set.

    Bias i: `sqrt(p_i I_max / max(I_i, I_max / 100))`. Loss: `sum_i I_i E x_i^2`, what it is with W = 0 and b = 0.

    For a loss of one's own: minimise `loss(units.plain(q)) / units.loss` over q, from `units.natural(start)`.

    Args:
        distribution: of the n features.
        importance: weight of each feature, scalar or `(n,)`, >= 0, not all 0.
        n: number of features.

    Raises:
        ValueError: a density or an importance whose shape does not fit n, or whose values, where known, lie outside their range.
    """
    p = features.density(distribution, n=n)
    weights = _weights(importance, n)
    share = jnp.maximum(weights / weights.max(), LEAST)
    return Units(bias=jnp.sqrt(p / share), loss=jnp.sum(weights * features.second_moment(distribution, n=n)))


def _weights(importance: Importance, n: int) -> Float[Array, " n"]:
    weights = jnp.asarray(importance, float)
    if weights.shape not in ((), (n,)):
        raise ValueError(f"importance has shape {weights.shape}: needs a scalar or ({n},)")
    known = None if isinstance(weights, Tracer) else np.asarray(weights)  # under jit, jnp would trace constants as well
    if known is not None and not (np.all(np.isfinite(known) & (known >= 0)) and np.any(known > 0)):
        raise ValueError(f"importance = {importance}: needs finite values >= 0, not all 0")
    return jnp.broadcast_to(weights, (n,))


@struct.dataclass
class Minima:
    """What each restart found, in plain units; a leading axis of restarts.

    `params`: `W` (restart, m, n) and `b` (restart, n). `loss`. `label` (restart, n): each feature ignored, stored or in
    superposition, indices into `superpose.labels.LABELS`. `converged`, `gap` (in units of the loss) and `reason` as in
    `Solution`. `gradient_norm` and `eigenvalues` in natural units, of a large model the lowest and the largest eigenvalue.
    `basin`: number of the restart's basin, 0 the lowest, -1 where it did not converge. `steps`: quasi-Newton steps. And without the
    axis: `best`, the restart of least loss, of equals a converged one; `nodes`, terms of the series in `loss`.
    """

    params: Params
    loss: Array
    label: Array
    converged: Array
    gap: Array
    reason: Array
    gradient_norm: Array
    eigenvalues: Array
    basin: Array
    steps: Array
    best: Array
    nodes: Array


class _Settings(NamedTuple):
    nodes: int
    anew: bool  # whether the starts are no minima of fewer nodes
    steps: int | None
    tolerance: float
    lanes: int | None


def toy_minima(
    key: Key[Array, ""],
    distribution: features.Distribution,
    importance: Importance = 1.0,
    *,
    n: int,
    m: int,
    restarts: int = 1,
    starts: Params | None = None,
    tolerance: float = 1e-8,
    nodes: int | None = None,
    steps: int | None = None,
    lanes: int | None = None,
) -> Minima:
    """Minimise the exact population loss of the ReLU model from random starts, and certify what is found.

    Compiled once for sizes, a kind of distribution, restarts and settings; another density or importance compiles nothing anew.
    Under `vmap` and `jit` as well, with `nodes` given.

    Args:
        key: of the random starts, `toy_model.init` each; restart r has the same start whatever `restarts` is.
        distribution: of the n features, any of `superpose.features`.
        importance: weight of each feature, scalar or `(n,)`, >= 0, not all 0.
        n: number of features.
        m: hidden dimensions, 1 <= m <= n. Beyond `(m + 1) n = 128` numbers by `minimize_large`, else by `minimize`.
        restarts: random starts.
        starts: starts in plain units instead, with a leading axis.
        tolerance: the largest gap of a certified minimum, as a share of its loss; the error of the loss counts.
        nodes: terms of the loss's series; None: 64, and where a minimum asks for more what `nodes_for` says, up to 1,024.
        steps: at most so many quasi-Newton steps a start; None: 800, or 10,000 of a large model.
        lanes: starts that are worked on side by side; a matter of speed and memory, not of the result.

    Returns:
        The minima, in the order of the restarts.

    Raises:
        ValueError: sizes, numbers or shapes that do not fit, named; or `nodes` None under `vmap` or `jit`.
    """
    if restarts < 1:
        raise ValueError(f"restarts = {restarts}: needs at least 1")
    weights, units = _weights(importance, n), natural_units(distribution, importance, n=n)
    if starts is None:
        first = jax.vmap(lambda r: toy_model.init(jax.random.fold_in(key, r), n=n, m=m))(jnp.arange(restarts))
    elif starts.W.shape[1:] != (m, n) or starts.b.shape != (len(starts.W), n):
        raise ValueError(f"starts has W {starts.W.shape}, b {starts.b.shape}: needs (r, {m}, {n}) and (r, {n})")
    else:
        first = starts
    distribution = jax.tree.map(lambda x: jnp.asarray(x, float), distribution)
    traced = any(isinstance(x, Tracer) for x in jax.tree.leaves((first, distribution, weights)))
    if traced and nodes is None:
        raise ValueError("nodes = None: needs a number under vmap or jit, where it cannot be chosen from the result")
    count = nodes or FEWEST
    found = _minima(jax.vmap(units.natural)(first), distribution, weights, _Settings(count, True, steps, tolerance, lanes))
    while nodes is None and count < MOST_NODES and jnp.any(found.reason == INEXACT):
        count = max(2 * count, _nodes_for(found, distribution, weights, tolerance))
        found = _minima(
            jax.vmap(units.natural)(found.params), distribution, weights, _Settings(count, False, steps, tolerance, lanes)
        )
    return found


def _nodes_for(found: Minima, distribution: features.Distribution, importance: Array, tolerance: float) -> int:
    """The nodes with which the error takes half of the tolerance, for all that were found."""
    finite = jnp.isfinite(found.loss)
    try:
        return nodes_for(jax.tree.map(lambda x: x[finite], found.params), distribution, importance, tolerance=tolerance / 2)
    except ValueError:
        return MOST_NODES


@partial(jax.jit, static_argnums=3)
def _minima(starts: Params, distribution: Any, importance: Float[Array, " n"], settings: _Settings) -> Minima:
    """Starts in natural units to minima in plain ones."""
    units = natural_units(distribution, importance, n=len(importance))

    def loss(params: Params, *, nodes: int) -> Float[Array, ""]:
        return relu_output(units.plain(params), distribution, importance, nodes=nodes) / units.loss

    how: dict = {"finer": partial(loss, nodes=FINER * settings.nodes), "tolerance": settings.tolerance}
    size = starts.W[0].size + starts.b[0].size
    if settings.anew and size > SMALL and settings.nodes > COARSEST:
        how["coarser"] = partial(loss, nodes=COARSEST)
    if size <= DENSE:
        search, how["steps"], how["lanes"] = minimize, settings.steps or STEPS, settings.lanes
    else:
        search, how["steps"], how["lanes"] = minimize_large, settings.steps or STEPS_OF_LARGE, settings.lanes or 1
        how["deflate"] = without_rotations
    found: Solution = search(partial(loss, nodes=settings.nodes), starts, **how)
    params = jax.vmap(units.plain)(found.params)
    doubted = jnp.where(found.converged, found.loss, found.loss * (1 + 1e-9))
    return Minima(
        params=params,
        loss=found.loss * units.loss,
        label=jax.vmap(labels.label)(params.W),
        converged=found.converged,
        gap=found.gap * units.loss,
        reason=found.reason,
        gradient_norm=found.gradient_norm,
        eigenvalues=found.eigenvalues,
        basin=basins(found.loss, found.converged)[0],
        steps=found.steps,
        best=jnp.argmin(jnp.where(jnp.isfinite(doubted), doubted, jnp.inf)),
        nodes=jnp.asarray(settings.nodes),
    )
