"""A finding: what a paper claims, what was found here, and whether the claim holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One published claim held against one number.

    Args:
        claim: what the paper says, in a line.
        published: the value the paper states.
        found: the value found here.
        tolerance: in words, how near it has to come.
        holds: whether it does.
    """

    claim: str
    published: str | float
    found: str | float
    tolerance: str
    holds: bool
