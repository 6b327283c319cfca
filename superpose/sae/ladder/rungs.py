"""All rungs on one set of samples: how well x is found from h where the dictionary is known."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from superpose.sae import scores
from superpose.sae.fit import check_samples, fit
from superpose.sae.ladder.frozen import from_dictionary, frozen, supervised
from superpose.sae.ladder.inputs import check_density, check_dictionary, check_number
from superpose.sae.ladder.lasso import lasso
from superpose.sae.ladder.lista import lista
from superpose.sae.ladder.posterior import best_code, posterior
from superpose.sae.ladder.pursuit import pursuit
from superpose.sae.ladder.threshold import threshold
from superpose.sae.relu import RELU
from superpose.sae.variant import latents

AT_ONCE = 256
"""Activations that are encoded side by side."""
TUNED = 1000
"""Settings are chosen on so many samples at most."""
THRESHOLDS = np.linspace(0, 1, 33)
"""In units of the largest x."""
PENALTIES = (0.0, *0.003 * 2.0 ** np.arange(8))
"""In units of the root mean square of |h|."""


SILENT = 1e-4
"""Best codes without noise are sought as if there were so much, in units of the root mean square of the entries of h."""
NAMES = ("threshold", "frozen", "encoder", "lista", "lasso", "pursuit", "exhaustive")
"""The rungs, from the bottom up, roughly."""


@dataclass(frozen=True)
class Settings:
    """What the rungs are told.

    Args:
        k: most features of the pursuit and of the best code; None: the most that are on in a sample, m at most.
        noise: standard deviation of the noise in each dimension, >= 0.
        density: of each feature, one number or n of them, for the exhaustive rung; None: without it.
        layers: of LISTA.
        penalties: tried for the rungs that have one, in units of the root mean square of |h|, >= 0.
        steps: of training.
        batch: samples a step.
        rate: of learning.
    """

    k: int | None = None
    noise: float = 0.0
    density: float | tuple[float, ...] | None = None
    layers: int = 8
    penalties: tuple[float, ...] = PENALTIES
    steps: int = 3000
    batch: int = 512
    rate: float = 2e-3


@struct.dataclass
class Rung:
    """The scores of one encoder; scalars.

    `error`: `|x - z|^2`, summed over features, mean over samples. `fvu`: of h by D z. `f1`: of the code of each feature as its
    detector, mean over the features that are ever on. `l0`: mean number of codes that are not 0. `setting`: the threshold or the
    penalty that was chosen; nan if there is none.
    """

    error: Array
    fvu: Array
    f1: Array
    l0: Array
    setting: Array


def ladder(
    key: Key[Array, ""],
    x: Float[Array, "_ _"],
    h: Float[Array, "_ _"],
    D: Float[Array, "m n"],
    bias: Float[Array, " _"] | None = None,
    *,
    settings: Settings = Settings(),
) -> dict[str, Rung]:
    """Scores of encoders that know D, on the second half of the samples; what is chosen or trained has seen the first alone.

    `threshold`: `threshold`, the best t. `frozen`: a ReLU autoencoder trained on its own loss with `W_dec = D`, the best penalty.
    `encoder`: the same form, trained for x. `lista`: trained for x. `lasso`: the best penalty. `pursuit`: up to k features, until
    |r| is `noise sqrt(m)`. `exhaustive`, if a density is given: the posterior mean where all x are 0 or 1, and a feature counts as
    on above 1/2; for other x the best code with up to k features. Best is: of least squared error of x. Not under `jit`.

    Args:
        key: of the training samples.
        x: (samples, n), true values of the features, >= 0.
        h: (samples, m), activations `D x + bias`, with noise or without.
        D: directions of the features, in columns.
        bias: (m,); None: 0.
        settings: the numbers.

    Raises:
        ValueError: shapes that do not fit, h or x or D not finite, k > min(m, n), negative penalties or noise, or an exhaustive
            rung of more than 100,000 supports.
    """
    h = check_data(x, h, D, bias)
    x, half = jnp.asarray(x), len(h) // 2
    learn, test = (x[:half], h[:half]), (x[half:], h[half:])
    k = _most(x, D, settings)
    size = jnp.sqrt(jnp.mean(jnp.sum(learn[1] ** 2, axis=1)))
    penalties = size * jnp.asarray(settings.penalties, h.dtype)
    grids = {
        "threshold": jnp.max(learn[0]) * jnp.asarray(THRESHOLDS, h.dtype),
        "lasso": penalties,
        "pursuit": jnp.asarray([settings.noise * len(D) ** 0.5], h.dtype),
    }
    found = {} if settings.density is None else {"exhaustive": _exhaustive(D, *test, k, settings)}
    found |= {name: _chosen(name, D, *learn, test[1], grid, k) for name, grid in grids.items()}
    found |= _trained(key, D, *learn, test[1], penalties, settings)
    return {name: _scored(name, D, *test, *found[name]) for name in NAMES if name in found}


ENCODERS: dict[str, Callable] = {
    "threshold": lambda D, h, t, k: threshold(D, h, t),  # noqa: ARG005
    "lasso": lambda D, h, penalty, k: lasso(D, h, penalty).x,  # noqa: ARG005
    "pursuit": lambda D, h, tolerance, k: pursuit(D, h, k, tolerance),
    "posterior": lambda D, h, law, k: posterior(D, h, *law).mean,  # noqa: ARG005
    "best_code": lambda D, h, law, k: best_code(D, h, *law, most=k),
}
"""Encoders of one activation, with numbers that are traced and the most features, which is static."""


@partial(jax.jit, static_argnames=("name", "k"))
def _codes(name: str, D: Array, h: Array, numbers: Any, *, k: int) -> Float[Array, "samples n"]:
    return in_parts(lambda one: ENCODERS[name](D, one, numbers, k), h)


def _chosen(name: str, D: Array, x: Array, h: Array, test: Array, grid: Array, k: int) -> tuple[Array, Array]:
    """Codes of the test samples with the number that is best on others, and that number."""
    if len(grid) > 1:
        errors = [jnp.mean((x[:TUNED] - _codes(name, D, h[:TUNED], number, k=k)) ** 2) for number in grid]
        grid = grid[jnp.argmin(jnp.stack(errors))][None]
    return _codes(name, D, test, grid[0], k=k), grid[0]


def _trained(
    key: Key[Array, ""], D: Array, x: Array, h: Array, test: Array, penalties: Array, settings: Settings
) -> dict[str, tuple[Array, Array]]:
    """Codes of the test samples by the encoders that are trained."""
    how = {"steps": settings.steps, "batch": settings.batch, "rate": settings.rate}

    def one(penalty: Array) -> Any:
        return fit(key, from_dictionary(D, variant=RELU), h, variant=frozen(RELU), penalty=2 * penalty, **how).params

    every = jax.vmap(one)(penalties)
    errors = jax.vmap(lambda params: jnp.mean((x[:TUNED] - latents(params, h[:TUNED], variant=RELU)) ** 2))(every)
    best = jnp.argmin(errors)
    found = {"frozen": (latents(jax.tree.map(lambda a: a[best], every), test, variant=RELU), penalties[best])}
    for name, variant in (("encoder", RELU), ("lista", lista(settings.layers))):
        start = supervised(from_dictionary(D, variant=variant))
        params = fit(key, start, (h, x), variant=frozen(variant), **how).params
        found[name] = latents(params, test, variant=variant), jnp.asarray(jnp.nan)
    return found


def _exhaustive(D: Array, x: Array, h: Array, k: int, settings: Settings) -> tuple[Array, Array]:
    binary = _binary(x)
    check_density(settings.density, below=1.0 if binary else 0.5)
    check_number("noise", settings.noise, above=binary)
    noise = jnp.asarray(settings.noise, h.dtype)
    if not binary:
        noise = jnp.maximum(noise, SILENT * jnp.sqrt(jnp.mean(h**2)))
    law = jnp.asarray(settings.density, h.dtype), noise
    return _codes("posterior" if binary else "best_code", D, h, law, k=k), jnp.asarray(jnp.nan)


def _scored(name: str, D: Array, x: Array, h: Array, z: Array, setting: Array) -> Rung:
    on = z > 0.5 if name == "exhaustive" and _binary(x) else z != 0
    return scored(x, h, jnp.where(on, z, 0), z @ D.T, on, jnp.sum((x - z) ** 2) / len(x), setting)


@jax.jit
def scored(
    x: Float[Array, "samples n"],
    h: Float[Array, "samples m"],
    z: Float[Array, "samples n"],
    h_hat: Float[Array, "samples m"],
    on: Bool[Array, "samples L"],
    error: Float[Array, ""],
    setting: Float[Array, ""],
) -> Rung:
    """The scores of codes z of the features and reconstructions h_hat; `on` says which codes count for `l0`."""
    total = scores.counts(x, z, h, h_hat, jnp.mean(h, axis=0))
    f1 = scores.detection(total, jnp.arange(x.shape[1])).f1
    ever = total.features > 0
    mean = jnp.sum(jnp.where(ever, f1, 0)) / jnp.sum(ever)
    return Rung(error, scores.fvu(total), mean, jnp.mean(jnp.sum(on, axis=1, dtype=float)), setting)


def in_parts(encode: Callable, *samples: Array) -> Any:
    """Of each sample, `AT_ONCE` side by side."""
    return jax.lax.map(lambda one: encode(*one), samples, batch_size=AT_ONCE)


def check_data(x: Any, h: Any, D: Any, bias: Any) -> Float[Array, "samples m"]:
    """The activations less their bias.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """
    check_dictionary(D)
    check_samples("x", x)
    check_samples("h", h)
    m, n = D.shape
    bias = jnp.zeros(m, h.dtype) if bias is None else bias
    for name, a, shape in (("x", x, (len(h), n)), ("h", h, (len(h), m)), ("bias", bias, (m,))):
        if a.shape != shape:
            raise ValueError(f"{name} has shape {a.shape}: needs {shape}, as D has shape {D.shape} and h {len(h)} samples")
    return jnp.asarray(h) - jnp.asarray(bias)[None]


def _most(x: Array, D: Array, settings: Settings) -> int:
    check_number("noise", settings.noise)
    check_number("penalties", settings.penalties)
    most = min(D.shape)
    k = min(max(int(jnp.max(jnp.sum(x != 0, axis=1))), 1), most) if settings.k is None else settings.k
    if not 1 <= k <= most:
        raise ValueError(f"k = {k}: needs at least 1 and at most min(m, n) = {most}")
    return k


def _binary(x: Array) -> bool:
    return bool(jnp.all((x == 0) | (x == 1)))
