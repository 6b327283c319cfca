"""Intermediate results that XLA shall store on a CPU instead of computing them once for each use."""

from typing import Any

import jax
import jax.numpy as jnp


def kept(tree: Any) -> Any:
    """The same values, on CPU computed once and stored: what uses them shall not compute them again.

    XLA fuses a cheap producer into each of its consumers there, and drops barriers before it does; into a branch it does not
    reach. The condition always holds; complex numbers go through as two real ones, which vectorise.
    """
    leaves, shape = jax.tree.flatten(tree)
    parts = [(x.real, x.imag) if jnp.iscomplexobj(x) else (x,) for x in leaves]

    def branch(parts: list) -> list:
        always = ~(parts[0][0].ravel()[0] > jnp.inf)
        return jax.lax.cond(always, lambda x: x, lambda x: jax.tree.map(jnp.zeros_like, x), parts)

    parts = jax.lax.platform_dependent(parts, cpu=branch, default=lambda x: x)
    return jax.tree.unflatten(shape, [jax.lax.complex(*x) if len(x) == 2 else x[0] for x in parts])
