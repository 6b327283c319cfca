"""Autoencoders trained on samples of activations: a given number of steps in one scan, many at once under `vmap`.

Everything works on one autoencoder. `vmap` over starts, penalties, rates or k with one key for all: then all see the same samples,
which are drawn once. Numbers are traced, so a sweep compiles once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from superpose.autoencoder import Params
from superpose.sae.resampling import resampled
from superpose.sae.variant import ABSENT, Knobs, Variant, present
from superpose.weights import unit

ADAM = optax.scale_by_adam()
"""The default optimiser, without a rate: that is an argument of its own, which a sweep may vary."""
WARM_UP, COOL_DOWN = 0.05, 0.2
"""Shares of the steps over which the penalty rises from 0, and over which the rate falls to 0 at the end."""
NORM = 0.1
"""Length of the columns that training starts from, where their length is free."""

Draw = Callable[[Key[Array, ""], Any, int], Any]
"""Draws activations: of a key, a source and a number of samples; shape (samples, m), or a pair of them and of targets."""


@struct.dataclass
class Fit:
    """A run so far, and what it needs to go on.

    Args:
        params: of the variant, after the latest step.
        optimizer_state: what the optimiser carries from step to step.
        idle: (L,), samples since each latent was last active.
        losses: the batch's loss before each step of the latest call, shape (steps,).
        active: mean number of active latents in each batch, shape (steps,).
    """

    params: Any
    optimizer_state: Any
    idle: Array
    losses: Array
    active: Array


def rows(key: Key[Array, ""], source: Any, batch: int) -> Any:
    """Samples of an array (N, m), or the same of a pair of arrays, drawn with replacement."""
    chosen = jax.random.randint(key, (batch,), 0, jax.tree.leaves(source)[0].shape[0])
    return jax.tree.map(lambda x: x[chosen], source)


def begin(
    key: Key[Array, ""],
    h: Float[Array, "samples m"],
    *,
    latents: int,
    variant: Variant,
    width: Int[Array, ""] | int | None = None,
    target: Float[Array, "samples o"] | None = None,
) -> Any:
    """Parameters to start from: random directions, `W_enc` tied to them, biases such that the mean activation is 0.

    Args:
        key: of the directions.
        h: some activations, for their mean and size.
        latents: number of latents L, at least 1.
        variant: the kind of autoencoder.
        width: latents beyond are absent and stay silent, so widths can vary under `vmap`; None: all L are there.
        target: what is to be written where that is not h, as a transcoder does; then nothing is tied.

    Raises:
        ValueError: no latents, activations or targets that are not finite or do not vary, or fewer than two.
    """
    if latents < 1:
        raise ValueError(f"latents = {latents}: needs at least 1")
    check_samples("h", h)
    W_dec = NORM * unit(jax.random.normal(key, (h.shape[1], latents), h.dtype))
    W_enc, aim = W_dec.T, h
    if target is not None:
        check_samples("target", target)
        W_dec, aim = NORM * unit(jax.random.normal(jax.random.fold_in(key, 1), (target.shape[1], latents), h.dtype)), target
    center = jnp.mean(h, axis=0)
    size = jnp.sqrt(jnp.mean(jnp.sum((h - center[None]) ** 2, axis=1)))
    there = jnp.arange(latents) < (latents if width is None else width)
    b_enc = jnp.where(there, -W_enc @ center, ABSENT)
    params = Params(W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, b_dec=jnp.mean(aim, axis=0))
    return variant.begin(params, size)


def check_samples(name: str, h: Array) -> None:
    """Raise ValueError unless these are at least two samples in rows, finite, and not all the same."""
    if h.ndim != 2 or len(h) < 2:
        raise ValueError(f"{name} has shape {h.shape}: needs (samples, m), at least 2 samples")
    if isinstance(h, Tracer):
        return
    known = np.asarray(h)
    if not np.all(np.isfinite(known)):
        raise ValueError(f"{name} holds {np.sum(~np.isfinite(known))} numbers that are not finite: needs none")
    if np.all(known == known[:1]):
        raise ValueError(f"{name} does not vary: needs samples that differ")


def fit(
    key: Key[Array, ""],
    start: Any,
    source: Any,
    done: Int[Array, ""] | int | None = None,
    *,
    variant: Variant,
    penalty: Float[Array, ""] | float = 0.0,
    k: Float[Array, ""] | float = 0.0,
    rate: Float[Array, ""] | float = 1e-3,
    steps: int,
    of: int | None = None,
    batch: int = 512,
    draw: Draw = rows,
    window: int = 100_000,
    resample: int | None = None,
    optimizer: optax.GradientTransformation = ADAM,
) -> Fit:
    """Take `steps` steps down the variant's loss, on fresh samples each.

    The penalty rises over the first 5 % of the steps, the rate falls to 0 over the last 20 %. Step t draws with `fold_in(key, t)`.

    Args:
        key: of the samples; not the one of the start.
        start: parameters from `begin`, or a `Fit` to go on from.
        source: what `draw` draws from; for `rows` activations (N, m), or a pair of them and of targets (N, o).
        done: steps already taken over all calls; needed to go on.
        variant: the kind of autoencoder.
        penalty: weight of its sparsity term, >= 0.
        k: latents to be active, for kinds that have such a number.
        rate: of learning.
        steps: steps of this call, >= 1. A new value compiles anew.
        of: steps of all calls together; None: of this one.
        batch: samples a step, >= 1.
        draw: draws samples; made once and used again.
        window: a latent that was silent for so many samples is dead.
        resample: after so many steps each, dead latents begin anew at samples that are badly reconstructed; None: never.
        optimizer: an optax transformation without a rate; made once and used again.

    Raises:
        ValueError: numbers out of range, a `Fit` without `done`, or samples that do not fit.

    Reference: Bricken et al. 2023, "Towards Monosemanticity", appendix "Autoencoder resampling".
    """
    params = start.params if isinstance(start, Fit) else start
    L, m = params.W_enc.shape
    _check(
        L, penalty, k, {"steps": steps, "batch": batch, "window": window, "resample": 1 if resample is None else resample}
    )
    if isinstance(start, Fit) and done is None:
        raise ValueError("done = None: needs the number of steps already taken, to go on from a Fit")
    if draw is rows:
        for name, x, width in zip(("h", "target"), jax.tree.leaves(source), (m, params.W_dec.shape[0]), strict=False):
            check_samples(name, x)
            if x.shape[1] != width:
                raise ValueError(f"{name} has shape {x.shape}: needs (samples, {width}), as the parameters have")
    if not isinstance(start, Fit):
        start = Fit(start, optimizer.init(start), jnp.zeros(L, jnp.int32), jnp.zeros(0), jnp.zeros(0))
    traced = jax.tree.map(jnp.asarray, (penalty, k, rate, 0 if done is None else done, of or steps))
    static = {"variant": variant, "steps": steps, "batch": batch, "draw": draw, "window": window, "resample": resample}
    return _fit(key, start, source, *traced, **static, optimizer=optimizer)


def _check(L: int, penalty: Any, k: Any, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} = {count}: needs at least 1")
    for name, x, most in (("penalty", penalty, np.inf), ("k", k, L)):
        if not isinstance(x, Tracer) and not np.all((np.asarray(x) >= 0) & (np.asarray(x) <= most)):
            raise ValueError(
                f"{name} = {x}: needs to be at least 0" + (f", at most {L}, the latents" if name == "k" else "")
            )


@partial(jax.jit, static_argnames=("variant", "steps", "batch", "draw", "window", "resample", "optimizer"))
def _fit(key, start, source, penalty, k, rate, done, of, *, variant, steps, batch, draw, window, resample, optimizer) -> Fit:
    def step(carry: tuple, t: Array) -> tuple[tuple, tuple]:
        params, state, idle = carry
        drawn = draw(jax.random.fold_in(key, t), source, batch)
        h, target = (x.T for x in (drawn if isinstance(drawn, tuple) else (drawn, drawn)))
        progress = (t / of).astype(h.dtype)
        weight = penalty.astype(h.dtype) * jnp.minimum(1, progress / WARM_UP)
        knobs = Knobs(weight, k.astype(h.dtype), progress, (idle > window) & present(params))
        (loss, z), gradient = jax.value_and_grad(variant.loss, has_aux=True)(params, h, target, knobs)
        updates, state = optimizer.update(gradient, state, params)
        now = rate * jnp.minimum(1, (1 - progress) / COOL_DOWN)
        params = jax.tree.map(lambda p, u: p - (now * u).astype(p.dtype), params, updates)
        params = variant.after(params, z, knobs)
        on = z > 0
        idle = jnp.where(jnp.any(on, axis=1), 0, idle + batch)
        if resample is not None:
            dead = (idle > window) & present(params)
            again = partial(
                resampled, jax.random.fold_in(key, of + t), h, target, dead, variant=variant, optimizer=optimizer
            )
            due = (t + 1) % resample == 0
            params, state = jax.lax.cond(due, again, lambda *x: x, params, state)
            idle = jnp.where(due & dead, 0, idle)
        return (params, state, idle), (loss, jnp.sum(on) / batch)

    carry, (losses, active) = jax.lax.scan(step, (start.params, start.optimizer_state, start.idle), done + jnp.arange(steps))
    return Fit(*carry, losses, active)
