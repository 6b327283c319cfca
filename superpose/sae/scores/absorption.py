"""Absorption, measured on the truth: a parent's latent that falls silent where a child feature is on as well.

A child is on only with its parent, so one latent along `D_parent + D_child` can speak for both and the parent's latent need not:
sparser, and wrong.

Reference: Chanin et al. 2024, "A is for Absorption", arXiv:2409.14507.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from superpose.sae.scores.matching import Plain


@struct.dataclass
class AbsorptionCounts:
    """Numbers of samples, shape (P,), of P pairs of a parent feature and a child feature.

    `both`: parent and child are on; `silent_both`: of these, the parent's latent is off. `alone`: the parent is on and the child
    is not; `silent_alone`: of these, the parent's latent is off.
    """

    both: Array
    silent_both: Array
    alone: Array
    silent_alone: Array


@jax.jit
def absorption_counts(
    x: Float[Plain, "samples n"], z: Float[Plain, "samples L"], pairs: Int[Plain, "P 2"], latent: Int[Plain, " P"]
) -> AbsorptionCounts:
    """The sums over one batch; those of two batches add up: `jax.tree.map(jnp.add, a, b)`.

    Args:
        x: true values of the features.
        z: latents.
        pairs: numbers of a parent feature and of a child feature, in rows.
        latent: of each pair's parent, such as `matching.latent[pairs[:, 0]]`; -1 for none, which leaves all sums 0.
    """
    parent, child = x[:, pairs[:, 0]] != 0, x[:, pairs[:, 1]] != 0
    parent &= (latent >= 0)[None, :]
    silent = z[:, latent] == 0
    which = (parent & child, parent & child & silent, parent & ~child, parent & ~child & silent)
    return AbsorptionCounts(*(jnp.sum(w, axis=0, dtype=jnp.int32) for w in which))


def absorption(total: AbsorptionCounts) -> Float[Array, " P"]:
    """`P(latent silent | parent and child on) - P(latent silent | parent on, child off)`, in [-1, 1], of each pair.

    1: the child silences the parent's latent, which is else reliable. 0: the child makes no difference. nan where one of the two
    never occurs, or the parent has no latent.
    """
    silent = ((total.silent_both, total.both), (total.silent_alone, total.alone))
    both, alone = (some.astype(float) / jnp.where(of > 0, of, jnp.nan) for some, of in silent)
    return both - alone
