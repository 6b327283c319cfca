"""Trained autoencoders: each variant against loops in NumPy, what training does, and no run below the certified minimum."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from checks import EPS, RTOL

from superpose import expected_loss, features, sae
from superpose.sae.fit import Fit, _fit
from superpose.sae.variant import Knobs

VARIANTS = {
    "relu": sae.RELU,
    "unit": sae.UNIT_RELU,
    "annealed": sae.P_ANNEALED,
    "gated": sae.GATED,
    "top_k": sae.TOP_K,
    "batch_top_k": sae.BATCH_TOP_K,
    "matryoshka": sae.matryoshka(2, 4),
    "jump": sae.JUMP_RELU,
    "crosscoder": sae.crosscoder(1, 2),
}
PENALTY, K, L, M, SAMPLES = 0.3, 2.0, 6, 3, 7


def some(variant, seed=0):
    """Parameters in general position and activations."""
    rng = np.random.default_rng(seed)
    h = jnp.asarray(rng.standard_normal((SAMPLES, M)), float)
    params = sae.begin(jax.random.key(seed), h, latents=L, variant=variant)
    return jax.tree.map(lambda x: x + jnp.asarray(0.2 * np.abs(rng.standard_normal(x.shape)), x.dtype), params), h


def unit(W):
    return W / np.sqrt((W**2).sum(0))


def in_numpy(name, params, h, dead, progress):
    """The loss of each variant and its latents, written out, sample by sample."""
    p = {k: np.asarray(v, float) for k, v in vars(params).items()}
    W = p["W_dec"] if name in ("relu", "crosscoder") else unit(p["W_dec"])
    y = np.asarray(h, float) @ p["W_enc"].T + p["b_enc"]
    z = np.maximum(y, 0)
    lengths = np.sqrt((W**2).sum(0))
    more = 0
    if name == "crosscoder":
        lengths = np.abs(W[0]) + np.sqrt((W[1:] ** 2).sum(0))
    if name == "gated":
        more = PENALTY * z.sum(1) + ((h - z @ W.T - p["b_dec"]) ** 2).sum(1)
        z = np.where(y > 0, np.maximum(np.exp(p["log_gain"]) * (y - p["b_enc"]) + p["b_size"], 0), 0)
    elif name == "jump":
        z = np.where(y > p["threshold"], y, 0)
        more = PENALTY * np.var(h, axis=0).sum() * ((z > 0).sum() / len(h) / K - 1) ** 2
    elif name == "top_k":
        z = np.where(np.argsort(np.argsort(-z, axis=1), axis=1) < K, z, 0)
    elif name in ("batch_top_k", "matryoshka"):
        z = np.where(z >= np.sort(z.ravel())[-int(K * len(h))], z, 0)
    elif name == "annealed":
        q = 1 - 0.8 * (progress - 0.2) / 0.8
        powers = np.where(z > 0, (z + 1e-3) ** q, 0).sum(1)
        more = PENALTY * z.sum(1).mean() / powers.mean() * powers
    else:
        more = PENALTY * z @ lengths
    ends = (2, 4, L) if name == "matryoshka" else (L,)
    parts = [((h - z[:, :end] @ W[:, :end].T - p["b_dec"]) ** 2).sum(1) for end in ends]
    loss = np.mean(sum(parts) + more)
    if "top_k" in name or name == "matryoshka":
        residual = h - z @ W.T - p["b_dec"]
        missing = ((residual - (np.maximum(y, 0) * dead) @ W.T) ** 2).sum() / (residual**2).sum()
        loss += np.var(h, axis=0).sum() * missing / 32
    return loss, z


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_and_latents_are_those_written_out(name):
    variant = VARIANTS[name]
    params, h = some(variant)
    dead = np.arange(L) == 1
    knobs = Knobs(jnp.asarray(PENALTY), jnp.asarray(K), jnp.asarray(0.6), jnp.asarray(dead))
    loss, z = variant.loss(params, h.T, h.T, knobs)
    expected, latents = in_numpy(name, params, np.asarray(h), dead, 0.6)
    np.testing.assert_allclose(z.T, latents, rtol=RTOL, atol=RTOL)
    np.testing.assert_allclose(loss, expected, rtol=10 * RTOL)
    assert abs(1.02 * expected / loss - 1) > 0.01
    if name == "top_k":
        params = params.replace(k=jnp.asarray(K))
    if name not in ("batch_top_k", "matryoshka"):  # these have a threshold of their own after training
        np.testing.assert_allclose(sae.latents(params, h, variant=variant), latents, rtol=RTOL, atol=RTOL)
    np.testing.assert_allclose(
        sae.reconstruction(params, z.T),
        latents @ np.asarray(params.W_dec).T + np.asarray(params.b_dec),
        rtol=10 * RTOL,
        atol=RTOL,
    )


def test_what_is_frozen_has_no_slope():
    """The gates' error trains no decoder; the dead latents' error none of those that live; numbers that are not trained."""
    knobs = Knobs(jnp.asarray(0.0), jnp.asarray(K), jnp.asarray(0.6), jnp.arange(L) == 1)
    params, h = some(sae.GATED)
    closed = params.replace(b_size=jnp.full(L, -100.0))
    slopes = jax.grad(lambda p: sae.GATED.loss(p, h.T, h.T, knobs)[0])(closed)
    assert not np.any(slopes.W_dec)
    assert np.any(slopes.W_enc)
    for variant, names in ((sae.TOP_K, ["k"]), (sae.BATCH_TOP_K, ["threshold"]), (sae.JUMP_RELU, ["width"])):
        params, h = some(variant)
        slopes = jax.grad(lambda p, variant=variant, h=h: variant.loss(p, h.T, h.T, knobs)[0])(params)
        assert not any(np.any(getattr(slopes, name)) for name in names)


def test_thresholds_learn_within_the_kernel():
    """`dL/dthreshold = -(threshold dL/dz + dL/d1) / width` over samples within half a width."""
    params, h = some(sae.JUMP_RELU)
    params = params.replace(width=jnp.asarray(0.5))
    knobs = Knobs(jnp.asarray(PENALTY), jnp.asarray(0.0), jnp.asarray(0.6), jnp.zeros(L, bool))
    slopes = jax.grad(lambda p: sae.JUMP_RELU.loss(p, h.T, h.T, knobs)[0])(params)
    W, y = unit(np.asarray(params.W_dec)), np.asarray(h @ params.W_enc.T + params.b_enc[None])
    z = np.where(y > np.asarray(params.threshold), y, 0)
    by_z = 2 * (z @ W.T + np.asarray(params.b_dec) - np.asarray(h)) @ W / SAMPLES
    near = np.abs(y - np.asarray(params.threshold)) < 0.25
    assert 0 < near.sum() < near.size
    expected = -((np.asarray(params.threshold) * by_z + PENALTY / SAMPLES) * near).sum(0) / 0.5
    np.testing.assert_allclose(slopes.threshold, expected, rtol=100 * RTOL, atol=100 * EPS)


D = jnp.eye(4)


def draw(key, source, batch):
    return jax.vmap(lambda k: features.sample(k, features.SparseUniform(0.2), n=4))(jax.random.split(key, batch)) @ source.T


def draw_pairs(key, source, batch):
    h = draw(key, jnp.eye(4), batch)
    return h, h @ source.T


def begun(variant, latents=4, seed=1, **how):
    return sae.begin(jax.random.key(seed), draw(jax.random.key(2), D, 200), latents=latents, variant=variant, **how)


WORK = {"k": 0.8, "rate": 3e-2, "steps": 300, "batch": 64, "draw": draw, "window": 200, "resample": 40}


HOW = {"gated": {"penalty": 0.3}, "top_k": {"k": 2.0}, "jump": {"penalty": 1.0, "steps": 600}}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "crosscoder"])
def test_every_variant_finds_an_orthogonal_dictionary(name):
    """Four features in four dimensions: of six starts the best has each feature within 10 degrees of a column of its own."""
    how = WORK | {"penalty": 0.15} | HOW.get(name, {})
    starts = jax.vmap(lambda seed: begun(VARIANTS[name], seed=seed))(jnp.arange(6))
    every = jax.vmap(lambda start: sae.fit(jax.random.key(3), start, D, variant=VARIANTS[name], **how))(starts)
    found = jax.tree.map(lambda x: x[jnp.argmin(every.losses[:, -50:].mean(1))], every)
    cosines = unit(np.asarray(found.params.W_dec)).T
    assert sorted(cosines.argmax(1)) == [0, 1, 2, 3]
    assert np.all(cosines.max(1) > 0.985)
    assert found.losses[-50:].mean() < 0.5 * found.losses[:5].mean()
    active = (sae.latents(found.params, draw(jax.random.key(4), D, 1000), variant=VARIANTS[name]) > 0).sum(1).mean()
    assert abs(active - 0.8) < (1.2 if name == "top_k" else 0.25)  # as many as there are features; two of them for TopK


def test_a_transcoder_writes_its_target():
    A = jnp.asarray([[0.0, 1, 0, 0], [0, 0, 2, 0], [1, 0, 0, 1]])
    h, target = draw_pairs(jax.random.key(2), A, 200)
    start = sae.begin(jax.random.key(1), h, latents=6, variant=sae.RELU, target=target)
    found = sae.fit(jax.random.key(3), start, A, variant=sae.RELU, penalty=0.02, **{**WORK, "draw": draw_pairs})
    error = ((target - sae.reconstruction(found.params, sae.latents(found.params, h, variant=sae.RELU))) ** 2).sum()
    assert error < 0.05 * ((target - target.mean(0)[None]) ** 2).sum()


def test_models_side_by_side_are_those_alone_and_compile_once():
    """Starts, penalties, k and widths vary under `vmap`; all see the same samples."""
    h = draw(jax.random.key(2), D, 200)

    def one(seed, k, width):
        start = sae.begin(jax.random.key(seed), h, latents=4, variant=sae.TOP_K, width=width)
        return sae.fit(jax.random.key(3), start, D, variant=sae.TOP_K, k=k, steps=20, batch=16, draw=draw)

    points = jnp.arange(3), jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([4, 3, 2])
    together = jax.vmap(one)(*points)
    before = _fit._cache_size()
    for i in range(3):
        alone = one(*(x[i] for x in points))
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-5)  # Adam divides roundings by roundings
        assert np.all(np.asarray(alone.active) <= points[1][i] + EPS)
        assert not np.any(sae.latents(alone.params, h, variant=sae.TOP_K)[:, int(points[2][i]) :])
    assert _fit._cache_size() == before + 1


def test_two_calls_are_one():
    how = {"variant": sae.BATCH_TOP_K, "k": 0.8, "batch": 16, "draw": draw, "window": 20, "resample": 7}
    whole = sae.fit(jax.random.key(3), begun(sae.BATCH_TOP_K), D, steps=20, **how)
    part = sae.fit(jax.random.key(3), begun(sae.BATCH_TOP_K), D, steps=10, of=20, **how)
    rest = sae.fit(jax.random.key(3), part, D, 10, steps=10, of=20, **how)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(rest.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole.losses, np.append(part.losses, rest.losses), rtol=1e-4)


@dataclass(frozen=True)
class Long:
    """Settings of a long run."""

    seed: int = 0


@pytest.mark.x64
def test_long_runs_go_on_where_they_were_stopped(tmp_path):
    """In parts, stopped after the second and taken up again: the bits of a run that was not, and the numbers of one in one part."""
    starts = jax.vmap(lambda seed: begun(sae.TOP_K, seed=seed))(jnp.arange(2))
    knobs = {"k": jnp.asarray([1.0, 2.0])}
    how = {"steps": 12, "settings": Long(), "variant": sae.TOP_K, "batch": 8, "draw": draw, "window": 20}

    def run(name, parts, advance=lambda: None):
        folder = tmp_path / name
        return sae.fit_in_parts(jax.random.key(3), starts, D, knobs, folder=folder, parts=parts, advance=advance, **how)

    def stop():
        if (tmp_path / "stopped" / "part-1").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("stopped", 3, stop)
    assert not (tmp_path / "stopped" / "part-2").exists()
    again, straight, whole = run("stopped", 3), run("straight", 3), run("whole", 1)
    for a, b, c in zip(*(jax.tree.leaves(x) for x in (again, straight, whole)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-9)
    assert whole.losses.shape == again.losses.shape == (2, 12)
    with pytest.raises(ValueError, match=r"parts = 5: needs at least 1, and to divide steps = 12"):
        run("other", 5)


def test_dead_latents_begin_anew():
    """A latent that is off for good comes back at the first due step; without it stays."""
    start = begun(sae.UNIT_RELU)
    start = start.replace(b_enc=start.b_enc.at[1].set(-50.0))
    how = {"variant": sae.UNIT_RELU, "penalty": 0.05, "steps": 30, "batch": 32, "draw": draw, "window": 100}
    never, again = (sae.fit(jax.random.key(3), start, D, resample=r, **how) for r in (None, 10))
    assert never.idle[1] == 30 * 32
    assert again.idle[1] < 100
    np.testing.assert_allclose(never.params.W_enc[1], start.W_enc[1], atol=1e-12)


def exact_losses_of_trained(W, law, penalty):
    """The population loss of what training leaves of four starts."""
    L = n = W.shape[1]

    def sample(key, W, batch):
        return jax.vmap(lambda k: features.sample(k, law, n=n))(jax.random.split(key, batch)) @ W.T

    h, how = sample(jax.random.key(2), W, 500), {"rate": 1e-2, "steps": 1500, "batch": 64, "draw": sample}
    starts = jax.vmap(lambda k: sae.begin(k, h, latents=L, variant=sae.RELU))(jax.random.split(jax.random.key(1), 4))
    found = jax.vmap(lambda start: sae.fit(jax.random.key(3), start, W, variant=sae.RELU, penalty=penalty, **how))(starts)
    return jax.vmap(lambda p: expected_loss.autoencoder(p, W, law, penalty=penalty, nodes=64))(found.params)


@pytest.mark.x64
def test_no_run_ends_below_the_optimum_of_one_latent():
    losses, least = (
        exact_losses_of_trained(jnp.ones((1, 1)), features.SparseUniform(0.1), 0.1),
        oracles.one_latent(0.1, 0.1)[1],
    )
    assert np.all(losses >= least * (1 - 1e-5))  # the error of the series
    assert np.min(losses) <= 1.02 * least


@pytest.mark.x64
@pytest.mark.slow
def test_no_run_ends_below_the_certified_minimum():
    """An antipodal pair and a feature beside it."""
    W, law = jnp.asarray([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]), features.SparseUniform(0.1)
    losses = exact_losses_of_trained(W, law, 0.1)
    minima = sae.solve(jax.random.key(0), W, law, latents=3, penalty=0.1, restarts=0, tolerance=1e-5)
    assert minima.converged[minima.best]
    assert np.all(losses >= minima.loss[minima.best] * (1 - 1e-4))  # the errors of both
    assert np.min(losses) <= 1.02 * minima.loss[minima.best]


REFUSED = {
    "latents = 0": lambda: begun(sae.RELU, latents=0),
    "needs \\(samples, m\\)": lambda: sae.begin(jax.random.key(0), jnp.ones((1, 2)), latents=2, variant=sae.RELU),
    "2 numbers that are not finite": lambda: sae.begin(
        jax.random.key(0), jnp.asarray([[1.0, np.nan], [np.inf, 1.0]]), latents=2, variant=sae.RELU
    ),
    "h does not vary": lambda: sae.begin(jax.random.key(0), jnp.ones((5, 2)), latents=2, variant=sae.RELU),
    "penalty = -1": lambda: sae.fit(jax.random.key(0), begun(sae.RELU), D, variant=sae.RELU, penalty=-1.0, steps=1),
    "k = 5.0: needs .* at most 4": lambda: sae.fit(
        jax.random.key(0), begun(sae.TOP_K), D, variant=sae.TOP_K, k=5.0, steps=1
    ),
    "steps = 0": lambda: sae.fit(jax.random.key(0), begun(sae.RELU), D, variant=sae.RELU, steps=0),
    "resample = 0": lambda: sae.fit(jax.random.key(0), begun(sae.RELU), D, variant=sae.RELU, steps=1, resample=0),
    "h has shape \\(4, 3\\)": lambda: sae.fit(jax.random.key(0), begun(sae.RELU), D[:, :3], variant=sae.RELU, steps=1),
    "ends = \\(3, 2\\)": lambda: sae.matryoshka(3, 2),
    "layers = \\(1, 2\\)": lambda: sae.fit(
        jax.random.key(0), begun(sae.crosscoder(1, 2)), D, variant=sae.crosscoder(1, 2), steps=1
    ),
    "done = None": lambda: sae.fit(
        jax.random.key(0), Fit(begun(sae.RELU), None, *[jnp.zeros(1)] * 3), D, variant=sae.RELU, steps=1
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
