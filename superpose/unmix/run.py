"""From cause to cure in one run: a toy model in superposition, autoencoders on its activations, their scores, and edits.

The result is one labelled file. Each kind of autoencoder is a sweep of its own, all its runs on the same samples, and is kept as
soon as it is done.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from superpose import editing, features, results, sae, sweep
from superpose.settings import Unmixing
from superpose.synthetic import Draw, World, draw, of_model
from superpose.toy_model import Params
from superpose.unmix.kinds import Kind, kind
from superpose.unmix.toy import model
from superpose.unmix.units import correlation, features_per_unit

SCORES = {
    "mcc": "mean cosine of matched latents and features",
    "mcc_calibrated": "the same, 0 for random directions and 1 for the truth",
    "coverage": "share of features with a latent within a cosine of .9",
    "f1_matched": "F1 of latents as detectors of their matched features",
    "fvu": "fraction of variance unexplained",
    "l0": "mean number of active latents",
    "dead_fraction": "share of latents that are never active",
    "shrinkage": "mean of |h'| / |h|",
    "uniqueness": "share of latents whose nearest feature is no other latent's",
}
ANSWERS = ("read", "traced", "edited", "verified", "hidden_at_most")
PARAMETERS = {"W_enc": ["latent", "hidden"], "W_dec": ["hidden", "latent"], "b_dec": ["hidden"]}
FOUND = {
    "latent_of": ["feature"],
    "correlation": ["latent", "feature"],
    "features_per_latent": ["latent"],
    **{name: ["feature"] for name in ANSWERS},
}
STRENGTH = 0.5
"""How much of a direction is added where the exact effect of steering is worked out, in units of the mean length of the columns."""
EXACT = 24
"""Features up to which it is."""


def compute(settings: Unmixing, folder: Path, *, advance: Callable[[str], None] = lambda _: None) -> xr.Dataset:
    """Do what `folder` does not hold yet, write `unmix.nc` and return its dataset.

    Args:
        settings: of model and autoencoders.
        folder: where results go; a finished one of the same settings is read instead.
        advance: called with the name of each part that is done: "model", then each variant, then "edits".

    Raises:
        ResultError: the folder is in use or cannot be written, or holds a result of other settings.
        ValueError: a variant that needs more features or latents.
    """
    path, begun = folder / "unmix.nc", perf_counter()
    if path.exists():
        return _finished(path, settings)
    key = jax.random.key(settings.seed)
    points = {"seed": np.asarray([settings.seed])}
    found = _kept(partial(_model, settings), points, settings, folder / ".model.chunks")
    params = Params(W=jnp.asarray(found["W"][0]), b=jnp.asarray(found["b"][0]))
    advance("model")
    world = of_model(params.W.astype(jnp.float32), features.SparseUniform(settings.density))
    held_out = draw(jax.random.fold_in(key, 1), world, batch=settings.samples)
    size = float(jnp.mean(jnp.linalg.norm(params.W, axis=0)))
    parts = []
    for name in settings.variants:
        parts.append(_tried(kind(name, settings, size), settings, params, world, held_out, folder / f".{name}.chunks"))
        advance(name)
    dataset: Any = xr.concat(parts, xr.IndexVariable("variant", list(settings.variants)), join="outer")
    dataset = dataset.assign(W=(("hidden", "feature"), params.W), b=("feature", params.b), model_loss=found["loss"][0])
    dataset["true_l0"] = np.mean(np.sum(np.asarray(held_out.x) > 0, axis=1))
    dataset = _beside(_with_best(dataset), params, held_out, settings)
    advance("edits")
    for name, text in SCORES.items():
        dataset[name].attrs["long_name"] = text
    results.save(path, dataset, settings, seconds=perf_counter() - begun)
    for part in (".model.chunks", *(f".{name}.chunks" for name in settings.variants)):
        sweep.clear(folder / part)
    return results.load(path)


def _finished(path: Path, settings: Unmixing) -> xr.Dataset:
    dataset = results.load(path)
    if dataset.attrs.get("settings") != results.settings_text(settings):
        raise results.ResultError(f"{path}: holds a result of other settings; give another folder, or remove it")
    return dataset


def _kept(function: Callable, points: Any, settings: Unmixing, folder: Path) -> dict[str, np.ndarray]:
    """A sweep in one chunk: its runs share their samples."""
    return sweep.run(function, points, settings=settings, folder=folder, width=len(jax.tree.leaves(points)[0]))


def _model(settings: Unmixing, point: dict[str, Array]) -> dict[str, Array]:
    params, loss = model(jax.random.fold_in(jax.random.key(point["seed"]), 0), settings)
    return {"W": params.W, "b": params.b, "loss": loss}


def _activations(key: Array, source: World, batch: int) -> Array:
    return draw(key, source, batch=batch).h


def _tried(how: Kind, settings: Unmixing, model: Params, world: World, held_out: Draw, folder: Path) -> xr.Dataset:
    """All runs of a kind, with their scores on samples that none was trained on."""
    key, L, first = jax.random.key(settings.seed), settings.latents or settings.n, held_out.h[:1000]
    values = jnp.asarray(how.values, jnp.float32)
    run = {"variant": how.variant, "steps": settings.steps, "batch": settings.batch, "draw": _activations}

    def one(point: dict[str, Array]) -> Any:
        start = sae.begin(
            jax.random.fold_in(jax.random.fold_in(key, 2), point["start"]), first, latents=L, variant=how.variant
        )
        told = {**how.more, how.varied: values[point["value"]], "rate": settings.rate}
        return sae.fit(jax.random.fold_in(key, 3), start, world, **run, **told).params

    axes = {"value": np.arange(settings.values), "start": np.arange(settings.starts)}
    points = sweep.grid(axes)
    structure = jax.tree.structure(sae.begin(key, first, latents=L, variant=how.variant))
    found = _kept(one, points, settings, folder)
    every = [structure.unflatten([jnp.asarray(x[i]) for x in found.values()]) for i in range(len(points["value"]))]
    scored = [_scored(jax.random.fold_in(key, 4), how.variant, params, model, held_out) for params in every]
    arrays = found | {name: np.array([s[name] for s in scored]) for name in scored[0]}
    dims = {name: PARAMETERS.get(name, ["latent"])[: x.ndim - 1] for name, x in found.items()}
    labelled = sweep.label(arrays, axes, dims | FOUND)
    return labelled.assign(sparsity=("value", np.asarray(values)), varied=how.varied)


def _scored(key: Array, variant: sae.Variant, params: Any, model: Params, held_out: Draw) -> dict[str, Any]:
    """Scores of one autoencoder, what its latents have to do with features, and what can be done with them."""
    z = sae.latents(params, held_out.h, variant=variant)
    report = sae.scores.report(key, params.W_dec, model.W, held_out.x, z, held_out.h, sae.reconstruction(params, z))
    answers = editing.answers(model, held_out.x, editing.latents(params.W_dec, z, report.matching.latent))
    x, z = np.asarray(held_out.x, float), np.asarray(z, float)
    return {
        **{name: float(getattr(report, name)) for name in SCORES},
        **{name: np.asarray(getattr(answers, name)) for name in ANSWERS},
        "collapse": report.collapse,
        "latent_of": np.asarray(report.matching.latent),
        "correlation": correlation(z, x),
        "features_per_latent": features_per_unit(z, x),
    }


def _with_best(dataset: xr.Dataset) -> xr.Dataset:
    """Of each variant the run whose latents detect their features best; and which variant has the best of these."""
    f1 = dataset["f1_matched"].fillna(-1).transpose("variant", "value", "start").values
    flat = f1.reshape(len(f1), -1)
    value, start = np.divmod(flat.argmax(1), f1.shape[2])
    return dataset.assign(best_value=("variant", value), best_start=("variant", start), best_variant=flat.max(1).argmax())


def best(dataset: xr.Dataset) -> xr.Dataset:
    """The best run of each variant."""
    return dataset.isel(value=dataset["best_value"], start=dataset["best_start"])


def _beside(dataset: xr.Dataset, model: Params, held_out: Draw, settings: Unmixing) -> xr.Dataset:
    """What true directions and neurons answer; features in each neuron; and exactly what steering by each of them moves."""
    x, h = held_out.x, held_out.h
    kinds = {"true directions": editing.true_directions(model, h), "neurons": editing.neurons(model, h)}
    answers = [editing.answers(model, x, handles) for handles in kinds.values()]
    arrays: dict[str, Any] = {
        f"{name}_by": (("handle", "feature"), np.stack([getattr(a, name) for a in answers])) for name in ANSWERS
    }
    dataset = dataset.assign_coords(handle=list(kinds)).assign(arrays)
    h, x = (np.asarray(a, float) for a in (h, x))
    dataset["features_per_neuron"] = ("hidden", features_per_unit(h, x))
    dataset["correlation_of_neurons"] = (("hidden", "feature"), correlation(h, x))
    if settings.n > EXACT:
        return dataset
    run = best(dataset).isel(variant=int(dataset["best_variant"]))
    latent = editing.latents(jnp.asarray(run["W_dec"].values), jnp.zeros((1, run.sizes["latent"])), run["latent_of"].values)
    directions = [handles.directions for handles in kinds.values()] + [latent.directions]
    size = float(jnp.mean(jnp.linalg.norm(model.W, axis=0)))
    law = features.SparseUniform(settings.density)
    moved = [editing.steering(model, v.astype(model.W.dtype), law, strength=STRENGTH * size) for v in directions]
    dataset.coords["edited_along"] = ("edited_along", ["true directions", "neurons", "latents"])
    dataset["steering_selectivity"] = (("edited_along", "feature"), np.stack([editing.selectivity(m) for m in moved]))
    return dataset


def summary(dataset: xr.Dataset) -> dict[str, Any]:
    """The run in numbers: the model, the best run of each variant, and what can be done with its latents, directions, neurons."""
    runs, steered = best(dataset), "steering_selectivity" in dataset
    names = [*SCORES, *ANSWERS, "features_per_latent"]

    def one(k: int, name: str) -> dict[str, Any]:
        run = runs.isel(variant=k)
        return {
            "variant": name,
            str(run["varied"].values): float(run["sparsity"]),
            **{name: float(run[name].mean()) for name in names},
            "collapse": str(run["collapse"].values),
        }

    by = {
        str(handle): {name: float(dataset[f"{name}_by"].sel(handle=handle).mean()) for name in ANSWERS}
        for handle in dataset["handle"].values
    }
    along = dataset["steering_selectivity"].mean("feature") if steered else None
    return {
        "n": dataset.sizes["feature"],
        "m": dataset.sizes["hidden"],
        "model_loss": float(dataset["model_loss"]),
        "features_stored": int((np.linalg.norm(dataset["W"].values, axis=0) > 0.1).sum()),
        "features_per_neuron": float(dataset["features_per_neuron"].mean()),
        "best_variant": str(dataset["variant"].values[int(dataset["best_variant"])]),
        "variants": [one(k, str(name)) for k, name in enumerate(dataset["variant"].values)],
        "directions_and_neurons": by,
        "steering_selectivity": {}
        if along is None
        else {str(a): float(along.sel(edited_along=a)) for a in along["edited_along"].values},
        "seconds": float(dataset.attrs["seconds"]),
    }
