"""A world to draw from: a dictionary, and the law of the features that are written in it.

`h = D x + bias + noise`: x are the true feature values, `D` of shape `(m, n)` the dictionary, its column `D[:, i]` the direction of
feature i, and h what an autoencoder sees. A world is a pytree of arrays, so `draw` works under `jit`, `vmap` and `scan`.
"""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from superpose import features
from superpose._jax.stored import kept
from superpose.synthetic import directions, firing, magnitudes


@struct.dataclass
class Independent:
    """Features that fire independently at set rates, with rectified normal magnitudes.

    Args:
        rates: in (0, 1], shape `(n,)`.
        magnitudes: of those that fire.
    """

    rates: Array
    magnitudes: magnitudes.RectifiedNormal


@struct.dataclass
class Planted:
    """Features that fire by a copula, in trees or not, with rectified normal magnitudes.

    Args:
        copula: of the candidates.
        magnitudes: of those that fire. A child's is multiplied by `x_P / mu_P`, of its parent.
        trees: over the first features; None for none.
    """

    copula: firing.Copula
    magnitudes: magnitudes.RectifiedNormal
    trees: firing.Trees | None = struct.field(pytree_node=False, default=None)


Law = Planted | Independent | features.Distribution
"""Of the features of a world."""


@struct.dataclass
class World:
    """All that activations come from.

    Args:
        D: the dictionary, shape `(m, n)`; columns of any length.
        bias: shape `(m,)`.
        law: of the features: `Planted`, `Independent`, or any distribution of `superpose.features`.
        noise: standard deviation of each entry of the noise, a scalar > 0; None for no noise.
    """

    D: Array
    bias: Array
    law: Law
    noise: Array | None = None


@struct.dataclass
class Draw:
    """Activations `h`, shape `(batch, m)`, and the true feature values `x` behind them, shape `(batch, n)`."""

    h: Array
    x: Array


def synth_sae_bench(
    key: Key[Array, ""],
    *,
    n: int = 16384,
    m: int = 768,
    roots: int = 128,
    branching: int = 4,
    depth: int = 3,
    exponent: float = 0.5,
    low: float = 5e-4,
    high: float = 0.4,
    rank: int = 25,
    scale: float = 0.1,
    steps: int = 100,
    bias: float = 0.5,
    noise: float = 0.0,
) -> World:
    """The design of SynthSAEBench at any size; the defaults are those of SynthSAEBench-16k.

    Features fire by a Gaussian copula with Zipf rates, compensated for trees whose siblings exclude each other; magnitudes are
    rectified normal numbers. In trees the rates that are set cannot hold: see `firing.compensated_rates`.

    Args:
        key: draws the dictionary, F, the deviations and the bias, once.
        n: features; the most frequent first.
        m: dimensions.
        roots: number of trees, over the first features.
        branching: children of each feature above the lowest level.
        depth: levels below the roots.
        exponent: of the Zipf rates.
        low: least rate, as set.
        high: largest rate, as set.
        rank: of the copula.
        scale: of the copula's factor.
        steps: of pushing the directions apart.
        bias: norm of the bias, >= 0; SynthSAEBench may have another.
        noise: standard deviation of each entry of the noise, >= 0.

    Raises:
        ValueError: an argument out of its range, or n below the number of features in trees.

    Reference: arXiv:2602.14687; miniatures are n, m, roots = 1024, 48, 8 and 2048, 96, 16.
    """
    trees = firing.Trees(roots, branching, depth)
    firing.check_trees(trees, n=n)
    if not bias >= 0:
        raise ValueError(f"bias = {bias}: needs to be at least 0")
    D_key, factor_key, size_key, bias_key = jax.random.split(key, 4)
    rates = firing.compensated_rates(firing.zipf_rates(n=n, exponent=exponent, low=low, high=high), trees)
    law = Planted(
        firing.copula(factor_key, rates, rank=rank, scale=scale), magnitudes.rectified_normal(size_key, n=n), trees
    )
    D = directions.spread_directions(D_key, m=m, n=n, steps=steps)
    return World(D, bias * directions.random_directions(bias_key, m=m, n=1)[:, 0], law, _noise(noise))


def independent(
    D: Float[Array, "m n"],
    rates: Float[Array, "..."] | float,
    law: magnitudes.RectifiedNormal | None = None,
    *,
    noise: float = 0.0,
) -> World:
    """Independent features that fire at set rates.

    Args:
        D: the dictionary.
        rates: a scalar, or one for each feature, in (0, 1].
        law: of the magnitudes; None for U[0, 1].
        noise: standard deviation of each entry of the noise, >= 0.

    Raises:
        ValueError: rates or magnitudes that do not fit, or noise below 0.
    """
    if np.shape(rates) not in ((), D.shape[1:]):
        raise ValueError(f"rates has shape {np.shape(rates)}: needs a scalar or ({D.shape[1]},)")
    each = jnp.broadcast_to(jnp.asarray(rates, D.dtype), D.shape[1:])
    firing.check_rates(each)
    if law is None:
        return of_model(D, features.SparseUniform(each), noise=noise)
    for name in ("mean", "deviation"):
        if np.shape(getattr(law, name)) != D.shape[1:]:
            raise ValueError(f"{name} has shape {np.shape(getattr(law, name))}: needs ({D.shape[1]},)")
    return World(D, jnp.zeros_like(D[:, 0]), Independent(each, law), _noise(noise))


