"""The gate itself: it passes the truth, rejects 2 % off, and says when there are too few draws."""

import numpy as np
import pytest
from checks import assert_close, assert_matches_simulation

DRAWS = 100_000
"""Of U[0, 1], whose relative spread is .577: 8 sem = 1.5 % of the mean."""


def uniform(*shape):
    return np.random.default_rng(0).uniform(size=(DRAWS, *shape))


def test_true_theory_passes():
    assert_matches_simulation(uniform(), 0.5)
    assert_matches_simulation(uniform(2, 3) * [1, 2, 3], np.broadcast_to([0.5, 1, 1.5], (2, 3)))
    assert_matches_simulation(-uniform(), -0.5)


@pytest.mark.parametrize("factor", [1.02, 0.98])
def test_theory_two_percent_off_is_rejected(factor):
    with pytest.raises(AssertionError, match="against theory"):
        assert_matches_simulation(uniform(), 0.5 * factor)


def test_one_wrong_entry_is_rejected():
    with pytest.raises(AssertionError, match="against theory"):
        assert_matches_simulation(uniform(3), np.array([0.5, 0.51, 0.5]))


def test_few_draws_are_under_powered_even_where_they_agree():
    with pytest.raises(AssertionError, match="under-powered: 8 sem"):
        assert_matches_simulation(uniform()[:1000], 0.5)


def test_a_theory_of_zero_is_under_powered():
    with pytest.raises(AssertionError, match="under-powered: 8 sem"):
        assert_matches_simulation(uniform() - 0.5, 0.0)


def test_draws_that_cannot_tell_two_percent_are_under_powered():
    # At 8 sem = 2 %, a mean 4 sem above the theory is within 5 sem of 1.02 theory too. Two values, `sd` to
    # either side of the mean: n = (400 sd / mean)^2 passes the first gate just so.
    n, theory = 40_000, 1.0
    sd = 0.0025 * np.sqrt(n) * 0.999
    samples = theory + 4 * 0.0025 + sd * np.resize([1, -1], n)
    with pytest.raises(AssertionError, match=r"do not tell theory .* from 1.02 theory"):
        assert_matches_simulation(samples, theory)


def test_real_and_imaginary_parts_count_apart():
    assert_matches_simulation(uniform() + 2j * uniform(), 0.5 + 1j)
    with pytest.raises(AssertionError, match="against theory"):
        assert_matches_simulation(uniform() + 2j * uniform(), 0.5 + 1.02j)


def test_shapes_must_fit():
    with pytest.raises(AssertionError, match="against theory"):
        assert_matches_simulation(uniform(3), 0.5)


def test_close_is_relative_to_the_largest_entry():
    assert_close([100.0, 1e-11], [100.0, 0.0], rtol=1e-12)
    with pytest.raises(AssertionError):
        assert_close([100.0, 1e-9], [100.0, 0.0], rtol=1e-12)
    with pytest.raises(AssertionError, match="shape"):
        assert_close([1.0], 1.0)
