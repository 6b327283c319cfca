"""What a minimisation returns: the points, how good they are, and why a point is not certified."""

from typing import Any

from flax import struct
from jaxtyping import Array

CERTIFIED, UNFINISHED, INEXACT, SADDLE, DEGENERATE, KINK, NOT_FINITE = range(7)
REASONS = ("certified", "unfinished", "inexact", "saddle", "degenerate", "kink", "not finite")
"""What the numbers in `Solution.reason` mean.

- certified: a local minimum, or so near one that the loss is above it by at most the stated share.
- unfinished: the search ran out of steps.
- inexact: a local minimum of a loss whose own error is above the stated share.
- saddle: the Hessian has a negative eigenvalue that could lower the loss by more than the stated share.
- degenerate: a step along a direction of little curvature lowers the loss by more than the stated share.
- kink: the gradient is not small, but nearby it turns round or the loss steps up: a minimum where the slope or the loss jumps.
- not finite: the loss or its gradient is NaN or infinite.
"""


@struct.dataclass
class Solution:
    """Local minima, or the points where the search gave up; a leading axis of starts.

    `params` as the start. `loss`. `gradient_norm`, Euclidean; NaN where the loss is not finite. `eigenvalues` of the Hessian in
    ascending order, `(d,)`, with a zero for each continuous symmetry of the loss. `gap`: how far above a local minimum the loss
    can be, and how far off its own value is, in units of the loss. `reason`: an index into `REASONS`. `converged`: the reason
    is "certified". `steps`: quasi-Newton steps.
    Of large problems `eigenvalues` holds the lowest and the largest Ritz value, `(2,)`, and `eigenvalue_error` how near to the
    lowest an eigenvalue is for certain.
    """

    params: Any
    loss: Array
    gradient_norm: Array
    eigenvalues: Array
    gap: Array
    reason: Array
    converged: Array
    steps: Array
    eigenvalue_error: Array | None = None
