"""What a description says of matrices with known answers, with planted faults, and by theorem."""

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, RTOL, assert_close, theorem
from hypothesis import given

from superpose import frames, many_features
from superpose.interference import capacity_bound, coherence, describe, feature_dimensionality

pytestmark = pytest.mark.x64

DTYPE = np.dtype(jnp.zeros(()).dtype)


def gaussian(seed, m, n):
    return np.random.default_rng(seed).normal(size=(m, n)).astype(DTYPE)


def test_a_pentagon_beside_a_simplex():
    W = np.asarray(frames.direct_sum(1.3 * frames.polygon(5), frames.simplex(4)))
    found = describe(W, k=4)
    assert (found.m, found.n, found.rank) == (5, 9, 5)
    assert_close(found.length, [1.3] * 5 + [1.0] * 4)
    assert_close(found.dimensionality, [2 / 5] * 5 + [3 / 4] * 4)
    assert [len(x) for x in (found.not_finite, found.zero, found.duplicates)] == [0, 0, 0]
    near, far = 2 * np.cos(2 * np.pi / 5) ** 2, 2 * np.cos(4 * np.pi / 5) ** 2  # both neighbours of a kind together
    assert_close(found.share[:5], [[far / (near + far) / 2] * 2 + [near / (near + far) / 2] * 2] * 5)
    assert set(found.partners[0, :2].tolist()) == {2, 3}
    assert_close(found.cosine[0], np.cos([4 * np.pi / 5] * 2 + [2 * np.pi / 5] * 2))
    assert_close(found.share[5:], [[1 / 3] * 3 + [0]] * 4)
    assert np.all(found.partners[5:, 3] == -1)
    assert_close(found.coherence, -np.cos(4 * np.pi / 5))
    assert_close(found.welch_bound, frames.welch_bound(n=9, m=5))
    assert_close(found.random_coherence, frames.random_coherence(n=9, m=5))


def test_planted_faults_in_two_thousand_columns():
    """Blocks of at most 1,024 columns against the whole matrix without the faults."""
    W = gaussian(0, 16, 2000)
    W[:, [4, 1500]], W[3, 17], W[0, 1900] = 0, np.nan, np.inf
    W[:, 1600], W[:, 30] = 2 * W[:, 3], -W[:, 29]
    found = describe(W)
    assert found.not_finite.tolist() == [17, 1900]
    assert found.zero.tolist() == [4, 1500]
    assert (found.duplicates.tolist(), found.originals.tolist()) == ([1600], [3])
    assert np.flatnonzero(np.isnan(found.length)).tolist() == [17, 1900]
    assert np.flatnonzero(np.isnan(found.dimensionality)).tolist() == [17, 1900]
    rest = np.delete(np.arange(2000), [17, 1900])
    whole = jnp.asarray(W[:, rest])
    D = feature_dimensionality(whole)
    # Relative to each: sums of 2,000 squares of overlaps that err by eps.
    np.testing.assert_allclose(found.dimensionality[rest], D, rtol=max(1e-12, 1e3 * EPS))
    assert_close(found.length[rest], np.linalg.norm(whole, axis=0))
    assert_close(found.coherence, 1.0)
    assert found.rank == 16
    assert found.dimensionality[rest].sum() <= 16 * (1 + RTOL)
    assert_close(found.welch_bound, frames.welch_bound(n=1996, m=16))
    assert not np.isin(found.partners, [4, 17, 1500, 1900]).any()
    text = str(found)
    assert "not finite 2 columns: 17, 1900" in text
    assert "zero       2 columns: 4, 1500" in text
    assert "duplicates column 1600, same as column 3" in text
    assert f"sum {found.dimensionality[rest].sum():.4g} of rank 16" in text
    assert max(len(line) for line in text.splitlines()) <= 120
    assert len(text.splitlines()) == 7 + 1 + 5


@theorem
@given(st.integers(0, 2**31), st.integers(0, 3))
def test_dimensionalities_add_up_to_at_most_the_rank(seed, rank):
    (m, n), rng = (3, 9), np.random.default_rng(seed)
    W = (rng.integers(-2, 3, (m, rank)) @ rng.integers(-2, 3, (rank, n))).astype(DTYPE)
    found = describe(W, k=2)
    assert found.rank == capacity_bound(jnp.asarray(W))
    assert found.dimensionality.sum() <= found.rank * (1 + RTOL)
    assert np.all((found.dimensionality >= 0) & (found.dimensionality <= 1))
    assert_close(found.coherence, coherence(jnp.asarray(W)))
    assert np.all(found.share.sum(1) <= 1 + RTOL)
    assert found.zero.tolist() == np.flatnonzero(~W.any(0)).tolist()
    assert np.all(found.originals < found.duplicates)


def test_every_source_and_faults_in_each(tmp_path):
    W = gaussian(1, 5, 40)
    W[2, 7] = np.nan
    np.save(tmp_path / "W.npy", W)
    forms = [
        jnp.asarray(W),
        np.load(tmp_path / "W.npy", mmap_mode="r"),
        many_features.Columns(lambda start, stop: W[:, start:stop], n=40, m=5, dtype=W.dtype),
    ]
    for form in forms:
        assert str(describe(form)) == str(describe(W))
        assert str(describe(form, memory=20_000)).splitlines()[:4] == str(describe(W)).splitlines()[:4]


@pytest.mark.parametrize("W", [np.zeros((2, 3)), np.full((2, 3), np.nan)])
def test_nothing_stored(W):
    found = describe(W)
    assert (found.rank, found.coherence, found.welch_bound, found.random_coherence) == (0, 0, 0, 0)
    assert np.all(found.partners == -1)
    assert "D          none; sum 0 of rank 0" in str(found)


def test_a_huge_column_is_described_in_float64_and_not_finite_in_float32():
    W = np.random.default_rng(2).normal(size=(3, 8))
    W[:, 5] *= 1e200
    assert_close(describe(W).dimensionality, np.arange(8) == 5)
    with np.errstate(over="ignore"):
        assert describe(W.astype(np.float32)).not_finite.tolist() == [5]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"W has shape \(3,\): needs \(m, n\)"):
        describe(np.ones(3))
    with pytest.raises(ValueError, match="n = 1, the columns of W: needs n >= 2"):
        describe(np.ones((3, 1)))
    with pytest.raises(ValueError, match="W has entries of type <U1: needs real numbers"):
        describe(np.full((2, 3), "a"))
    with pytest.warns(UserWarning, match=r"W has shape \(m, n\) = \(9, 4\), more dimensions than features") as seen:
        describe(gaussian(3, 9, 4))
    assert len(seen) == 1
