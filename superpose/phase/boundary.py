"""Where feature 2 stops being ignored for n=2, m=1: the exact boundary, the order of the transition, and its jump.

Importances (1, I), SparseUniform features of density p, v = Var x = p/3 - p^2/4. The solution that ignores feature 2 costs
`I v`. Any other, with losses L_1 and L_2 of the two outputs, costs `L_1 + I L_2`, so feature 2 is worth storing above

    I_c(p) = min over (w_1, w_2, b_1, b_2) of L_1 / (v - L_2),

found by Dinkelbach's iteration: minimise `L_1 + I L_2`, put the ratio at the minimum in for I, repeat.
Near w_2 = 0, with e = |w_2| and b_1 = B e, the best loss is `I v + a_2 e^2 + a_3 e^3 + ..`; a_2 vanishes at the spinodal
I_sp. Where a_3 < 0 the minimum lies at a finite w_2 and I_c < I_sp: a first-order transition, at which w_2 jumps. Where a_3 > 0
the transition is continuous, at I_sp. Both meet in the tricritical points.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from flax import struct
from jaxtyping import Array, Float

from superpose import solve
from superpose.expected_loss import output_losses
from superpose.features import SparseUniform
from superpose.toy_model import Params

Scalar = Float[Array, ""]
STARTS = (-0.02, -0.1, -0.3, -0.6, -0.9)
"""Values of w_2 from which the boundary is searched; w_2 > 0 never pays."""
ROUNDS = 8
"""Dinkelbach's iteration converges faster than linearly; 5 rounds reach rounding wherever it was tried."""


@struct.dataclass
class Transition:
    """A point of the boundary at one density.

    `importance` I_c at which feature 2 stops being ignored; `spinodal` I_sp; `order` 1 (w_2 jumps) or 2 (continuous); `jump`,
    w_2 at I_c with w_1 > 0, 0 if continuous; `gradient_norm` of the search.
    """

    importance: Array
    spinodal: Array
    order: Array
    jump: Array
    gradient_norm: Array


def _expansion(p: Scalar) -> tuple[Scalar, Scalar]:
    """I_sp, and a_3 there.

    b_1 = B e minimises a_2: `(1-p) p B^2 + (p/2 + 2(1-p)^2) B = p^2/4`, B > 0; w_1 = 1 - al e with `al = 3/2 (p/2 - B)`.
    """
    q, v = 1 - p, p / 3 - p**2 / 4
    linear = p / 2 + 2 * q**2
    bias = p**2 / 2 / (linear + jnp.sqrt(linear**2 + q * p**3))
    al = 1.5 * (p / 2 - bias)
    cost = p * ((bias - p / 2) ** 2 / 4 + v) + q * (q * bias**2 + p * bias**3 / 3)
    spinodal = cost / v
    third = cost * al - p**2 * (1 - bias) ** 4 / 6
    third = third - p * al * (p / 2 * (al / 2 + bias) - p / 3) - q * p * al * bias**3 / 6
    return spinodal, third


def spinodal_importance(density: Scalar | float) -> Scalar:
    """I_sp(p), where the solution that ignores feature 2 stops being a local minimum (n=2, m=1); p in (0, 1]."""
    return _expansion(jnp.asarray(density, float))[0]


def critical_importance(density: Scalar | float) -> Transition:
    """The exact boundary of the ignored phase at one density (n=2, m=1); callers `vmap`.

    Args:
        density: p in [0.001, 1].

    Returns:
        The transition. Importance and jump have 8 digits; the jump loses some within 0.002 of a tricritical density,
        where it is below 0.001 itself.

    Raises:
        ValueError: without float64 (`jax.config.update("jax_enable_x64", True)`), which 8 digits need.
    """
    p = jnp.asarray(density, float)
    if p.dtype != jnp.float64:
        raise ValueError("critical_importance: needs float64; set jax_enable_x64 to True")
    v = p / 3 - p**2 / 4

    def losses(theta: Float[Array, " 4"]) -> Float[Array, " 2"]:
        return output_losses(Params(W=theta[None, :2], b=theta[2:]), SparseUniform(p))

    def share(theta: Float[Array, " 4"], importance: Scalar) -> Scalar:
        return losses(theta) @ jnp.stack([jnp.ones_like(importance), importance]) / (importance * v)

    def dinkelbach(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        importance, starts = carry
        found = solve.minimize(share, starts, jnp.broadcast_to(importance, (len(starts),)))
        stored = (jnp.abs(found.params[:, 1]) > 1e-5) & jnp.isfinite(found.loss)
        chosen = jnp.argmin(jnp.where(stored, found.loss, jnp.inf))
        theta = found.params[chosen]
        first, second = losses(theta)
        return (first / (v - second), jnp.broadcast_to(theta, starts.shape)), found.gradient_norm[chosen]

    spinodal, third = _expansion(p)
    starts = jnp.array([[1.0, w, -w / 2, 0.0] for w in STARTS]) + jnp.stack([p * 0, p * 0, p * 0, p / 2])[None]
    (importance, starts), norms = jax.lax.scan(dinkelbach, (spinodal, starts), None, length=ROUNDS)
    theta, norm = starts[0], norms[-1]
    first_order = (third < 0) & (jnp.abs(theta[1]) > 1e-5) & jnp.isfinite(importance)
    return Transition(
        importance=jnp.where(first_order, jnp.minimum(importance, spinodal), spinodal),
        spinodal=spinodal,
        order=jnp.where(third < 0, 1, 2),
        jump=jnp.where(first_order, theta[1] * jnp.sign(theta[0]), 0),
        gradient_norm=jnp.where(first_order, norm, 0),
    )


def tricritical_points() -> tuple[tuple[float, float], ...]:
    """The densities and importances at which the transition changes its order: a_3 = 0 on the spinodal; needs float64."""
    if jnp.zeros(()).dtype != jnp.float64:
        raise ValueError("tricritical_points: needs float64; set jax_enable_x64 to True")
    third = jax.jit(lambda p: _expansion(p)[1] / p**2)
    roots = [
        scipy.optimize.brentq(lambda p: float(third(jnp.asarray(p))), low, high, xtol=1e-15)
        for low, high in ((0.3, 0.7), (0.7, 0.95))
    ]
    return tuple((float(p), float(spinodal_importance(float(p)))) for p in map(np.asarray, roots))


def published_boundaries(density: Float[Array, " k"]) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Where the published theory puts the edges of superposition: `2p/(4-5p)`, below it ignored, and the upper edge.

    n=2, m=1 has the upper edge `(4-5p)/(2p)`. Both end in the triple point p = 4/7, I = 1; NaN beyond, where the boundary
    between ignoring one and ignoring the other is I = 1. For n=3, m=2 the lower edge is the same and the upper one is 1.
    """
    p = jnp.asarray(density, float)
    inside = p < 4 / 7
    lower = jnp.where(inside, 2 * p / jnp.where(inside, 4 - 5 * p, 1), jnp.nan)
    return lower, 1 / lower