def of_model(W: Float[Array, "m n"], distribution: features.Distribution, *, noise: float = 0.0) -> World:
    """What a toy model stores: `h = W x`, with x from any distribution of `superpose.features`.

    Args:
        W: the model's weights; column i is what feature i writes.
        distribution: of the n features.
        noise: standard deviation of each entry of the noise, >= 0.

    Raises:
        ValueError: a distribution that does not fit n, such as a tree with a loop, or noise below 0.
    """
    features.check(distribution, n=W.shape[1])
    return World(W, jnp.zeros_like(W[:, 0]), distribution, _noise(noise))


def draw(key: Key[Array, ""], world: World, *, batch: int) -> Draw:
    """Draw `batch` activations `h = D x + bias + noise` and the features x behind them.

    Raises:
        ValueError: `batch` below 1, or a bias whose shape does not fit D.
    """
    m = len(world.D)
    if batch < 1:
        raise ValueError(f"batch = {batch}: needs at least 1")
    if world.bias.shape != (m,):
        raise ValueError(f"bias has shape {world.bias.shape}: needs ({m},)")
    return _draw(key, world, batch=batch)


@partial(jax.jit, static_argnames="batch")
def _draw(key: Key[Array, ""], world: World, *, batch: int) -> Draw:
    n = world.D.shape[1]
    x_key, noise_key = jax.random.split(key)
    x = kept(_values(x_key, world.law, n, batch, world.D.dtype))
    h = kept(jnp.matmul(world.D, x, precision="highest")).T + world.bias[None]
    if world.noise is not None:
        h += world.noise * jax.random.normal(noise_key, h.shape, h.dtype)
    return Draw(h, x.T)


def _values(key: Key[Array, ""], law: Law, n: int, batch: int, dtype: np.dtype) -> Float[Array, "n batch"]:
    """Feature values, one input a column; independent features are one long input cut up, which is faster than a key an input."""
    if isinstance(law, Planted):
        return _planted(key, law, batch)
    if isinstance(law, Independent):
        return _free(key, jnp.broadcast_to(law.rates[:, None], (n, batch)), law.magnitudes)
    if isinstance(law, features.Sparse):
        long = type(law)(jnp.repeat(features.density(law, n=n), batch))
        return features.sample(key, long, n=n * batch).reshape(n, batch).astype(dtype)
    keys = jax.random.split(key, batch)
    return jax.vmap(lambda k: features.sample(k, law, n=n), out_axes=1)(keys).astype(dtype)


def _planted(key: Key[Array, ""], law: Planted, batch: int) -> Float[Array, "n batch"]:
    shared_key, tree_key, free_key = jax.random.split(key, 3)
    over = firing.excess(shared_key, law.copula, batch=batch)
    start = law.trees.nodes if law.trees else 0
    rest = jax.tree.map(lambda y: y[start:], law.magnitudes)
    free = _free(free_key, firing.chance(over[start:]), rest)
    return jnp.concatenate([_in_trees(tree_key, over, law.magnitudes, law.trees), free]) if law.trees else free


def _free(key: Key[Array, ""], chance: Float[Array, "n batch"], law: magnitudes.RectifiedNormal) -> Float[Array, "n batch"]:
    """Values of features outside trees."""
    v = firing.candidates(key, chance)
    return jnp.where(v > 0, magnitudes.sizes(law.mean[:, None], law.deviation[:, None], magnitudes.standard_normal(v)), 0)


def _in_trees(
    key: Key[Array, ""], over: Float[Array, "n batch"], law: magnitudes.RectifiedNormal, trees: firing.Trees
) -> Float[Array, "nodes batch"]:
    """Values of features in trees. In each level of a tree one fires at most, so each step draws the children of one alone."""
    roots, b, batch = trees.roots, trees.branching, over.shape[1]
    keys = jax.random.split(key, trees.depth + 1)
    top = jax.tree.map(lambda y: y[:roots], law)
    levels = [_free(keys[0], firing.chance(over[:roots]), top)]
    node = jnp.broadcast_to(jnp.arange(roots)[:, None], (roots, batch))
    x, start = levels[0], roots
    for level_key, width in zip(keys[1:], trees.levels[1:], strict=True):
        children = roots + b * node[:, None] + jnp.arange(b)[None, :, None]
        chance = firing.chance(jnp.take_along_axis(over, children.reshape(-1, batch), axis=0))
        wins, v = firing.one_of_each(firing.candidates(level_key, chance).reshape(roots, b, batch))
        parent_mean, node = law.mean[node], jnp.sum(jnp.where(wins, children, 0), axis=1)
        size = magnitudes.sizes(law.mean[node], law.deviation[node], magnitudes.standard_normal(v))
        x = jnp.where(wins.any(1), x / parent_mean * size, 0)
        node = jnp.where(wins.any(1), node, children[:, 0])
        here = node[:, None] == jnp.arange(start, start + width).reshape(roots, -1, 1)
        levels.append(jnp.where(here, x[:, None], 0).reshape(width, batch))
        start += width
    return jnp.concatenate(levels)


def _noise(noise: float | Array) -> Array | None:
    if isinstance(noise, Tracer):
        return noise
    if not noise >= 0:
        raise ValueError(f"noise = {noise}: needs to be at least 0")
    return cast(Array, jnp.asarray(noise, float)) if noise > 0 else None
