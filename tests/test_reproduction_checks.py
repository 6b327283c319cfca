"""Checks: what holds within which tolerance, and how tables and JSON say it."""

import json

import numpy as np
import pytest

from superpose.reproduction import Check, cells

pytestmark = pytest.mark.x64


def check(expected, found, **tolerance):
    return Check("a claim", "Figure 1", expected, found, **tolerance)


@pytest.mark.parametrize(
    ("expected", "found", "tolerance", "holds"),
    [
        (2.5, 2.5, {}, True),
        (2.5, 2.51, {}, False),
        (2.0, 2.5, {"atol": 0.5}, True),
        (2.0, 2.51, {"atol": 0.5}, False),
        (-4.0, -5.0, {"rtol": 0.25}, True),
        (-4.0, -5.1, {"rtol": 0.25}, False),
        (-4.0, -5.5, {"rtol": 0.25, "atol": 0.5}, True),
        (-4.0, -5.6, {"rtol": 0.25, "atol": 0.5}, False),
        ((0.9, None), 0.9, {}, True),
        ((0.9, None), np.inf, {}, True),
        ((0.9, None), 0.89, {}, False),
        ((None, 0.1), 0.1, {}, True),
        ((None, 0.1), 0.11, {}, False),
        ((0.2, 0.25), 0.16, {"rtol": 0.2}, True),
        ((0.2, 0.25), 0.3, {"rtol": 0.2}, True),
        ((0.2, 0.25), 0.31, {"rtol": 0.2}, False),
        ((0.2, 0.25), 0.15, {"rtol": 0.2}, False),
        ("pairs", "pairs", {}, True),
        ("pairs", "pair", {}, False),
        (0.0, np.nan, {"atol": np.inf}, False),
        ((None, 1.0), np.nan, {}, False),
        ((1.0, None), np.nan, {}, False),
    ],
)
def test_what_holds(expected, found, tolerance, holds):
    assert check(expected, found, **tolerance).holds is holds


def test_numbers_of_numpy_are_numbers():
    assert check(np.int64(3), np.float32(3)).holds is True
    row = check((np.float64(1), None), np.int64(2)).row()
    assert json.loads(json.dumps(row))["expected"] == [1, None]


@pytest.mark.parametrize(
    ("expected", "found", "more", "shown"),
    [
        (72.0, 71.5, {"atol": 1}, ("72 ± 1", "71.5", "yes")),
        (1.0, 1.25, {"rtol": 0.1, "note": "of 3"}, ("1 ± 10 %", "1.25; of 3", "no")),
        (1.0, 1.25, {"rtol": 0.1, "atol": 0.2}, ("1 ± (10 % + 0.2)", "1.25", "yes")),
        ((0.9, None), 1.0, {}, ("at least 0.9", "1", "yes")),
        ((None, 0.1), 0.25, {}, ("at most 0.1", "0.25", "no")),
        ((0.2, 0.25), 0.21, {"rtol": 0.2}, ("0.2 to 0.25 ± 20 %", "0.21", "yes")),
        ((0.15, 0.15), 0.15, {}, ("0.15", "0.15", "yes")),
        ("pairs", "none", {"note": "p = 0.1"}, ("pairs", "none; p = 0.1", "no")),
        (1.0, np.nan, {}, ("1", "none", "no")),
    ],
)
def test_a_row_says_all_in_words(expected, found, more, shown):
    row = check(expected, found, **more).row()
    assert cells(row) == ("a claim", *shown)
    assert cells(row | {"found": None})[2].startswith("none")  # as JSON has NaN


@pytest.mark.parametrize(
    ("expected", "found", "tolerance"),
    [
        (1.0, "one", {}),
        ("one", 1.0, {}),
        ((1.0, None), "one", {}),
        ((2.0, 1.0), 1.5, {}),
        ((None, None), 1.5, {}),
        (1.0, 1.0, {"atol": -0.1}),
        (1.0, 1.0, {"rtol": np.nan}),
    ],
)
def test_what_cannot_be_compared_is_refused(expected, found, tolerance):
    with pytest.raises(ValueError, match="need"):
        check(expected, found, **tolerance)
