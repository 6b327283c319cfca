"""A check: what a publication claims, what was found here, and whether the two agree within a stated tolerance."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Number = int | float | np.number
Interval = tuple[Number | None, Number | None]
"""The least and the greatest value that agree, both included; None where there is no such end."""


@dataclass(frozen=True)
class Check:
    """One claim of a publication, held against what was found.

    Args:
        claim: what the publication says, in a line.
        source: the section or figure that says it.
        expected: a number, a text, or an interval `(low, high)`. `(0.9, None)` means at least 0.9.
        found: a number, or a text where `expected` is one. NaN where there is nothing to compare; it never holds.
        rtol: relative tolerance, as a share of the size of `expected`.
        atol: absolute tolerance, in the unit of `expected`.
        note: details for the reader; nothing is decided by them.

    Raises:
        ValueError: a text is held against a number, an interval has no end or its ends are reversed, or a tolerance is negative.
    """

    claim: str
    source: str
    expected: Number | str | Interval
    found: Number | str
    rtol: int | float = 0.0
    atol: int | float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.expected, str) != isinstance(self.found, str):
            raise ValueError(f"found = {self.found!r}: needs a text or a number as expected = {self.expected!r} is")
        if not (self.rtol >= 0 and self.atol >= 0):
            raise ValueError(f"rtol = {self.rtol}, atol = {self.atol}: need to be at least 0")
        if isinstance(self.expected, tuple):
            ends = [x for x in self.expected if x is not None]
            if len(self.expected) != 2 or not ends or ends != sorted(ends):
                raise ValueError(
                    f"expected = {self.expected}: needs (low, high), low <= high, at least one of them a number"
                )

    @property
    def holds(self) -> bool:
        """Whether `found` is `expected`: the same text, or a number within `atol + rtol * |expected|` of it.

        Each end of an interval has this tolerance.
        """
        if isinstance(self.expected, str) or isinstance(self.found, str):
            return self.found == self.expected
        low, high = self.expected if isinstance(self.expected, tuple) else (self.expected, self.expected)
        above = low is None or self.found >= low - self._tolerance(low)
        below = high is None or self.found <= high + self._tolerance(high)
        return bool(above and below)

    def _tolerance(self, end: Any) -> float:
        return self.atol + self.rtol * abs(end)

    @property
    def tolerance(self) -> str:
        """The tolerance in signs, such as "± 0.1", "± 20 %" or, of both, "± (20 % + 0.1)"; empty where there is none."""
        parts = [f"{100 * self.rtol:.4g} %"] * (self.rtol > 0) + [f"{self.atol:.4g}"] * (self.atol > 0)
        return f"± {parts[0]}" if len(parts) == 1 else f"± ({' + '.join(parts)})" if parts else ""

    def row(self) -> dict[str, Any]:
        """All of it in plain values that JSON has: an interval is a list of two, None for an open end."""
        values = {name: value if isinstance(value, str) else _plain(value) for name, value in asdict(self).items()}
        return values | {"tolerance": self.tolerance, "holds": self.holds}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [None if end is None else float(end) for end in value]
    return float(value)


def cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Claim, expected with its tolerance, found with its note, and "yes" or "no", as tables show a `Check.row`."""
    expected = f"{text(row['expected'])} {row['tolerance']}".strip()
    found = "; ".join(filter(None, (text(row["found"]), row["note"])))
    return row["claim"], expected, found, "yes" if row["holds"] else "no"


def text(value: Any) -> str:
    """A value of a row in words: four digits of a number, "at least 0.9" of an interval, "none" of NaN and of what JSON lacks."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        return "none" if value is None or value != value else f"{value:.4g}"
    low, high = value
    if low == high:
        return text(low)
    if low is None or high is None:
        return f"at most {text(high)}" if low is None else f"at least {text(low)}"
    return f"{text(low)} to {text(high)}"
