"""A function with the models last is the same function of one model, under every nesting of `vmap` and forward mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close

from superpose._jax import models_last

pytestmark = pytest.mark.x64


def core(varied, fixed):
    (x, y), (scale,) = varied, fixed
    return (x**2 * y[None]).sum(0) * scale, jnp.sin(x) * y[None]


def plain(x, y, scale):
    return (x**2 * y[None, :]).sum(0) * scale, jnp.sin(x) * y[None, :]


def single(varied, fixed):
    return plain(*varied, *fixed)


def f(x, y, scale):
    return models_last.models_last(core)((x, y), (scale,))


def apart(x, y, scale):
    """The same: every output has its own column of x and number of y; derivatives are combined from four directions."""
    return models_last.models_last(core, apart=True)((x, y), (scale,))


def in_turn(x, y, scale):
    return models_last.one_at_a_time(single)((x, y), (scale,))


def inputs(*lead):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal((*lead, *shape))) for shape in ((3, 4), (4,), (4,))]


def both(transform, *arguments, f=f):
    found, expected = jax.jit(lambda *x: (transform(f)(*x), transform(plain)(*x)))(*arguments)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert_close(a, b, rtol=16 * EPS)


def nested(axes, f):
    both(lambda g: g, *inputs(), f=f)
    arguments = [x if axis == 0 else x[0] for x, axis in zip(inputs(7), axes, strict=True)]
    both(lambda g: jax.vmap(g, axes), *arguments, f=f)
    arguments = [x if axis == 0 else x[0, 0] for x, axis in zip(inputs(5, 7), axes, strict=True)]
    both(lambda g: jax.vmap(jax.vmap(g, axes), axes), *arguments, f=f)


AXES = [(0, 0, 0), (0, None, None), (None, 0, 0), (None, None, 0)]


@pytest.mark.parametrize("most", [2**14, 40, 1])
@pytest.mark.parametrize("axes", AXES)
def test_vmap_nested_or_not_gives_what_each_model_gives(axes, most, monkeypatch):
    """With 40 numbers, three models at a time; with 1, one."""
    monkeypatch.setattr(models_last, "MOST", most)
    nested(axes, f)


@pytest.mark.parametrize("axes", AXES)
def test_one_at_a_time_gives_what_each_model_gives(axes):
    nested(axes, in_turn)


@pytest.mark.parametrize("f", [f, apart, in_turn])
@pytest.mark.parametrize("axes", [(0, 0, 0), (0, None, None), (None, 0, None)])
def test_forward_derivatives_inside_and_outside_of_vmap(axes, f):
    arguments = [x if axis == 0 else x[0] for x, axis in zip(inputs(7), axes, strict=True)]
    both(lambda g: jax.jacfwd(g, argnums=(0, 1)), *inputs(), f=f)
    both(lambda g: jax.vmap(jax.jacfwd(g, argnums=(0, 1)), axes), *arguments, f=f)
    both(lambda g: jax.jacfwd(jax.vmap(g, axes), argnums=(0, 1)), *arguments, f=f)


@pytest.mark.parametrize("f", [f, in_turn])
def test_only_a_cpu_works_in_parts(f, monkeypatch):
    monkeypatch.setattr(models_last, "MOST", 40)
    traced = jax.jit(jax.vmap(f)).trace(*inputs(64))
    loops = {name: "stablehlo.while" in traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    assert loops == {"cpu": True, "cuda": False}


@pytest.mark.parametrize("holds", [[True, True], [True, False], [False, False]])
def test_a_choice_is_each_models_own(holds):
    def choice(choose, holds, x):
        return choose(holds, jnp.sin, jnp.cos, x)

    x, holds = jnp.array([0.3, 0.7]), jnp.array(holds)
    for choose in (models_last.chosen, models_last._chosen_at_once):
        found = jax.vmap(lambda holds, x: choice(choose, holds, x))(holds, x)  # noqa: B023
        assert_close(found, jnp.where(holds, jnp.sin(x), jnp.cos(x)), 0)
        slope = jax.vmap(jax.grad(lambda x, holds: choice(choose, holds, x)))(x, holds)  # noqa: B023
        assert_close(slope, jnp.where(holds, jnp.cos(x), -jnp.sin(x)), EPS)


def test_what_no_model_needs_is_not_worked_out():
    """On a GPU: under `vmap` a condition of each model's own would work out both for all."""

    def single(varied, fixed):
        (x,), (least,) = varied, fixed
        return models_last.chosen(x.sum() > least, jnp.sin, jnp.cos, x)

    x = jnp.ones((8, 3))
    traced = jax.jit(jax.vmap(lambda x: models_last.one_at_a_time(single)((x,), (jnp.zeros(()),)))).trace(x)
    in_all = {name: "stablehlo.and" in traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    assert in_all == {"cpu": False, "cuda": True}
