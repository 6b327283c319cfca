"""What a minimisation returns: the points, how good they are, and why a point is not certified."""

from typing import Any

from flax import struct
from jaxtyping import Array

CERTIFIED, UNFINISHED, SADDLE, NOT_FINITE = 0, 1, 2, 3
REASONS = ("certified", "unfinished", "saddle", "not finite")
"""What the numbers in `Solution.reason` mean."""


@struct.dataclass
class Solution:
    """Local minima, or the points where the search gave up; a leading axis of starts.

    `params` as the start; `loss`; `gradient_norm`, Euclidean; `eigenvalues` of the Hessian in ascending order, `(d,)`, with a
    zero for each continuous symmetry of the loss; `gap`, how far above a local minimum the loss can be, in units of the loss;
    `reason`, an index into `REASONS`; `converged`: the reason is "certified"; `steps`, evaluations of loss and gradient.
    """

    params: Any
    loss: Array
    gradient_norm: Array
    eigenvalues: Array
    gap: Array
    reason: Array
    converged: Array
    steps: Array
