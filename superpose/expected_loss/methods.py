"""Which method computes the exact loss of which features: the one place that says so.

From the most special to the most general: the first that applies is taken.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array

from superpose.expected_loss import binary_states, box_quadrature, compressed_series, fourier_series
from superpose.expected_loss.sets import Sets
from superpose.features import Magnitude


class Method(NamedTuple):
    """`losses(sets, law, g, b, nodes=)` gives each output's loss, `losses_and_slopes` its slopes in g and b as well.

    `applies(sets, law)` says from static structure alone whether it can be taken. `closed`: it has no nodes and no error.
    """

    applies: Callable[[Sets, Magnitude], bool]
    losses: Callable[..., Array]
    losses_and_slopes: Callable[..., tuple[Array, Array, Array]]
    closed: bool


METHODS = (
    Method(box_quadrature.applies, box_quadrature.losses, box_quadrature.losses_and_slopes, closed=True),
    Method(binary_states.applies, binary_states.losses, binary_states.losses_and_slopes, closed=True),
    Method(compressed_series.applies, compressed_series.losses, compressed_series.losses_and_slopes, closed=False),
    Method(fourier_series.applies, fourier_series.losses, fourier_series.losses_and_slopes, closed=False),
)


def method_for(sets: Sets, law: Magnitude) -> Method:
    """The first of `METHODS` that applies; the last one always does."""
    return next(method for method in METHODS if method.applies(sets, law))
