"""How the tests judge: a gate for simulated quantities, and fixed settings for theorems as properties."""

import jax.numpy as jnp
import numpy as np
from hypothesis import settings

from superpose.expected_loss import accuracy, relu

theorem = settings(derandomize=True, deadline=None, max_examples=30, database=None)
"""Put above `@given`: the same examples in every run, no time limit on those that compile."""

EPS = float(jnp.finfo(jnp.zeros(()).dtype).eps)
"""Rounding unit of the float type under test: 2e-16, or 1e-7 in the float32 run."""

RTOL = max(1e-12, 64 * EPS)
"""For identities: 1e-12 in float64, 64 roundings (8e-6) in float32: the sums tested have tens of terms."""


def traced_anew(patch):
    """Let no function be used that was traced before `patch` changed a constant, nor kept that is traced after it."""
    for module, name in ((relu, "_losses"), (accuracy, "_by_product"), (relu, "_value_and_slopes")):
        patch.setattr(module, name, getattr(module, name).__wrapped__)


def assert_matches_simulation(samples, theory):
    """Hold the mean of `samples` over their leading axis against `theory`, elementwise, through two gates.

    Enough draws: `8 sem <= 2% |theory|`. Agreement: `|mean - theory| <= 5 sem`. And agreement must fail for
    `1.02 theory`. Where theory is 0 no relative error exists: test a quantity that is not 0 instead.

    Args:
        samples: shape `(draws, ...)`, real or complex; real and imaginary parts count apart.
        theory: shape `(...)`.

    Raises:
        AssertionError: that says "under-powered" if only more draws are wanted.
    """
    samples, theory = np.asarray(samples), np.asarray(theory)
    assert samples.shape[1:] == theory.shape, f"samples {samples.shape} against theory {theory.shape}"
    if np.iscomplexobj(samples) or np.iscomplexobj(theory):
        assert_matches_simulation(samples.real, theory.real)
        return assert_matches_simulation(samples.imag, theory.imag)
    samples, theory = samples.astype(np.float64), theory.astype(np.float64)
    mean, sem = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))
    powered = 8 * sem <= 0.02 * np.abs(theory)
    assert np.all(powered), f"under-powered: 8 sem = {8 * sem} > 2% of {theory}, {len(samples)} draws"
    off = np.abs(mean - theory)
    assert np.all(off <= 5 * sem), f"mean {mean} +- {sem} against theory {theory}: {off / sem} sem off"
    wrong = np.abs(mean - 1.02 * theory) > 5 * sem
    assert np.all(wrong), f"under-powered: {len(samples)} draws do not tell theory {theory} from 1.02 theory"


def assert_close(actual, expected, rtol=RTOL):
    """`|actual - expected| <= rtol max |expected|`: relative to the largest entry, for cancellation."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.max(np.abs(expected), initial=0))
