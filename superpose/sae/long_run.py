"""Long runs of many autoencoders side by side: in parts, each kept on disk, so a run that was stopped goes on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from superpose import sweep
from superpose.sae.fit import ADAM, Fit, fit


def fit_in_parts(
    key: Key[Array, ""],
    starts: Any,
    source: Any,
    knobs: Mapping[str, Float[Array, " models"]] | None = None,
    *,
    folder: str | Path,
    settings: Any,
    parts: int,
    steps: int,
    optimizer: optax.GradientTransformation = ADAM,
    advance: Callable[[], None] = lambda: None,
    **how: Any,
) -> Fit:
    """`fit` of all models on the same samples, with a checkpoint after each part; the same call goes on where a run was stopped.

    Args:
        key: of the samples, for all models.
        starts: parameters with a leading axis of models.
        source: what is drawn from, as for `fit`.
        knobs: what differs from model to model: any of `penalty`, `k` and `rate`, with that axis.
        folder: where checkpoints are kept, a folder a part; `sweep.clear` deletes one.
        settings: the configuration as a dataclass; checkpoints of other settings, starts or programs are refused.
        parts: how many, at least 1; they divide the steps.
        steps: of the whole run.
        optimizer: as for `fit`.
        advance: called after each part.
        how: what else `fit` takes: variant, batch, draw and others.

    Returns:
        The models after the last step, with a leading axis; `losses` and `active` of all steps.

    Raises:
        ResultError: the folder is in use or cannot be written, or holds something else.
        ValueError: parts that do not divide the steps; or as `fit`.
    """
    if parts < 1 or steps % parts:
        raise ValueError(f"parts = {parts}: needs at least 1, and to divide steps = {steps}")
    count, each = len(starts.W_enc), steps // parts
    none = jnp.zeros((count, 0), starts.b_enc.dtype)
    idle = jnp.zeros(starts.b_enc.shape, jnp.int32)
    leaves, structure = jax.tree.flatten(Fit(starts, jax.vmap(optimizer.init)(starts), idle, none, none))
    history = []

    def part(point: dict[str, Any]) -> list[Array]:
        more = {"steps": each, "of": steps, "optimizer": optimizer, **point["knobs"], **how}
        return jax.tree.leaves(fit(key, jax.tree.unflatten(structure, point["run"]), source, point["done"], **more))

    for number in range(parts):
        points = {"run": leaves, "knobs": dict(knobs or {}), "done": np.full(count, number * each)}
        arrays = sweep.run(part, points, settings=settings, folder=Path(folder) / f"part-{number}", width=count)
        *leaves, losses, active = (jnp.asarray(x) for x in arrays.values())
        history.append((losses, active))
        leaves += [none, none]
        advance()
    losses, active = (jnp.concatenate(x, axis=1) for x in zip(*history, strict=True))
    return jax.tree.unflatten(structure, [*leaves[:-2], losses, active])
