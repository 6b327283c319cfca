"""Adversarial examples: the small change of an input that hurts a model most.

An attack of size eps is a `d` with `|d|_2 <= eps` that raises `L(d) = sum_i I_i (t(x)_i - f(x + d)_i)^2`: the target stays that
of the clean input. For the model linearised at x the worst attack is known exactly; for the true one it is approached from
below by projected gradient ascent, so what a model withstands there it may still fail at.

`model(params, x)` is any of `toy_model.reconstruct`, `hidden_layer.reconstruct` (a `functools.partial` of one), or the like.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "Superposition and Adversarial Robustness"; Madry et al. 2018,
"Towards Deep Learning Models Resistant to Adversarial Attacks"; Moré and Sorensen 1983, "Computing a trust region step".
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from superpose import features, toy_model
from superpose._jax.one_by_one import eigh

Model = Callable[[Any, Array], Array]
Importance = Float[Array, " n"] | Float[Array, ""] | float
_BISECTIONS = 100


def attacked_loss(
    params: Any,
    x: Float[Array, " n"],
    attack: Float[Array, " n"],
    importance: Importance = 1.0,
    *,
    model: Model = toy_model.reconstruct,
    target: Callable[[Array], Array] = lambda x: x,
) -> Float[Array, ""]:
    """`sum_i importance_i (t(x)_i - f(x + attack)_i)^2` at one input."""
    return jnp.sum(importance * (target(x) - model(params, x + attack)) ** 2)


def linearised_attack(
    params: Any,
    x: Float[Array, " n"],
    size: Float[Array, ""] | float,
    importance: Importance = 1.0,
    *,
    model: Model = toy_model.reconstruct,
    target: Callable[[Array], Array] = lambda x: x,
) -> Float[Array, " n"]:
    """The worst attack of length `size` on the model linearised at x, `f(x + d) = f(x) + J d`; exact.

    With `A = sqrt(I) J` and `r = sqrt(I) (t(x) - f(x))` it maximises `|r - A d|^2` on the sphere: `(lam - A^T A) d = -A^T r`
    with the `lam >= |A|^2` for which `|d| = size`, found by bisection in the eigenbasis of `A^T A`. Where r has nothing
    along the leading eigenvector, that vector makes up the length (its sign is free). At clean inputs without error it is
    that vector alone.

    Args:
        params: of the model.
        x: one input, shape `(n,)`.
        size: length of the attack, >= 0.
        importance: weight of each output, scalar or `(n,)`, >= 0.
        model: parameters and input to outputs.
        target: of the input, what the outputs are to be.
    """
    root = jnp.sqrt(jnp.broadcast_to(jnp.asarray(importance, x.dtype), x.shape))
    jacobian = root[:, None] * jax.jacfwd(lambda z: model(params, z))(x)
    values, vectors = eigh(jacobian.T @ jacobian)
    pull = -vectors.T @ (jacobian.T @ (root * (target(x) - model(params, x))))
    top, tiny = values[-1], jnp.finfo(x.dtype).tiny
    high = jnp.linalg.norm(pull) / jnp.maximum(size, tiny)  # there the length is at most `size`

    def halve(_: Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        long = jnp.sum((pull / jnp.maximum(top - values + middle, tiny)) ** 2) > size**2
        return jnp.where(long, middle, low), jnp.where(long, high, middle)

    _, above = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.zeros_like(high), high))
    step = pull / jnp.maximum(top - values + above, tiny)
    missing = jnp.sqrt(jnp.maximum(size**2 - jnp.sum(step**2) + step[-1] ** 2, 0))
    return vectors @ step.at[-1].set(jnp.where(step[-1] < 0, -missing, missing))


def projected_attack(
    key: Key[Array, ""],
    params: Any,
    x: Float[Array, " n"],
    size: Float[Array, ""] | float,
    importance: Importance = 1.0,
    *,
    model: Model = toy_model.reconstruct,
    target: Callable[[Array], Array] = lambda x: x,
    steps: int = 40,
    starts: int = 8,
) -> Float[Array, " n"]:
    """The worst attack of at most length `size` found on the true model by projected gradient ascent.

    Each step goes by `size / 4` (falling to 0) along the normalised gradient and back into the ball. It begins at the linearised
    attack, at its opposite, and at random points of the sphere; the best point seen anywhere is returned, so it is never worse
    than the linearised attack. Not below the truth by a known amount: more `starts` tell.

    Args:
        key: for the random starts.
        params: of the model.
        x: one input, shape `(n,)`.
        size: largest length, >= 0.
        importance: weight of each output, scalar or `(n,)`, >= 0.
        model: parameters and input to outputs.
        target: of the input, what the outputs are to be.
        steps: of each ascent, >= 1.
        starts: random starts, >= 0.

    Raises:
        ValueError: `steps` below 1, or `starts` negative.
    """
    if steps < 1 or starts < 0:
        raise ValueError(f"steps = {steps}, starts = {starts}: needs steps >= 1 and starts >= 0")
    objective = partial(attacked_loss, params, x, importance=importance, model=model, target=target)
    known = linearised_attack(params, x, size, importance, model=model, target=target)
    random = jax.random.normal(key, (starts, *x.shape), x.dtype)
    begin = jnp.concatenate([known[None], -known[None], size * _unit(random)])

    def step(carry: tuple[Array, Array, Array], t: Array) -> tuple[tuple[Array, Array, Array], None]:
        at, best, loss = carry
        value, slope = jax.value_and_grad(objective)(at)
        best, loss = jnp.where(value > loss, at, best), jnp.maximum(value, loss)
        at = at + size / 4 * (1 - t / steps) * _unit(slope)
        return (at / jnp.maximum(1, jnp.linalg.norm(at) / jnp.maximum(size, jnp.finfo(x.dtype).tiny)), best, loss), None

    def ascend(at: Array) -> tuple[Array, Array]:
        carry = (at, at, objective(at))
        (last, best, loss), _ = jax.lax.scan(step, carry, jnp.arange(steps))
        value = objective(last)
        return jnp.where(value > loss, last, best), jnp.maximum(value, loss)

    found, losses = jax.vmap(ascend)(begin)
    return found[jnp.argmax(losses)]


def attack_size(
    key: Key[Array, ""], distribution: features.Distribution, *, n: int, draws: int = 10_000
) -> Float[Array, ""]:
    """A tenth of the mean input norm, `0.1 E |x|_2`, from `draws` inputs: the paper's size of an attack."""
    xs = jax.vmap(lambda k: features.sample(k, distribution, n=n))(jax.random.split(key, draws))
    return 0.1 * jnp.mean(jnp.linalg.norm(xs, axis=1))


def vulnerability(
    losses: Float[Array, " draws"], reference: Float[Array, " draws"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean attacked loss of a model over that of a `reference` without superposition, on the same inputs; and its standard error.

    The error of the ratio R of means is `sd(losses - R reference) / (sqrt(draws) mean(reference))`.
    """
    ratio = jnp.mean(losses) / jnp.mean(reference)
    spread = jnp.std(losses - ratio * reference, ddof=1) / losses.shape[0] ** 0.5
    return ratio, spread / jnp.mean(reference)


def _unit(v: Float[Array, "*s n"]) -> Float[Array, "*s n"]:
    """`v / |v|` along the last axis; 0 where v is."""
    square = jnp.sum(v**2, axis=-1, keepdims=True)
    return jnp.where(square > 0, v / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
