"""The interval of the series really holds y; its parabolas; nodes add up and stop mattering."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close
from test_few_active import CASES, KINDS, LAWS, SETS, setting

from superpose import cosine_series, features
from superpose.sets import sets_of


def span_of(sets, law, gram, b, nodes=64):
    return cosine_series.interval(sets, law, gram, b, nodes=nodes)


@pytest.mark.parametrize(("law", "kind"), CASES)
def test_interval_holds_zero_and_the_mean_and_costs_no_derivative(law, kind):
    sets, magnitude, gram, b = setting(law, kind)
    span = span_of(sets, magnitude, gram, b)
    assert np.all((np.asarray(span.a) <= 0) & (np.asarray(span.c) > 0))
    mean = np.asarray(b) + np.asarray(gram) @ np.full(5, 0.3 * magnitude.moments[0])
    settled = np.asarray(span.on | span.off)
    assert np.all(((span.a <= mean) & (mean <= span.c)) | settled)
    slope = jax.grad(lambda g: span_of(sets, magnitude, g, b).c.sum() + span_of(sets, magnitude, g, b).a.sum())(gram)
    assert np.all(np.asarray(slope) == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_interval_is_the_support_where_few_features_are_active_often(kind):
    """Five features with p = 0.3: Bennett's tail lies outside the support, so nothing is cut off."""
    sets, magnitude, gram, b = setting("uniform", kind)
    span = span_of(sets, magnitude, gram, b, nodes=512)
    G, offset = np.asarray(gram, float), np.asarray(b, float)
    ends = np.array([offset + G @ x for x in corners(kind)])
    settled = np.asarray(span.on | span.off)
    tight = 1e-5 + 1e3 * EPS
    inside = (np.asarray(span.a) <= ends.min(0) + tight) & (np.asarray(span.c) >= ends.max(0) - tight)
    assert np.all(inside | settled | (np.asarray(span.tail) > 0))
    assert np.all((np.asarray(span.tail) == 0) | ~inside)


def corners(kind):
    """Every set of features that can be active at once."""
    for on in itertools.product([0.0, 1.0], repeat=5):
        x = np.array(on)
        members = [x[np.array(SETS) == s] for s in (0, 1)]
        if kind == "exclusive" and max(m.sum() for m in members) > 1:
            continue
        yield x


@pytest.mark.parametrize("nodes", [8, 16])
@pytest.mark.parametrize("law", LAWS)
def test_tail_is_no_heavier_than_stated(law, nodes):
    """40 features, 400,000 draws in NumPy: `P(y < a)` and `P(y > c)` are each at most nodes^-4.

    Where no draw at all is allowed (16 nodes: 1.5e-5, 6 draws), Poisson's 5 sigma; the bounds leave factors to spare.
    """
    n, p, draws = 40, 0.1, 400_000
    rng = np.random.default_rng(3)
    gram, b = 0.3 * rng.standard_normal((n, n)), rng.uniform(-0.3, 0.3, n)
    distribution = LAWS[law](p)
    sets = sets_of(distribution, n=n, dtype=jnp.zeros(()).dtype)
    span = span_of(sets, features.magnitude(distribution), jnp.asarray(gram), jnp.asarray(b), nodes=nodes)
    u = {
        "uniform": lambda: rng.random((draws, n)),
        "binary": lambda: np.ones((draws, n)),
        "symmetric": lambda: rng.uniform(-1, 1, (draws, n)),
        "exponential": lambda: rng.exponential(size=(draws, n)),
    }[law]()
    y = (u * (rng.random((draws, n)) < p)) @ gram[:4].T + b[:4]
    allowed = draws * nodes**-4.0
    assert np.all((y < np.asarray(span.a)[:4]).sum(0) <= allowed)
    assert np.all((y > np.asarray(span.c)[:4]).sum(0) <= allowed)
    assert np.all(np.asarray(span.tail) <= 2 * nodes**-4.0)


def test_outputs_without_a_kink_say_so():
    """Rows of one sign with a bias of that sign; an ignored feature; one that can go either way."""
    gram = jnp.array([[1.0, 0.2, 0.0], [-1.0, -0.2, 0.0], [0.0, 0.0, 0.0]])
    for law in LAWS:
        distribution = LAWS[law](0.3)
        sets, magnitude = sets_of(distribution, n=3, dtype=gram.dtype), features.magnitude(distribution)
        span = span_of(sets, magnitude, gram, jnp.array([0.1, -0.1, 0.2]))
        signed = law == "symmetric"
        assert span.on.tolist() == [not signed, False, True]
        assert span.off.tolist() == [False, not signed, False]
        assert span.kink.tolist() == [float(signed), float(signed), 0.0]
        opposite = span_of(sets, magnitude, gram, jnp.array([-0.1, 0.1, 0.0]))
        assert opposite.kink.tolist() == [1.0, 1.0, 0.0]


def test_parabola_takes_the_slope_at_both_ends():
    """`r^2 - A (y - a)^2` and `r - B (y - a)^2` are flat at a and c, and their mean over [a, c] is F_0."""
    a, c = jnp.array([-1.0, -0.2, -3.0]), jnp.array([2.0, 0.7, 0.1])
    no = jnp.zeros(3, bool)
    span = cosine_series.Interval(a, c, jnp.zeros(3), no, no)
    square, square_zero, cross, cross_zero = (np.asarray(x, float) for x in cosine_series.parabola(span))
    left, right = np.asarray(a, float), np.asarray(c, float)
    length = right - left
    np.testing.assert_allclose(2 * right - 2 * square * length, 0, atol=16 * EPS)
    np.testing.assert_allclose(1 - 2 * cross * length, 0, atol=16 * EPS)
    np.testing.assert_allclose(square_zero, (right**3 / 3 - square * length**3 / 3) / length, atol=64 * EPS)
    np.testing.assert_allclose(cross_zero, (right**2 / 2 - cross * length**3 / 3) / length, atol=64 * EPS)


@pytest.mark.parametrize(("law", "kind"), [("uniform", "independent"), ("exponential", "together")])
def test_nodes_are_the_same_whichever_pass_adds_them(law, kind):
    sets, magnitude, gram, b = setting(law, kind)
    span = span_of(sets, magnitude, gram, b, nodes=16)

    @jax.jit
    def both(gram, b):
        values = cosine_series.node_values(sets, magnitude, gram, b, span, nodes=16)
        return values, cosine_series.value_and_slopes(sets, magnitude, gram, b, span, nodes=16)

    values, (total, by_gram, by_bias) = both(gram, b)
    assert values.shape == (16, 5)
    assert by_gram.shape == (5, 5)
    assert by_bias.shape == (5,)
    assert_close(total, np.asarray(values).sum(0), rtol=64 * EPS)
