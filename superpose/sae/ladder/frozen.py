"""Encoders trained with the dictionary held fixed, by `sae.fit`: for h on its own, or for the true features.

`fit(key, from_dictionary(D, variant=v), h, variant=frozen(v), ...)` trains the encoder of any kind v on its own loss. With
`supervised(...)` of the start and the pair `(h, x)` as the source it minimises `|x - z|^2 + penalty sum_l z_l` instead: the least
squared error of which an encoder of its form is capable.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose import autoencoder
from superpose.sae.ladder.inputs import check_dictionary
from superpose.sae.variant import Knobs, Variant


def from_dictionary(D: Float[Array, "m n"], size: Float[Array, ""] | float = 1.0, *, variant: Variant) -> Any:
    """Parameters to start from: `W_dec = D`, `b_dec = 0`, and the encoder that the variant ties to D.

    Args:
        D: directions of the features, in columns; of length 1 for kinds with such columns.
        size: root mean square of `|h|`.
        variant: the kind of autoencoder.

    Raises:
        ValueError: D is not a finite matrix.
    """
    check_dictionary(D)
    return variant.begin(autoencoder.from_dictionary(D), jnp.asarray(size, D.dtype)).replace(W_dec=D)


def supervised(params: Any) -> Any:
    """The same encoder with `W_dec = I` and `b_dec = 0`, so that what it writes are its latents, to be held against x."""
    L, dtype = params.W_enc.shape[0], params.W_enc.dtype
    return params.replace(W_dec=jnp.eye(L, dtype=dtype), b_dec=jnp.zeros(L, dtype))


@cache
def frozen(variant: Variant) -> Variant:
    """The variant with `W_dec` and `b_dec` held fixed. Not for `fit(..., resample=)`, which writes new columns."""
    return variant._replace(loss=partial(_loss, variant), after=partial(_after, variant))


def _loss(variant: Variant, params: Any, h: Array, target: Array, knobs: Knobs) -> tuple[Array, Array]:
    fixed = {name: jax.lax.stop_gradient(getattr(params, name)) for name in ("W_dec", "b_dec")}
    return variant.loss(params.replace(**fixed), h, target, knobs)


def _after(variant: Variant, params: Any, z: Array, knobs: Knobs) -> Any:
    return variant.after(params, z, knobs).replace(W_dec=params.W_dec, b_dec=params.b_dec)
