"""What becomes of each feature of a model, its phase: ignored, stored on its own, or in superposition.

`W` has shape (m, n); its column i is the direction of feature i.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

IGNORED, STORED, SUPERPOSED = 0, 1, 2
LABELS = ("ignored", "stored", "superposed")


def label(W: Float[Array, "m n"], *, tolerance: float = 0.01) -> Int[Array, " n"]:
    """Label each feature `IGNORED`, `STORED` or `SUPERPOSED`.

    Ignored: `|W_i|^2 <= tolerance`. Otherwise superposed if other features overlap with its direction,
    `sum_{j != i} (W_i_hat . W_j)^2 > tolerance`, and stored if not.

    Args:
        W: shape `(m, n)`.
        tolerance: in (0, 1); what counts as nothing, as a squared length. Near a continuous transition the label moves with it.

    Returns:
        Shape `(n,)`, integers 0, 1, 2, indices into `LABELS`.

    Reference: Elhage et al. 2022, section 3, where colours show the same two quantities without a threshold.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance = {tolerance}: needs to lie in (0, 1)")
    gram = W.T @ W
    length = jnp.diagonal(gram)
    overlap = (gram**2).sum(1) - length**2
    represented = length > tolerance
    shared = overlap > tolerance * jnp.where(represented, length, 1)
    return jnp.where(represented, jnp.where(shared, SUPERPOSED, STORED), IGNORED).astype(jnp.int8)
