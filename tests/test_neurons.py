"""Neurons whose work is known: what serves what, how many, the table and the figure."""

from inspect import unwrap

import numpy as np
import pytest

from superpose import hidden_layer, neurons
from superpose.plot import neurons_and_features

pytestmark = pytest.mark.x64

# Neuron 0 serves feature 2; neuron 1 features 0 and 1 (and 3 a little); neuron 2 is dead; neuron 3 serves feature 1.
WEIGHTS = np.array([[0.0, 0.1, 1.0, 0.0], [0.8, -0.5, 0.0, 0.1], [0.01, 0.0, 0.02, 0.0], [0.0, 0.9, 0.0, -0.2]])
SERVES = np.array([[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]], bool)


def test_serves_is_relative_to_the_neuron_and_spares_the_dead():
    assert np.array_equal(neurons.serves(WEIGHTS), SERVES)
    assert np.array_equal(neurons.serves(1e-6 * WEIGHTS), SERVES)
    assert neurons.serves(WEIGHTS, threshold=0.1)[1].tolist() == [True, True, False, True]
    assert neurons.serves(WEIGHTS, dead=0.0)[2].tolist() == [True, False, True, False]
    assert not neurons.serves(np.zeros((2, 3))).any()


def test_features_ask_the_same_of_the_transposed_weights():
    used = neurons.serves(WEIGHTS.T).T
    assert np.array_equal(used[:, :3], SERVES[:, :3])
    assert used[:, 3].tolist() == [False, True, False, True]  # feature 3 has nothing better than -0.2


def test_counts():
    found = neurons.counts(SERVES)
    assert found["features"].tolist() == [1, 2, 0, 1]
    assert found["neurons"].tolist() == [1, 2, 1, 0]
    np.testing.assert_allclose([found[k] for k in ("monosemantic", "polysemantic", "dead")], [2 / 3, 1 / 3, 1 / 4])
    assert np.isnan(neurons.counts(np.zeros((2, 3), bool))["monosemantic"])


def test_absolute_value_takes_two_monosemantic_neurons_a_feature():
    W_in = np.asarray(hidden_layer.absolute_value(3).W_in)
    found = neurons.counts(neurons.serves(W_in))
    assert found["monosemantic"] == 1
    assert found["neurons"].tolist() == [2, 2, 2]


def test_table():
    assert neurons.table(WEIGHTS) == (
        "  neuron  what          features (weight)\n"
        "       0  monosemantic  2 (1.00)\n"
        "       1  polysemantic  0 (0.80), 1 (−0.50)\n"
        "       2  dead\n"
        "       3  monosemantic  1 (0.90)\n"
        "dead: 1 of 4 neurons; monosemantic: 2 of 4 neurons; polysemantic: 1 of 4 neurons\n"
    )
    lines = neurons.table(WEIGHTS.T, row="feature", column="neuron").splitlines()
    assert lines[2] == "       1  2 neurons     3 (0.90), 1 (−0.50)"
    assert lines[-1] == "1 neuron: 2 of 4 features; 2 neurons: 2 of 4 features"


# --- the figure


def heights(figure):
    """Segments by bar: `{bar: {segment: weight}}`, and what else there is by bar."""
    segments, rest = {}, {}
    for trace in figure.data:
        for k, (x, y) in enumerate(zip(trace.x, trace.y, strict=True)):
            if trace.customdata is None:
                rest[int(x)] = rest.get(int(x), 0) + abs(y)
            else:
                segments.setdefault(int(x), {})[int(trace.customdata[k])] = float(y)
    return segments, rest


def test_bars_stack_the_weights_and_number_them():
    figure = neurons_and_features(WEIGHTS, SERVES)
    segments, rest = heights(figure)
    assert segments == {0: {2: 1.0}, 1: {0: 0.8, 1: -0.5}, 3: {1: 0.9}}
    np.testing.assert_allclose([rest[k] for k in range(4)], np.where(SERVES, 0, np.abs(WEIGHTS)).sum(1))
    assert {t for trace in figure.data if trace.text is not None for t in trace.text} == {"0", "1", "2"}
    assert list(figure.layout.xaxis.ticktext) == ["0<br>(1)", "1<br>(2)", "2<br>(0)", "3<br>(1)"]


def test_kinds_differ_without_colour():
    patterns = {t.name: t.marker.pattern.shape for t in neurons_and_features(WEIGHTS, SERVES).data if t.text is not None}
    assert patterns == {"monosemantic": "", "polysemantic": "/"}
    shown = [t.name for t in neurons_and_features(WEIGHTS, SERVES).data if t.showlegend]
    assert sorted(shown) == ["all others together", "monosemantic", "polysemantic"]


def test_bars_of_features():
    figure = neurons_and_features(WEIGHTS.T, neurons.serves(WEIGHTS.T), bar="feature", segment="neuron")
    assert {"one neuron", "several neurons"} <= {t.name for t in figure.data}
    assert figure.layout.xaxis.title.text == "feature (number of its neurons)"
    assert heights(figure)[0][1] == {1: -0.5, 3: 0.9}


def test_the_largest_stands_next_to_zero():
    weights = np.array([[0.5, 0.9, 0.7]])
    figure = neurons_and_features(weights, weights > 0)
    assert [int(t.customdata[0]) for t in figure.data if t.text is not None] == [1, 2, 0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: neurons.serves(WEIGHTS, threshold=1.0), r"threshold = 1.0: needs to lie in \(0, 1\)"),
        (lambda: neurons.serves(WEIGHTS, dead=-0.1), r"dead = -0.1: needs to lie in \[0, 1\)"),
        (lambda: neurons.serves(np.array([[1.0, np.nan]])), "weights has nan or inf in column 1: needs finite numbers"),
        (
            lambda: unwrap(neurons.serves)(np.zeros((2, 3, 4))),
            r"weights has shape \(2, 3, 4\): needs \(m, n\) .*, one matrix",
        ),
        (lambda: unwrap(neurons.serves)(np.full((2, 2), "a")), "weights has entries of type <U1: needs real numbers"),
        (lambda: unwrap(neurons.counts)(np.zeros(3, bool)), r"served has shape \(3,\): needs \(m, n\)"),
    ],
)
def test_mistakes_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
