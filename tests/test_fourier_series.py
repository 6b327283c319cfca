"""The period of the series really holds y; its two expansions; nodes add up and stop mattering; shares change nothing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close
from test_few_active import CASES, KINDS, LAWS, SETS, setting

from superpose import features
from superpose.expected_loss.fourier_series import closed_part, highest, node_numbers, series, series_and_slopes
from superpose.expected_loss.groups import groups_of
from superpose.expected_loss.period import period


@pytest.mark.parametrize(("law", "kind"), CASES)
def test_period_holds_the_mean(law, kind):
    sets, magnitude, g, b = setting(law, kind)
    span = period(sets, magnitude, g, b, nodes=64)
    mean = np.asarray(b) + np.full(5, 0.3 * magnitude.moments[0]) @ np.asarray(g)
    assert np.all(np.asarray(span.length) > np.abs(mean))


@pytest.mark.parametrize("kind", KINDS)
def test_period_is_never_much_longer_than_the_support(kind):
    """Bennett's tail lies outside the support of five features at 512 nodes, or little of it is cut off."""
    sets, magnitude, g, b = setting("uniform", kind)
    length = np.asarray(period(sets, magnitude, g, b, nodes=512).length)
    ends = np.array([np.asarray(b) + x @ np.asarray(g) for x in corners(kind)])
    reach = np.abs(ends).max(0)
    rounded = np.sqrt(3) if kind == "exclusive" else 1.0  # the largest of three as the root of their squares
    assert np.all(length <= 1.04 * rounded * reach)
    assert np.all(length >= 0.8 * reach)


@pytest.mark.x64
@pytest.mark.parametrize("law", LAWS)
def test_period_has_no_corners(law):
    """Where overlaps change sign, are equal, or both sides reach equally far: second differences fall as the step's square."""
    sets, magnitude, _, _ = setting(law, "independent")
    g = np.array([1.0, -1.0, 0.0, 0.0, 1.0])[:, None] * np.ones((1, 5))
    move = np.random.default_rng(1).standard_normal((2, 5, 5))

    def length(t):
        return period(sets, magnitude, jnp.asarray(g + t * move[0]), jnp.asarray(t * move[1][0]), nodes=64).length

    near, far = (np.abs(np.asarray(length(h) - 2 * length(0.0) + length(-h))) for h in (1e-4, 2e-4))
    assert np.all(near <= 0.3 * far + 1e-10)


def corners(kind):
    """Every set of features that can be active at once."""
    for on in itertools.product([0.0, 1.0], repeat=5):
        x = np.array(on)
        members = [x[np.array(SETS) == s] for s in (0, 1)]
        if kind == "exclusive" and max(m.sum() for m in members) > 1:
            continue
        yield x


@pytest.mark.x64
@pytest.mark.parametrize("nodes", [8, 16])
@pytest.mark.parametrize("law", LAWS)
def test_tail_is_no_heavier_than_stated(law, nodes):
    """40 features, 400,000 draws in NumPy: `P(|y| > T)` is at most 2 nodes^-3."""
    n, p, draws = 40, 0.1, 400_000
    rng = np.random.default_rng(3)
    gram, b = 0.3 * rng.standard_normal((n, n)), rng.uniform(-0.3, 0.3, n)
    distribution = LAWS[law](p)
    sets = groups_of(distribution, n=n, dtype=jnp.zeros(()).dtype)
    span = period(sets, features.magnitude(distribution), jnp.asarray(gram), jnp.asarray(b), nodes=nodes)
    u = {
        "uniform": lambda: rng.random((draws, n)),
        "binary": lambda: np.ones((draws, n)),
        "symmetric": lambda: rng.uniform(-1, 1, (draws, n)),
        "exponential": lambda: rng.exponential(size=(draws, n)),
    }[law]()
    y = (u * (rng.random((draws, n)) < p)) @ gram[:, :4] + b[:4]
    outside = (np.abs(y) > np.asarray(span.length)[:4]).sum(0)
    assert np.all(outside <= 2 * draws * nodes**-3.0)


