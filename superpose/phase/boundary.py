"""Where feature 2 stops being ignored for n=2, m=1: the exact boundary, the order of the transition, and its jump.

Importances (1, I), SparseUniform features of density p, v = Var x = p/3 - p^2/4. The solution that ignores feature 2 costs
`I v`. Any other, with losses L_1 and L_2 of the two outputs, costs `L_1 + I L_2`, so feature 2 is worth storing above

    I_c(p) = min over (w_1, w_2, b_1, b_2) of L_1 / (v - L_2).

Near w_2 = 0, with e = |w_2| and b_1 = B e, the best loss is `I v + a_2 e^2 + a_3 e^3 + ..`; a_2 vanishes at the spinodal I_sp.
Where a_3 < 0 the minimum lies at a finite w_2 and I_c < I_sp: a first-order transition, at which w_2 jumps. Where a_3 > 0
the transition is continuous, at I_sp. Both meet in the tricritical points.
"""

import jax
import jax.numpy as jnp
import scipy.optimize
from flax import struct
from jaxtyping import Array, Float

from superpose import solve
from superpose.expected_loss import output_losses
from superpose.features import SparseUniform
from superpose.toy_model import Params

Scalar = Float[Array, ""]
STARTS = (-0.3, -0.5, -0.7, -0.9)
"""Values of w_2 from which the boundary is searched; w_2 > 0 never pays."""


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
        density: p in (0, 1). At p = 1 features never rest; the boundary runs on to it continuously.

    Returns:
        The transition, to about 8 digits in float64: importance and jump are located by a certified minimum of
        `L_1 / (v - L_2)`.

    Raises:
        ValueError: without float64 (`jax.config.update("jax_enable_x64", True)`), which 8 digits need.
    """
    p = jnp.asarray(density, float)
    if p.dtype != jnp.float64:
        raise ValueError("critical_importance: needs float64; set jax_enable_x64 to True")
    v = p / 3 - p**2 / 4

    def ratio(theta: Float[Array, " 4"], p: Scalar) -> Scalar:
        first, second = output_losses(Params(W=theta[None, :2], b=theta[2:]), SparseUniform(p))
        gain = (p / 3 - p**2 / 4 - second) / v
        return jnp.where(gain > 1e-6, first / v / jnp.where(gain > 1e-6, gain, 1), jnp.inf) / p

    starts = jnp.array([[0.95, w, 0.05, 0.05] for w in STARTS]) * jnp.ones_like(p)
    found = solve.minimize(ratio, starts, jnp.broadcast_to(p, (len(STARTS),)), newton_steps=6, lanes=len(STARTS))
    spinodal, third = _expansion(p)
    best = jnp.argmin(jnp.where(jnp.isfinite(found.loss), found.loss, jnp.inf))
    finite = found.loss[best] * p
    first_order = (third < 0) & (finite < spinodal)
    w = found.params[best]
    return Transition(
        importance=jnp.where(first_order, finite, spinodal),
        spinodal=spinodal,
        order=jnp.where(first_order, 1, 2),
        jump=jnp.where(first_order, w[1] * jnp.sign(w[0]), 0),
        gradient_norm=jnp.where(first_order, found.gradient_norm[best], 0),
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
    return tuple((p, float(spinodal_importance(p))) for p in roots)


def published_boundaries(density: Float[Array, " k"]) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Where the published theory puts the edges of superposition: `2p/(4-5p)`, below it ignored, and the upper edge.

    n=2, m=1 has the upper edge `(4-5p)/(2p)`. Both end in the triple point p = 4/7, I = 1; NaN beyond, where the boundary
    between ignoring one and ignoring the other is I = 1. For n=3, m=2 the lower edge is the same and the upper one is 1.
    """
    p = jnp.asarray(density, float)
    inside = p < 4 / 7
    lower = jnp.where(inside, 2 * p / jnp.where(inside, 4 - 5 * p, 1), jnp.nan)
    return lower, 1 / lower
