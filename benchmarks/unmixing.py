"""Trained sparse autoencoders of superpose beside those of sae_lens, dictionary_learning and scikit-learn: scores and time.

`python -m benchmarks.unmixing RESULTS [PART ...]`, where torch, scikit-learn, sae_lens and dictionary_learning are installed.
Without their dependencies will do: `pip install --no-deps sae-lens "transformer-lens<4" dictionary-learning einops`; packages
for language models, which are not used, are replaced by empty modules. Parts add lines to the file RESULTS; `table` prints them.

128 features of density .03 with magnitudes U[0, 1] in 32 dimensions, their directions random; 128 latents, 3,000 steps of 512
samples. Every repetition has a dictionary, a start and samples of its own, and all libraries see the same dictionary and the very
same batches. Rate and penalty are tuned alike on repetition 0, first the rate at the middle penalty, then the penalty at the best
rate, for the largest MCC; repetitions 1 to 3 are measured. All have the same schedules: the penalty rises over the first 5 % of
the steps, the rate falls to 0 over the last 20 %. All are scored by `superpose.sae.scores.report` on 20,000 held-out samples.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import scores_against_sae_lens
from superpose import sae, synthetic
from superpose.sae import scores

N, M, K, DENSITY = 128, 32, 4, 0.03
"""Features, which are as many as latents; dimensions; active latents, or the target of their number; density."""
STEPS, BATCH, HELD_OUT = 3000, 512, 20_000
WARM_UP, DECAY = STEPS // 20, STEPS // 5
RATES = (1e-3, 3e-3, 1e-2)
SEEDS = (1, 2, 3)
SEGMENT, SEGMENTS, MANY = 200, 3, 8
"""Steps timed at once (of two threads a tenth), how often, and autoencoders in one batch."""
VARIANCE = DENSITY * N * (1 / 3 - DENSITY / 4)
"""Of the activations."""
TIMED = "superpose, 1", f"superpose, {MANY} at once", "sae-lens, 1 thread", "sae-lens, 2 threads"
COLUMNS = {"mcc": 3, "mcc_calibrated": 3, "above": 2, "f1_matched": 3, "fvu": 4, "l0": 2, "dead_fraction": 3}
"""Scores, and their digits in the table."""
ENDS = (32, 64, 128)
"""Of the nested dictionaries of Matryoshka."""

UNUSED = {"accelerate", "beartype", "better_abc", "bitsandbytes", "fancy_einsum", "nnsight", "rich", "sentencepiece"}
"""Packages for language models that the libraries import besides, but training does not use."""


class Kind(NamedTuple):
    """A kind of autoencoder: that of superpose, the penalties tried, and the window of dead latents in samples, for all libraries.

    The penalty of JumpReLU is one on `(L0 / K - 1)^2`, in units of the variance.
    """

    variant: sae.Variant
    penalties: tuple[float, ...] = (0.0,)
    k: float = 0
    window: int = 10_000
    resample: int | None = None


KINDS = {
    "ReLU-L1": Kind(sae.RELU, (0.15, 0.3, 0.6)),
    "Gated": Kind(sae.GATED, (0.3, 0.6, 1.2)),
    "TopK": Kind(sae.TOP_K, k=K, window=20_000),
    "BatchTopK": Kind(sae.BATCH_TOP_K, k=K, window=5_000),
    "JumpReLU": Kind(sae.JUMP_RELU, (0.3, 1.0, 3.0), k=K, resample=300),
    "Matryoshka": Kind(sae.matryoshka(*ENDS[:-1]), k=K, window=5_000),
}

Trainer = tuple[Callable, Callable, Callable]
"""A library's autoencoder: `step(t, batch)`, `encode(h)` as after training, `decode(z)`."""
Found = tuple[Any, Any, Any]
"""`W_dec` (M, latents), latents and reconstructions of the held-out samples."""


