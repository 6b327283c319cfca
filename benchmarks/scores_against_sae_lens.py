"""The scores of `superpose.sae.scores` beside those of sae_lens's synthetic evaluation, on the same arrays; prints a table.

`python -m benchmarks.scores_against_sae_lens`, where torch and sae_lens are installed. Without its dependencies will do, but for
simple-parsing: `pip install --no-deps sae-lens`. Packages for language models, which its scores do not use, are replaced by empty
modules if they are missing.

Three made-up autoencoders: fewer latents than features, as many, and more; one latent in eight is dead, and features are so rare
that some activations are 0. Scores that it does not have (chance, coverage, absorption, turns) are left out.

Where they differ: sae_lens leaves activations shorter than 1e-6 out of the shrinkage, superpose only those that are 0.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np

from superpose.sae import scores

SIZES = {"L < n": (32, 64, 128), "L = n": (32, 128, 128), "L > n": (32, 256, 128)}
"""`(m, L, n)`."""

SAMPLES, DENSITY = 20_000, 0.01

UNUSED = {"babe", "datasets", "dotenv", "einops", "huggingface_hub", "nltk", "plotly_express", "requests", "safetensors"}
UNUSED |= {"tenacity", "tqdm", "transformer_lens", "transformers", "wandb", "yaml"}
"""Packages for language models that sae_lens imports, but its scores do not use."""


class Missing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for packages that are not installed; any name in them is an empty class."""

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002
        """Asked last, for what no other has found."""
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in UNUSED else None

    def create_module(self, spec):
        """A module with any name."""
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = lambda name: type(name, (), {})
        return module

    def exec_module(self, module):
        """Nothing to run."""


def imported():
    """sae_lens's module of scores."""
    sys.meta_path.append(missing := Missing())
    try:
        from sae_lens.synthetic import evals
    finally:
        sys.meta_path.remove(missing)
    return evals


def made_up(key, m, L, n):
    """`W_dec`, `D`, `x`, `z`, `h`, `h_hat` in float32: latents near true features, or random from the n-th on.

    Encoded by a threshold, decoded by least squares.
    """
    keys = jax.random.split(key, 5)
    D = scores.directions(jax.random.normal(keys[0], (m, n)))
    near = jnp.take(D, jnp.arange(L) % n, axis=1) + 0.1 * jax.random.normal(keys[1], (m, L))
    W_dec = jnp.where((jnp.arange(L) < n)[None, :], near, jax.random.normal(keys[2], (m, L)))
    x = jax.random.uniform(keys[3], (SAMPLES, n)) * (jax.random.uniform(keys[4], (SAMPLES, n)) < DENSITY)
    h = x @ D.T
    read = h @ scores.directions(W_dec)
    z = jnp.where((read > 0.3) & (jnp.arange(L) % 8 > 0)[None, :], read, 0)
    return W_dec, D, x, z, h, 0.9 * z @ jnp.linalg.lstsq(z, h)[0] + 0.01


def of_superpose(key, arrays):
    """The scores that both have, from `report`."""
    found = scores.report(key, *arrays, draws=2)
    assert found.collapse == "", found.collapse
    L = arrays[0].shape[1]
    same = ("mcc", "uniqueness", "precision", "recall", "f1", "l0", "true_l0", "shrinkage")
    counted = {name: float(getattr(found, name)) for name in same}
    return counted | {"dead latents": float(found.dead_fraction) * L, "1 - FVU": 1 - float(found.fvu)}


def of_sae_lens(arrays):
    """The same by sae_lens, whose dictionaries have directions in rows."""
    import torch

    evals = imported()
    W_dec, D, x, z, h, h_hat = (torch.from_numpy(np.array(a)) for a in arrays)
    detection = evals.compute_classification_metrics(z, x, W_dec.T, D.T)
    l0, true_l0, shrinkage, explained = (
        evals.L0Calculator(),
        evals.L0Calculator(),
        evals.ShrinkageCalculator(),
        evals.ExplainedVarianceCalculator(),
    )
    dead = evals.DeadLatentsCalculator(W_dec.shape[1])
    for calculator, batch in ((l0, (z,)), (true_l0, (x,)), (shrinkage, (h_hat, h)), (explained, (h_hat, h)), (dead, (z,))):
        calculator.add_batch(*batch)
    return {
        "mcc": evals.mean_correlation_coefficient(W_dec.T, D.T),
        "uniqueness": evals.feature_uniqueness(W_dec.T, D.T),
        "precision": detection.precision,
        "recall": detection.recall,
        "f1": detection.f1_score,
        "l0": l0.compute(),
        "true_l0": true_l0.compute(),
        "shrinkage": shrinkage.compute(),
        "dead latents": dead.compute(),
        "1 - FVU": explained.compute(),
    }


def main():
    """Print both, and the relative difference."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "sae_lens")):
        sys.exit("needs torch, sae_lens, pandas: pip install torch simple-parsing pandas; pip install --no-deps sae-lens")
    print(f"{'':8} {'score':14} {'superpose':>12} {'sae_lens':>12} {'difference':>12}")
    for name, sizes in SIZES.items():
        arrays = made_up(jax.random.key(0), *sizes)
        ours, theirs = of_superpose(jax.random.key(1), arrays), of_sae_lens(arrays)
        for score, value in theirs.items():
            print(f"{name:8} {score:14} {ours[score]:12.7f} {value:12.7f} {ours[score] / value - 1:12.1e}")


if __name__ == "__main__":
    main()
