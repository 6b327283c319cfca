"""A function with the models last is the same function of one model, under every nesting of `vmap` and forward mode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close

from superpose.models_last import models_last as last


def core(varied, fixed):
    (x, y), (scale,) = varied, fixed
    return (x**2 * y[None]).sum(0) * scale, jnp.sin(x) * y[None]


def plain(x, y, scale):
    return (x**2 * y[None, :]).sum(0) * scale, jnp.sin(x) * y[None, :]


def f(x, y, scale, most=2**14):
    return last(core, (y, x), most=most)((x, y), (scale,))


def inputs(*lead):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal((*lead, *shape))) for shape in ((3, 4), (4,), (4,))]


def both(transform, *arguments, most=2**14):
    found, expected = transform(partial(f, most=most))(*arguments), transform(plain)(*arguments)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert_close(a, b, rtol=16 * EPS)


@pytest.mark.parametrize("most", [2**14, 40, 1])
@pytest.mark.parametrize("axes", [(0, 0, 0), (0, None, None), (None, 0, 0), (None, None, 0)])
def test_vmap_nested_or_not_gives_what_each_model_gives(axes, most):
    """With 40 numbers, three models at a time; with 1, one."""
    both(lambda g: g, *inputs(), most=most)
    arguments = [x if axis == 0 else x[0] for x, axis in zip(inputs(7), axes, strict=True)]
    both(lambda g: jax.jit(jax.vmap(g, axes)), *arguments, most=most)
    arguments = [x if axis == 0 else x[0, 0] for x, axis in zip(inputs(5, 7), axes, strict=True)]
    both(lambda g: jax.vmap(jax.vmap(g, axes), axes), *arguments, most=most)


@pytest.mark.parametrize("axes", [(0, 0, 0), (0, None, None), (None, 0, None)])
def test_forward_derivatives_inside_and_outside_of_vmap(axes):
    arguments = [x if axis == 0 else x[0] for x, axis in zip(inputs(7), axes, strict=True)]
    both(lambda g: jax.jacfwd(g, argnums=(0, 1)), *inputs())
    both(lambda g: jax.vmap(jax.jacfwd(g, argnums=(0, 1)), axes), *arguments)
    both(lambda g: jax.jacfwd(jax.vmap(g, axes), argnums=(0, 1)), *arguments)


def test_only_a_cpu_works_in_chunks():
    arguments = inputs(64)
    traced = jax.jit(jax.vmap(partial(f, most=1))).trace(*arguments)
    loops = {name: "stablehlo.while" in traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    assert loops == {"cpu": True, "cuda": False}
