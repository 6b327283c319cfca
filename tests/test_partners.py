"""Strongest partners against brute force over all pairs, in one block and in many; and the rank by blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, RTOL, assert_close

from superpose import frames, interference, many_features
from superpose.many_features import partners, tiles

DTYPE = np.dtype(jnp.zeros(()).dtype)
M, N = 6, 83
memories = pytest.mark.parametrize("memory", [4000, 20_000, many_features.MEMORY])


def awkward(seed=0):
    """Random columns of different lengths; columns 4 and 82 are zero, 41 = 2 x 3 and 80 = -2 x 7, 81 = 40 x 41."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(M, N)) * 10 ** rng.uniform(-2, 0, N)
    W[:, [4, N - 1]] = 0
    W[:, 41], W[:, 80] = 2 * W[:, 3], -2 * W[:, 7]
    W[:, 81] = 40 * W[:, 41]
    return W.astype(DTYPE)


def overlaps(W):
    """`W_i_hat . W_j`, cosines, and lengths, in float64, 0 on the diagonal."""
    W = W.astype(np.float64)
    length = np.linalg.norm(W, axis=0)
    unit = W / np.where(length > 0, length, 1)
    off = 1 - np.eye(W.shape[1])
    return unit.T @ W * off, unit.T @ unit * off, length


@memories
@pytest.mark.parametrize("k", [1, 4, 200])
def test_partners_by_brute_force(memory, k):
    W = awkward()
    found = many_features.strongest_partners(W, k, memory=memory)
    energy, cosine, length = overlaps(W)
    energy = energy**2
    k = min(k, N - 1)
    everyone, here = np.arange(N)[:, None], found.index >= 0
    assert found.index.shape == (N, k)
    assert_close(found.length, length)
    assert not np.any(here[[4, 82]])
    assert not np.any(np.isin(found.index[here], [4, 82]))
    assert np.all(found.index[here] != np.broadcast_to(everyone, here.shape)[here])
    assert all(len(set(row[row >= 0])) == np.sum(row >= 0) for row in found.index)
    assert_close(found.cosine, np.where(here, cosine[everyone, found.index], 0))
    total = energy.sum(1)
    share = np.where(here, energy[everyone, found.index] / np.where(total > 0, total, 1)[:, None], 0)
    assert_close(found.share, share)
    best = -np.sort(-energy, axis=1)[:, :k] / np.where(total > 0, total, 1)[:, None]
    assert_close(found.share, best, max(RTOL, 3e-7))  # the order is that of float32
    alive = length > 0
    # Each on its own; overlaps err by eps of the longest partner's length, which are 200 times apart.
    np.testing.assert_allclose(
        (1 / (1 + found.interference))[alive], interference.feature_dimensionality(jnp.asarray(W))[alive], rtol=1e4 * EPS
    )
    assert_close(found.coherence, np.abs(cosine).max(1))
    twin = np.arange(N)
    twin[[41, 81]] = 3
    np.testing.assert_array_equal(found.twin, twin)


@memories
def test_frames_share_evenly(memory):
    W = np.asarray(frames.simplex(20))
    found = many_features.strongest_partners(W, 19, memory=max(memory, 8000))
    assert_close(found.share, np.full((20, 19), 1 / 19))
    assert_close(found.cosine, np.full((20, 19), -1 / 19))
    assert_close(1 / (1 + found.interference), np.full(20, 19 / 20))
    assert np.all(np.sort(found.index, axis=1) == [[j for j in range(20) if j != i] for i in range(20)])


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_are_all_that_the_type_holds(size):
    """A short pair in a plane of its own beside long columns: it keeps its partner, its share and its D."""
    W = np.zeros((4, 6), DTYPE)
    W[:2, :2] = [[1, 1], [0, 1]]
    W[2:, 2:] = size ** (1 if DTYPE == np.float32 else 5) * np.random.default_rng(1).normal(size=(2, 4))
    found = many_features.strongest_partners(W, 2)
    assert found.index[:2].tolist() == [[1, -1], [0, -1]]
    assert_close(found.share[:2], [[1.0, 0.0], [1.0, 0.0]])
    assert_close(1 / (1 + found.interference[:2]), [1 / 2, 4 / 5])  # 2 / (2 + 1/2)


@pytest.mark.parametrize("rank", [0, 1, 4, 6])
@pytest.mark.parametrize("factor", [1.0, 1e-30, 1e30])
def test_rank_by_blocks(rank, factor):
    rng = np.random.default_rng(2)
    W = (rng.normal(size=(6, rank)) @ rng.normal(size=(rank, 300))).astype(DTYPE) * DTYPE.type(factor)
    assert many_features.capacity_bound(W, memory=8000) == rank == interference.capacity_bound(jnp.asarray(W))


@pytest.mark.x64
def test_rank_keeps_all_digits():
    """A dimension 10^10 times weaker than the others counts: in `W W^T` it would be lost."""
    W = np.random.default_rng(3).normal(size=(5, 300)) * np.array([1, 1, 1, 1, 1e-10])[:, None]
    assert many_features.capacity_bound(W, memory=8000) == 5
    W[4] *= 1e-5
    assert many_features.capacity_bound(W, memory=8000) == 4


@pytest.mark.x64
def test_mistakes_are_named():
    for call in (many_features.strongest_partners, many_features.capacity_bound):
        with pytest.raises(ValueError, match="W has nan or inf in column 2: needs finite numbers"):
            call(np.array([[1.0, 2.0, np.nan]]))
    with pytest.raises(ValueError, match="k = 0: needs at least 1"):
        many_features.strongest_partners(np.ones((2, 3)), 0)
    with pytest.raises(ValueError, match="n = 1, the columns of W: needs n >= 2"):
        many_features.strongest_partners(np.ones((2, 1)))


@pytest.mark.x64
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tile_stays_within_what_the_block_width_allows(dtype):
    m, b, k = 32, 1024, 5
    rows, n = np.zeros((b, m), dtype), 4 * b
    best = (np.zeros((n, k), dtype), np.zeros((n, k), dtype), np.zeros((n, k), np.int32))
    state = partners._State(*best, np.zeros(n), np.zeros(n, dtype), np.zeros(n, np.int32))
    with jax.enable_x64(True):
        step = jax.jit(partners._add_tile.__wrapped__, donate_argnums=0)
        compiled = step.lower(state, tiles.Tile(0, rows, b, rows, n), np.zeros(n, dtype)).compile()
    # `topk` sorts its rows' places in a buffer of its own; a sort of all entries would take two squares more
    assert compiled.memory_analysis().temp_size_in_bytes <= tiles.SQUARES * dtype().itemsize * b * b
    assert " sort(" not in "".join(line for line in compiled.as_text().splitlines() if f"{b},{b}" in line)