def world(seed: int) -> synthetic.World:
    """The dictionary and the law of a repetition."""
    return synthetic.independent(scores.directions(jax.random.normal(jax.random.key(seed), (M, N))), DENSITY)


def activations(key, source, batch):
    """What training sees."""
    return synthetic.draw(key, source, batch=batch).h


@lru_cache(maxsize=1)
def held_out(seed: int) -> synthetic.Draw:
    """Samples to score on."""
    return synthetic.draw(jax.random.fold_in(jax.random.key(seed), 1), world(seed), batch=HELD_OUT)


@lru_cache(maxsize=1)
def batches(seed: int) -> np.ndarray:
    """All that training sees, shape (STEPS, BATCH, M): the batches that `fit` draws with the same key."""
    source, key = world(seed), jax.random.fold_in(jax.random.key(seed), 2)
    drawn = jax.jit(lambda t: jax.lax.map(lambda s: activations(jax.random.fold_in(key, s), source, BATCH), t))
    return np.array(drawn(jnp.arange(STEPS)))


def started(name: str, seed: int, number: int = 0):
    """Parameters that superpose starts from."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 3), number)
    h = activations(jax.random.fold_in(key, 1), world(seed), 2000)
    return sae.begin(key, h, latents=N, variant=KINDS[name].variant)


def fitted(name: str, key, start, source, rate, penalty, steps: int):
    """Parameters after training by superpose."""
    kind = KINDS[name]
    static = {"steps": steps, "batch": BATCH, "draw": activations, "window": kind.window, "resample": kind.resample}
    return sae.fit(key, start, source, variant=kind.variant, penalty=penalty, k=kind.k, rate=rate, **static).params


def of_superpose(name: str, seed: int, runs: list[tuple[float, float]]) -> list[Found]:
    """All runs in one batch."""
    start, source, h = started(name, seed), world(seed), held_out(seed).h
    train = partial(fitted, name, jax.random.fold_in(jax.random.key(seed), 2), start, source)
    every = jax.vmap(lambda rate, penalty: train(rate, penalty, STEPS))(*jnp.asarray(runs).T)
    found = []
    for i in range(len(runs)):
        params = jax.tree.map(lambda y: y[i], every)  # noqa: B023
        z = sae.latents(params, h, variant=KINDS[name].variant)
        found.append((params.W_dec, z, sae.reconstruction(params, z)))
    return found


class Missing(scores_against_sae_lens.Missing):
    """Empty modules, with the name of a file that torch asks for, and the one name that transformer_lens reads."""

    def create_module(self, spec):
        """A module with any name."""
        module = super().create_module(spec)
        module.__file__ = "missing"
        module.__getattr__ = lambda name: type(name, (), {"HUGGINGFACE_HUB_CACHE": ""})
        return module


def trained(make: Callable[..., Trainer], name: str, seed: int, runs: list[tuple[float, float]]) -> list[Found]:
    """One run after another, of torch."""
    import torch

    torch.set_num_threads(1)
    h, found = torch.from_numpy(np.array(held_out(seed).h)), []
    for rate, penalty in runs:
        torch.manual_seed(seed)
        step, encode, decode = make(name, rate, penalty)
        for t, batch in enumerate(torch.from_numpy(batches(seed))):
            step(t, batch)
        with torch.no_grad():
            z = encode(h)
            columns = decode(torch.eye(N)) - decode(torch.zeros(1, N))
            found.append(tuple(y.numpy() for y in (columns.T, z, decode(z))))
    return found


def sae_lens_config(name: str, penalty: float):
    """Autoencoder of sae_lens, all else as it comes."""
    from sae_lens import saes

    sparse = {"l1_coefficient": penalty, "l1_warm_up_steps": WARM_UP}
    target = {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": K, "l0_coefficient": penalty * VARIANCE / (2 * K)}
    target |= {"l0_warm_up_steps": WARM_UP, "pre_act_loss_coefficient": 3e-6}
    nested = {"k": K, "matryoshka_widths": list(ENDS)}
    prefixes = "Standard", "Gated", "TopK", "BatchTopK", "JumpReLU", "MatryoshkaBatchTopK"
    options = sparse, sparse, {"k": K}, {"k": K}, target, nested
    prefix, own = dict(zip(KINDS, zip(prefixes, options, strict=True), strict=True))[name]
    return getattr(saes, f"{prefix}TrainingSAE")(getattr(saes, f"{prefix}TrainingSAEConfig")(d_in=M, d_sae=N, **own))


def sae_lens(name: str, rate: float, penalty: float) -> Trainer:
    """Of sae_lens, stepped as its `fit` does."""
    import torch
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    autoencoder = sae_lens_config(name, penalty)
    window = KINDS[name].window // BATCH
    config = SAETrainerConfig(STEPS * BATCH, BATCH, lr=rate, lr_end=rate, lr_decay_steps=DECAY, dead_feature_window=window)
    trainer = SAETrainer(config, autoencoder, iter(()))

    def step(_, batch):
        trainer.step(batch)
        trainer.n_training_steps += 1

    def encode(h):
        if not hasattr(autoencoder, "topk_threshold"):
            return autoencoder.encode(h)
        every = torch.relu(autoencoder.encode_with_hidden_pre(h)[1])
        return every * (every > autoencoder.topk_threshold)

    return step, encode, autoencoder.decode


def dictionary_learning(name: str, rate: float, penalty: float) -> Trainer:
    """Of dictionary_learning, with the schedules and the window of all; else as it comes."""
    from dictionary_learning.trainers import batch_top_k, gdm, jumprelu, matryoshka_batch_top_k, standard, top_k

    sparse = {"l1_penalty": penalty, "sparsity_warmup_steps": WARM_UP}
    target = {"sparsity_penalty": penalty * VARIANCE, "target_l0": K, "sparsity_warmup_steps": WARM_UP}
    nested = {"k": K, "group_fractions": [b / N - a / N for a, b in zip((0, *ENDS), ENDS, strict=False)]}
    kinds = standard.StandardTrainerAprilUpdate, gdm.GatedSAETrainer, top_k.TopKTrainer, batch_top_k.BatchTopKTrainer
    kinds += jumprelu.JumpReluTrainer, matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer
    options = sparse, sparse, {"k": K}, {"k": K}, target, nested
    kind, own = dict(zip(KINDS, zip(kinds, options, strict=True), strict=True))[name]
    schedule = {"steps": STEPS, "warmup_steps": 0, "decay_start": STEPS - DECAY, "lr": rate}
    trainer = kind(activation_dim=M, dict_size=N, layer=0, lm_name="none", device="cpu", **schedule, **own)
    trainer.dead_feature_threshold = KINDS[name].window
    return trainer.update, trainer.ae.encode, trainer.ae.decode


LIBRARIES: dict[str, Callable[[str, int, list[tuple[float, float]]], list[Found]]] = {
    "superpose": of_superpose,
    "sae-lens": partial(trained, sae_lens),
    "dictionary-learning": partial(trained, dictionary_learning),
}


def of_sklearn(name: str, seed: int) -> Found:
    """FastICA or dictionary learning, untuned; alpha is half the middle penalty of ReLU-L1, as its squares are halved."""
    from sklearn import decomposition

    h, x = np.array(held_out(seed).h), batches(seed).reshape(-1, M)
    if name == "FastICA":
        model = decomposition.FastICA(M, whiten="unit-variance", max_iter=500, random_state=seed).fit(x[:100_000])
        z = model.transform(h)
        return model.mixing_, z, model.inverse_transform(z)
    options = {"batch_size": BATCH, "fit_algorithm": "cd", "transform_algorithm": "lasso_cd", "random_state": seed}
    model = decomposition.MiniBatchDictionaryLearning(N, alpha=0.15, max_iter=1, **options).fit(x[: 400 * BATCH])
    z = model.transform(h)
    return model.components_.T, z, z @ model.components_


def scored(seed: int, found: Found) -> dict[str, Any]:
    """Scores of the table; nan after a collapse."""
    W_dec, z, h_hat = (jnp.asarray(y) for y in found)
    report = scores.report(jax.random.key(0), W_dec, world(seed).D, held_out(seed).x, z, held_out(seed).h, h_hat)
    return {name: float(getattr(report, name)) for name in COLUMNS} | {"collapse": report.collapse}


def add(file: Path, record: dict[str, Any]) -> None:
    """Add a line to the results, and print it."""
    print(line := json.dumps(record), flush=True)
    with file.open("a") as out:
        out.write(line + "\n")


def tried(file: Path, library: str, name: str, runs: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """These runs on repetition 0, scored."""
    records = []
    for (rate, penalty), found in zip(runs, LIBRARIES[library](name, 0, runs) if runs else [], strict=True):
        key = {"part": "tune", "library": library, "variant": name, "rate": rate, "penalty": penalty}
        records.append(key | scored(0, found))
        add(file, records[-1])
    return records


def tuned(file: Path, library: str, name: str) -> tuple[float, float]:
    """The rate at the middle penalty, then the penalty at that rate, by MCC."""
    penalties = KINDS[name].penalties
    middle = penalties[len(penalties) // 2]
    records = tried(file, library, name, [(rate, middle) for rate in RATES])
    rate = max(records, key=lambda r: np.nan_to_num(r["mcc"]))["rate"]
    records += tried(file, library, name, [(rate, p) for p in penalties if p != middle])
    top = max(records, key=lambda r: np.nan_to_num(r["mcc"]))
    return top["rate"], top["penalty"]


def compare(file: Path, kinds: list[str], seeds: list[int], library: str) -> None:
    """Tune and measure kinds of a library."""
    chosen = {name: tuned(file, library, name) for name in kinds}
    for seed in seeds:
        for name, run in chosen.items():
            began = time.perf_counter()
            found = LIBRARIES[library](name, seed, [run])[0]
            key = {"part": "score", "library": library, "variant": name, "seed": seed, "rate": run[0], "penalty": run[1]}
            add(file, key | scored(seed, found) | {"seconds": time.perf_counter() - began})


def baselines(file: Path, _: list[str], seeds: list[int]) -> None:
    """scikit-learn's."""
    for seed in seeds:
        for name in ("FastICA", "MiniBatchDictionaryLearning"):
            batches(seed)
            began = time.perf_counter()
            found = of_sklearn(name, seed)
            key = {"part": "score", "library": "scikit-learn", "variant": name, "seed": seed}
            add(file, key | {"seconds": time.perf_counter() - began} | scored(seed, found))


