"""How strongly an active feature fires: `u_i = r(mu_i + sigma_i xi_i)`, with xi a standard normal number and r(y) = max(y, 0)."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key


@struct.dataclass
class RectifiedNormal:
    """The law `u_i = r(mean_i + deviation_i xi_i)`.

    Args:
        mean: mu, of the normal number before it is rectified, > 0, shape `(n,)`.
        deviation: sigma, its standard deviation, >= 0, shape `(n,)`.
    """

    mean: Array
    deviation: Array


def rectified_normal(
    key: Key[Array, ""],
    *,
    n: int,
    first: float = 5.0,
    last: float = 4.0,
    centre: float = 0.5,
    spread: float = 0.5,
) -> RectifiedNormal:
    """The magnitudes of SynthSAEBench: `mu_i` falls linearly from `first` to `last`, and `sigma_i = |N(centre, spread^2)|`.

    Args:
        key: draws the n standard deviations, once.
        n: number of features, the most frequent first.
        first: mu of feature 0, > 0.
        last: mu of feature n - 1, > 0.
        centre: mean of the normal number that is folded into sigma.
        spread: its standard deviation, >= 0.

    Raises:
        ValueError: `first` or `last` not above 0, or `spread` below 0.

    Reference: arXiv:2602.14687, section 3.
    """
    for name, value in (("first", first), ("last", last)):
        if not value > 0:
            raise ValueError(f"{name} = {value}: needs a mean above 0")
    if not spread >= 0:
        raise ValueError(f"spread = {spread}: needs to be at least 0")
    return RectifiedNormal(jnp.linspace(first, last, n), jnp.abs(centre + spread * jax.random.normal(key, (n,))))


def standard_normal(v: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`xi = Phi^-1(v) = sqrt(2) erf^-1(2 v - 1)` of v in (0, 1); at most 5.4 in size in float32, 8.3 in float64."""
    most = 1 - jnp.finfo(v.dtype).epsneg
    return 2**0.5 * jax.lax.erf_inv(jnp.clip(2 * v - 1, -most, most))


def sizes(
    mean: Float[Array, "#n #batch"], deviation: Float[Array, "#n #batch"], xi: Float[Array, "n batch"]
) -> Float[Array, "n batch"]:
    """`r(mu + sigma xi)`."""
    return jax.nn.relu(mean + deviation * xi)
