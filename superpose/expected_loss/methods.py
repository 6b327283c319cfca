"""Which method computes the exact loss of which features: the one place that says so.

From the most special to the most general: the first that applies is taken.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array

from superpose.expected_loss import binary_states, box_quadrature, compressed_series, coupled_series, fourier_series
from superpose.expected_loss.groups import Groups
from superpose.expected_loss.truncation_error import Walk
from superpose.features import Magnitude


class Method(NamedTuple):
    """`losses(groups, law, g, b, nodes=)` gives each output's loss, `losses_and_slopes` its slopes in g and b as well.

    `applies(groups, law)` says from static structure alone whether it can be taken. `walk`: the
    same series term by term, by the direct product; None for a closed form, which has no nodes and no error.
    """

    applies: Callable[[Groups, Magnitude], bool]
    losses: Callable[..., Array]
    losses_and_slopes: Callable[..., tuple[Array, Array, Array]]
    walk: Callable[..., Walk] | None


METHODS = (
    Method(box_quadrature.applies, box_quadrature.losses, box_quadrature.losses_and_slopes, walk=None),
    Method(binary_states.applies, binary_states.losses, binary_states.losses_and_slopes, walk=None),
    Method(compressed_series.applies, compressed_series.losses, compressed_series.losses_and_slopes, fourier_series.walk),
    Method(fourier_series.applies, fourier_series.losses, fourier_series.losses_and_slopes, fourier_series.walk),
    Method(coupled_series.applies, coupled_series.losses, coupled_series.losses_and_slopes, coupled_series.walk),
)


def method_for(groups: Groups, law: Magnitude) -> Method:
    """The first of `METHODS` that applies; the last one always does."""
    return next(method for method in METHODS if method.applies(groups, law))