@pytest.mark.x64
def test_outputs_without_a_kink_say_so():
    """Rows of one sign with a bias of that sign; an ignored feature; one that can go either way."""
    g = jnp.array([[1.0, 0.2, 0.0], [-1.0, -0.2, 0.0], [0.0, 0.0, 0.0]]).T
    for law in LAWS:
        distribution = LAWS[law](0.3)
        sets, magnitude = groups_of(distribution, n=3, dtype=g.dtype), features.magnitude(distribution)
        span = period(sets, magnitude, g, jnp.array([0.1, -0.1, 0.2]), nodes=64)
        signed = law == "symmetric"
        assert span.on.tolist() == [not signed, False, True]
        assert span.off.tolist() == [False, not signed, False]
        assert span.kink.tolist() == [float(signed), float(signed), 0.0]
        assert span.side.tolist() == [0.0 if signed else 1.0, 0.0 if signed else -1.0, 1.0]


@pytest.mark.x64
def test_expansions_are_those_of_the_absolute_value():
    """`|y|` and `y |y|` on [-T, T], by 20,000 terms in plain NumPy: what is left falls as K^-1 and K^-2."""
    T, k = 1.7, np.arange(1, 20_001)
    for y in (-1.6, -0.3, 0.0, 0.2, 1.1, 1.69):
        size = y**2 / T + T / 6 - (T / (np.pi * k) ** 2 * np.cos(2 * np.pi * k * y / T)).sum()
        square = 2 * y**3 / (3 * T) + T * y / 3 - (T**2 / (np.pi * k) ** 3 * np.sin(2 * np.pi * k * y / T)).sum()
        np.testing.assert_allclose((size, square), (abs(y), y * abs(y)), atol=2e-5)


@pytest.mark.x64
@pytest.mark.parametrize("law", LAWS)
def test_shares_change_the_error_alone(law):
    """A tenth of the spread, and far more: with many nodes the loss is the same, though both of its parts change."""
    sets, magnitude, g, b = setting(law, "independent")
    span = period(sets, magnitude, g, b, nodes=256)

    def parts(spread):
        how = {"nodes": 256, "spread": spread}
        return closed_part(sets, magnitude, span, g, b, **how), series(sets, magnitude, span, g, b, **how)

    closed, rest = parts(12.0)
    for spread in (1.2, 1e6):
        other, other_rest = parts(spread)
        if spread > 100:
            assert not np.allclose(other, closed, rtol=1e-6)
        # binary features have atoms, whose terms fall off as K^-2 only
        np.testing.assert_allclose(other + other_rest, closed + rest, rtol=1e-2 if law == "binary" else 1e-4)


@pytest.mark.x64
@pytest.mark.parametrize("law", ["uniform", "exponential", "symmetric"])
def test_slopes_are_those_of_the_series(law):
    """The hand-written passes, shares and period included, against jax's derivative of the plain sum."""
    sets, magnitude, g, b = setting(law, "independent")
    span = period(sets, magnitude, g, b, nodes=16)

    @jax.jit
    def both(g, b):
        def plain(g, b, length):
            return series(sets, magnitude, span._replace(length=length), g, b, nodes=16)

        slopes, value = jax.jacfwd(lambda *x: 2 * (plain(*x),), argnums=(0, 1, 2), has_aux=True)(g, b, span.length)
        return series_and_slopes(sets, magnitude, span, g, b, nodes=16), value, slopes

    (value, by_g, by_b, by_length, _), expected, (g_slopes, b_slopes, length_slopes) = both(g, b)
    assert_close(value, expected)
    assert_close(by_g, np.einsum("iji->ji", np.asarray(g_slopes)), rtol=1e-11)
    assert_close(by_b, np.diagonal(np.asarray(b_slopes)), rtol=1e-11)
    assert_close(by_length, np.diagonal(np.asarray(length_slopes)), rtol=1e-10)


def test_nodes_reach_the_stated_frequency():
    sets, magnitude, g, b = setting("uniform", "independent")
    span = period(sets, magnitude, g, b, nodes=16)
    assert_close(highest(span, 16), node_numbers(16, b)[-1] * 2 * np.pi / np.asarray(span.length), rtol=4 * EPS)
