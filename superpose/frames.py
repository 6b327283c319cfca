"""Direction sets with known answers: polygons, simplices, antipodal pairs; and bounds on how directions pack.

Every construction returns `W` of shape `(m, n)` with unit columns, `W[:, i]` the direction of feature i,
built in float64 and rounded to jax's default float type. A tight frame has `W W^T = (n/m) I`: then every
feature dimensionality is `m/n`. The octahedron is `antipodal_pairs(3)`, the digon `antipodal_pairs(1)`.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "The Geometry of Superposition"; Benedetto and
Fickus 2003, "Finite normalized tight frames"; Strohmer and Heath 2003, "Grassmannian frames with applications
to coding and communication"; Welch 1974, "Lower bounds on the maximum cross correlation of signals".
"""

import math

import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jaxtyping import Array, Float
from scipy.special import betainccinv


def polygon(k: int) -> Float[Array, "2 {k}"]:
    """Regular k-gon, shape `(2, k)`: `W_i = (cos 2 pi i/k, sin 2 pi i/k)`, i = 0 .. k-1; tight, `D_i = 2/k`.

    Raises:
        ValueError: unless k >= 3.
    """
    _require(k >= 3, "k", k, "k >= 3")
    angle = 2 * np.pi * np.arange(k) / k
    return jnp.asarray(np.stack([np.cos(angle), np.sin(angle)]), float)


def simplex(k: int) -> Float[Array, "{k-1} {k}"]:
    """Regular simplex, shape `(k-1, k)`: `W_i . W_j = -1/(k-1)` for i != j; tight, `D_i = (k-1)/k`.

    Row r = 1 .. k-1 is `sqrt(k/(k-1)) (1, .., 1, -r, 0, .., 0) / sqrt(r(r+1))`, with r ones.

    Raises:
        ValueError: unless k >= 2.
    """
    _require(k >= 2, "k", k, "k >= 2")
    r = np.arange(1, k)[:, None]
    rows = (np.tri(k - 1, k) - r * np.eye(k - 1, k, 1)) / np.sqrt(r * (r + 1))
    return jnp.asarray(math.sqrt(k / (k - 1)) * rows, float)


def antipodal_pairs(m: int) -> Float[Array, "{m} {2*m}"]:
    """Cross-polytope, shape `(m, 2m)`: columns `e_1, -e_1, e_2, -e_2, ..`; tight, `D_i = 1/2`.

    Raises:
        ValueError: unless m >= 1.
    """
    _require(m >= 1, "m", m, "m >= 1")
    return jnp.asarray(np.kron(np.eye(m), [[1, -1]]), float)


def square_antiprism(height: float = math.sqrt(1 / 2)) -> Float[Array, "3 8"]:
    """Square antiprism, shape `(3, 8)`: a square at `z = h`, then one turned by 45 degrees at `z = -h`.

    With `a_i = pi i/2` for i = 0 .. 3 and `a_i = pi (i + 1/2)/2` for i = 4 .. 7, the columns are `(cos a_i,
    sin a_i, +-h) / sqrt(1 + h^2)`. So the height h is *half* the distance between the squares, in units of
    their circumradius, and `D_i = (1 + h^2)^2 / (4 + 8 h^4)`: 3/8 at `h = 1/sqrt 2`, where alone it is tight.

    Raises:
        ValueError: unless height is finite and >= 0.
    """
    _require(0 <= height < math.inf, "height", height, "a finite height >= 0")
    angle = np.pi / 2 * (np.arange(8) + np.repeat([0, 1 / 2], 4))
    points = np.stack([np.cos(angle), np.sin(angle), height * np.repeat([1, -1], 4)])
    return jnp.asarray(points / math.hypot(1, height), float)


def icosahedron_diagonals() -> Float[Array, "3 6"]:
    """The icosahedron's six diagonals, shape `(3, 6)`: `|W_i . W_j| = 1/sqrt 5`, Welch's bound; `D_i = 1/2`.

    Columns `(0, 1, +-phi) / sqrt(1 + phi^2)` and their cyclic shifts, with `phi = (1 + sqrt 5)/2`.
    """
    phi = (1 + math.sqrt(5)) / 2
    pair = np.array([[0, 0], [1, 1], [phi, -phi]]) / math.hypot(1, phi)
    return jnp.asarray(np.concatenate([np.roll(pair, shift, axis=0) for shift in range(3)], axis=1), float)


def direct_sum(*frames: Float[Array, "_ _"]) -> Float[Array, "m n"]:
    """Orthogonal sum: block-diagonal, shape `(sum m_k, sum n_k)`; each feature keeps the `D_i` of its frame.

    Raises:
        ValueError: unless there is at least one frame.
    """
    _require(len(frames) > 0, "frames", frames, "at least one frame")
    return jax.scipy.linalg.block_diag(*frames)


def welch_bound(*, n: int, m: int) -> float:
    """Least coherence of n directions in m dimensions: `mu >= sqrt((n - m) / (m (n - 1)))`, in [0, 1].

    Equality iff W is an equiangular tight frame, which needs `n <= m(m+1)/2`.

    Raises:
        ValueError: unless 1 <= m <= n and n >= 2.

    Reference: Welch 1974; Strohmer and Heath 2003, theorem 2.3.
    """
    _require(n >= 2, "n", n, "n >= 2")
    _require(1 <= m <= n, "m", m, f"1 <= m <= n = {n}")
    return math.sqrt((n - m) / (m * (n - 1)))


def random_coherence(*, n: int, m: int) -> float:
    """Median of the largest `|cos|` among n random directions in m dimensions, in (0, 1]; what chance alone brings.

    Directions uniform on the sphere have pairwise independent cosines with `P(|t| > e) = I_{1 - e^2}((m - 1)/2, 1/2)`, I the
    regularised incomplete beta function. Taken as independent altogether, which they nearly are where e is in the tail, the
    median of the largest of N = n(n - 1)/2 solves `(1 - P)^N = 1/2`, or `N P = ln 2` for large N. 1 for m = 1.

    Raises:
        ValueError: unless n >= 2 and m >= 1.

    Reference: Cai, Fan and Jiang 2013, "Distributions of angles in random packing on spheres", theorem 2.
    """
    _require(n >= 2, "n", n, "n >= 2")
    _require(m >= 1, "m", m, "m >= 1")
    if m == 1:
        return 1.0
    tail = -math.expm1(-2 * math.log(2) / (n * (n - 1)))
    return math.sqrt(betainccinv(1 / 2, (m - 1) / 2, tail))


def frame_potential(W: Float[Array, "m n"]) -> Float[Array, ""]:
    """`sum_ij (W_i . W_j)^2 = |W W^T|_F^2`, in O(n m^2) time and O(n m) memory; 0 for `W = 0`.

    At least `(sum_i |W_i|^2)^2 / m`, which is `n^2/m` for unit columns; equality iff W is tight.

    Reference: Benedetto and Fickus 2003.
    """
    return jnp.sum(jnp.matmul(W, W.T, precision="highest") ** 2)


def _require(condition: bool, name: str, value: object, requirement: str) -> None:
    if not condition:
        raise ValueError(f"{name} = {value}: needs {requirement}")