def timed(name: str) -> dict[str, Callable[[], Any]]:
    """What is timed of a kind: segments of training, which return the number of steps times that of autoencoders."""
    import torch

    key, source = jax.random.fold_in(jax.random.key(0), 2), world(0)
    one, eight = started(name, 0), jax.vmap(lambda i: started(name, 0, i))(jnp.arange(MANY))
    middle = KINDS[name].penalties[len(KINDS[name].penalties) // 2]
    train = lambda start: fitted(name, key, start, source, 3e-3, middle, SEGMENT)  # noqa: E731
    alone, together = jax.jit(train), jax.jit(jax.vmap(train))
    step, D = sae_lens(name, 3e-3, middle)[0], torch.from_numpy(np.array(source.D))

    def ours(run, start, count):
        jax.block_until_ready(run(start))
        return SEGMENT * count

    def theirs(threads, steps):
        torch.set_num_threads(threads)
        for t in range(steps):
            x = torch.rand(BATCH, N) * (torch.rand(BATCH, N) < DENSITY)
            step(t, x @ D.T)
        return steps

    ones = partial(ours, alone, one, 1), partial(ours, together, eight, MANY)
    return dict(zip(TIMED, (*ones, partial(theirs, 1, SEGMENT), partial(theirs, 2, SEGMENT // 10)), strict=True))


def clock(file: Path, kinds: list[str], _: list[int]) -> None:
    """Milliseconds a step and an autoencoder, data included: medians of alternating segments, after one to warm up."""
    for name in kinds:
        what = timed(name)
        took = {label: [] for label in what}
        for again in range(1 + SEGMENTS):
            for label, run in what.items():
                began = time.perf_counter()
                count = run()
                took[label] += [1e3 * (time.perf_counter() - began) / count] * (again > 0)
        medians = {label: statistics.median(y) for label, y in took.items()}
        add(file, {"part": "time", "variant": name, "load": os.getloadavg()[0], "all": took} | medians)


def spread(values: list[float], digits: int) -> str:
    """Mean and standard error, which one value has not."""
    error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{error}"


def score_rows(records: list[dict[str, Any]]) -> list[str]:
    """The table of scores."""
    head = "| variant | library | rate, penalty | n | MCC | calibrated | above .9 | F1 | FVU | L0 | dead |"
    lines = [head, "|---" * 11 + "|"]
    scored_ones = {(r["variant"], r["library"], r["seed"]): r for r in records if r["part"] == "score"}
    for name in (*KINDS, "FastICA", "MiniBatchDictionaryLearning"):
        for library in (*LIBRARIES, "scikit-learn"):
            runs = [r for key, r in scored_ones.items() if key[:2] == (name, library)]
            if runs:
                alive = [r for r in runs if not r["collapse"]] or runs
                chosen = f"{runs[-1]['rate']:g}, {runs[-1]['penalty']:g}" if "rate" in runs[-1] else ""
                cells = [spread([r[c] for r in alive], digits) for c, digits in COLUMNS.items()]
                lines.append("| " + " | ".join([name, library, chosen, f"{len(alive)} of {len(runs)}", *cells]) + " |")
    return lines


def time_rows(records: list[dict[str, Any]]) -> list[str]:
    """The table of times."""
    rows = {r["variant"]: r for r in records if r["part"] == "time"}
    lines = ["| variant | " + " | ".join(TIMED) + " | best sae-lens / 1 | best sae-lens / 8 | load |", "|---" * 8 + "|"]
    for name, r in rows.items():
        ours, many, *theirs = (r[label] for label in TIMED)
        ratios = [f"{min(theirs) / ours:.1f}", f"{min(theirs) / many:.1f}", f"{r['load']:.1f}"]
        lines.append("| " + " | ".join([name, *(f"{y:.2f}" for y in (ours, many, *theirs)), *ratios]) + " |")
    return lines


def table(file: Path, *_: Any) -> None:
    """Print what the file holds."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    packages = "jax", "torch", "sae-lens", "dictionary-learning", "scikit-learn"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(f"Python {sys.version.split()[0]}, {versions}; {os.cpu_count()} cores.\n")
    print("\n".join([*score_rows(records), "", *time_rows(records)]))


def main() -> None:
    """Run the parts asked for, or all."""
    parts: dict[str, Callable[..., None]] = {"time": clock}
    parts |= {library: partial(compare, library=library) for library in LIBRARIES}
    parts |= {"scikit-learn": baselines, "table": table}
    parser = argparse.ArgumentParser(description="Autoencoders side by side.")
    parser.add_argument("results", type=Path, help="file of results, which is added to")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all if none")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="repetitions")
    arguments = parser.parse_args()
    for name in ("torch", "sklearn.decomposition"):  # before packages are replaced, some of which they look for
        importlib.import_module(name)
    scores_against_sae_lens.UNUSED.update(UNUSED, {"typeguard"})
    scores_against_sae_lens.UNUSED.discard("transformer_lens")
    sys.meta_path.append(Missing())
    for part in arguments.parts or parts:
        parts[part](arguments.results, arguments.kinds, arguments.seeds)


if __name__ == "__main__":
    main()
