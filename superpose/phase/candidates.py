"""The fixed solutions that published theory compares, with their losses in closed form.

Features are SparseUniform of density p, v = Var x = p/3 - p^2/4, importances (1, .., 1, I): only the last differs. Ignoring a
feature costs its variance (its bias then is the mean, p/2); unit columns and zero biases else.

Reference: Elhage et al. 2022, "Toy Models of Superposition", section 3, "Phase change": n=2, m=1 and n=3, m=2, which compares
W orthogonal to 001, 100, 011 and 110. The triangle, orthogonal to 111, is left out there.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose.labels import IGNORED, STORED, SUPERPOSED
from superpose.toy_model import Params

Scalar = Float[Array, ""] | float


class Candidate(NamedTuple):
    """A fixed solution: columns of W, which features are ignored, the last feature's label, and its loss(p, I)."""

    name: str
    columns: tuple[tuple[float, ...], ...]
    ignored: tuple[int, ...]
    label: int
    published: bool
    loss: Callable[[Scalar, Scalar], Scalar]

    def params(self, p: Scalar) -> Params:
        """W of shape (m, n) with the candidate's columns; biases p/2 for ignored features, 0 else."""
        b = jnp.zeros(len(self.columns)).at[jnp.array(self.ignored, int)].set(p / 2)
        return Params(W=jnp.array(self.columns).T, b=b)


def _variance(p: Scalar) -> Scalar:
    return p / 3 - p**2 / 4


_HALF, _HEIGHT = 0.5, 3**0.5 / 2

_PAIR = (
    Candidate("ignore the last", ((1.0,), (0.0,)), (1,), IGNORED, True, lambda p, i: i * _variance(p)),
    Candidate("ignore the first", ((0.0,), (1.0,)), (0,), STORED, True, lambda p, i: _variance(p)),  # noqa: ARG005
    Candidate("antipodal", ((1.0,), (-1.0,)), (), SUPERPOSED, True, lambda p, i: (1 + i) * p**2 / 6),
)

_TRIPLE = (
    Candidate(
        "001: ignore the last",
        ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)),
        (2,),
        IGNORED,
        True,
        lambda p, i: i * _variance(p),
    ),
    Candidate(
        "100: ignore another",
        ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)),
        (0,),
        STORED,
        True,
        lambda p, i: _variance(p),  # noqa: ARG005
    ),
    Candidate(
        "011: last shares with another",
        ((1.0, 0.0), (0.0, 1.0), (0.0, -1.0)),
        (),
        SUPERPOSED,
        True,
        lambda p, i: (1 + i) * p**2 / 6,
    ),
    Candidate(
        "110: the others share",
        ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0)),
        (),
        STORED,
        True,
        lambda p, i: p**2 / 3,  # noqa: ARG005
    ),
    # x'_1 = r(x_1 - (x_2 + x_3)/2): E min(u, v/2)^2 = 1/16 for two active features, E min(u, (v+w)/2)^2 = 1/6 for three
    Candidate(
        "111: triangle",
        ((1.0, 0.0), (-_HALF, _HEIGHT), (-_HALF, -_HEIGHT)),
        (),
        SUPERPOSED,
        False,
        lambda p, i: (2 + i) * p**2 * (3 + p) / 24,
    ),
)


def candidates(*, n: int, m: int) -> tuple[Candidate, ...]:
    """The fixed solutions for n=2, m=1 and n=3, m=2; none for other sizes, which have no published theory."""
    return {(2, 1): _PAIR, (3, 2): _TRIPLE}.get((n, m), ())


def candidate_losses(p: Scalar, importance: Scalar, *, n: int, m: int) -> Float[Array, " candidates"]:
    """The loss of each candidate at density p in (0, 1] and importance I >= 0 of the last feature."""
    return jnp.array([c.loss(jnp.asarray(p, float), jnp.asarray(importance, float)) for c in candidates(n=n, m=m)])
