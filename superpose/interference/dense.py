"""Interference of a matrix in memory: how much features overlap, and how much of a dimension each one gets.

`W` has shape `(m, n)`; its column `W_i = W[:, i]` is the direction of feature i. `W_i_hat = W_i / |W_i|`, and
0 for a zero column. Products are taken at full precision: on GPUs and TPUs jax's default rounds float32
factors to 10 bits or fewer, which would show in every overlap.

`W` is one matrix of finite real numbers; types below float32 are worked on in float32. Columns are scaled by
powers of two, so their lengths may be anything that the type can hold. What is not such a matrix raises a
ValueError; a value that is being traced cannot, and gives what the function states. A concrete `W` with m > n
brings a warning where the answer depends on its orientation.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "The Geometry of Superposition"; Scherlis et al.
2022, "Polysemanticity and Capacity in Neural Networks", arXiv:2210.01892, section 2.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from superpose import weights
from superpose._jax import one_by_one


def gram(W: Float[Array, "m n"]) -> Float[Array, "n n"]:
    """Gram matrix `G = W^T W` of the columns of `W`: shape `(n, n)`, positive semidefinite.

    Raises:
        ValueError: `W` is not one matrix of real numbers. Entries that are not finite show in the products.
    """
    weights.check(W)
    return jnp.matmul(W.T, W, precision="highest")


def interference(W: Float[Array, "m n"]) -> Float[Array, "n n"]:
    """Off-diagonal part of `G = W^T W`: `I_ij = W_i . W_j` for i != j, `I_ii = 0`; shape `(n, n)`.

    Raises:
        ValueError: as `gram`.
    """
    G = gram(W)
    return jnp.where(jnp.eye(G.shape[0], dtype=bool), 0, G)


def coherence(W: Float[Array, "m n"]) -> Float[Array, ""]:
    """Mutual coherence `max_{i != j} |W_i_hat . W_j_hat|`, in [0, 1].

    A zero column is orthogonal to all others, with gradient 0; `W = 0` has coherence 0. Forms an `(n, n)`
    array. `superpose.frames.welch_bound` bounds it from below. Traced: nan if an entry is not finite.

    Raises:
        ValueError: `W` is not one matrix of finite real numbers, or n < 2.
    """
    W = _given(W)
    _check_pair(W)
    return jnp.max(jnp.abs(interference(_directions(W))))


def signed_coherence(W: Float[Array, "m n"]) -> Float[Array, ""]:
    """`max_{i != j} W_i_hat . W_j_hat`, in [-1, 1]: only positive overlap hurts nonnegative features.

    Antipodal pairs have coherence 1 and, alone, a signed coherence of 0, or -1 for a single pair. A zero
    column is orthogonal to all others, with gradient 0; `W = 0` has signed coherence 0. Forms an `(n, n)`
    array. Traced: nan if an entry is not finite.

    Raises:
        ValueError: `W` is not one matrix of finite real numbers, or n < 2.
    """
    W = _given(W)
    _check_pair(W)
    return jnp.max(jnp.where(jnp.eye(W.shape[1], dtype=bool), -1, gram(_directions(W))))


def feature_dimensionality(W: Float[Array, "m n"]) -> Float[Array, " n"]:
    """Fraction of a dimension each feature gets: `D_i = |W_i|^2 / sum_j (W_i_hat . W_j)^2`, shape `(n,)`.

    In [0, 1]: 1 for a feature orthogonal to all others, 0 for a zero column, with gradient 0 there (D jumps
    at `W_i = 0`: near it, the direction of approach decides). It is Scherlis et al.'s capacity
    `(W_i . W_i)^2 / sum_j (W_i . W_j)^2`, the same for `s W` as for `W`. `capacity_bound` bounds the sum.

    The sum over j is `W_i_hat^T W W^T W_i_hat = |R W_i_hat|^2` with `W^T = Q R`: O(n m^2) time and O(n m)
    memory, never an `(n, n)` array. `R`, not the product `W W^T`, whose rounding would swamp a column 1,000
    times shorter than the longest in float32; with `R` the relative error is about `(eps max_j |W_j| /
    |W_i|)^2`, or eps if that is larger. A column counts as zero if it is 1e29 times shorter than the longest
    in float32, 1e243 times in float64; derivatives in its entries are 0 from 1e11 and 1e90 times on. Traced:
    all nan if an entry is not finite.

    Raises:
        ValueError: `W` is not one matrix of finite real numbers.
    """
    W = _given(W)
    W = W / weights.power_of_two(W)
    scale = weights.power_of_two(W, axis=0)
    least = 2.0 ** (0.29 * jnp.finfo(W.dtype).minexp // 1)  # derivatives divide by its cube, which is far from 0
    lifted = jnp.maximum(scale, least)
    W = jnp.where(scale < least, jax.lax.stop_gradient(W), W)
    square = jnp.sum((W / lifted) ** 2, axis=0)
    alive = square != 0
    shared = _projected_energy(W, _directions(W) / lifted)
    return jnp.where(alive, square / jnp.where(alive, shared, 1), 0)


def dimensions_per_feature(W: Float[Array, "m n"]) -> Float[Array, ""]:
    """Hidden dimensions per learned feature, `m / |W|_F^2`, in (0, inf]: learned columns have length near 1.

    Infinite, with gradient 0, where `W = 0` and nothing is learned. Traced: nan if an entry is not finite.

    Raises:
        ValueError: `W` is not one matrix of finite real numbers.

    Reference: Elhage et al. 2022, `D* = m / ||W||_F^2`, with plateaus at 1 (orthogonal) and 1/2 (antipodal
    pairs).
    """
    W = _given(W)
    scale = weights.power_of_two(W)
    total = jnp.sum((W / scale) ** 2)
    alive, scale = total != 0, scale[0, 0]
    return jnp.where(alive, W.shape[0] / jnp.where(alive, total, 1) / scale / scale, jnp.inf)


def capacity_bound(W: Float[Array, "m n"]) -> Int[Array, ""]:
    """`rank W`, the dimensions there are to share: `sum_i D_i <= rank W`.

    Theorem: with `M = W W^T`, Cauchy-Schwarz gives `D_i <= W_i^T M^+ W_i`, and these add up to the rank;
    equality iff each nonzero W_i is an eigenvector of M, that is, iff W is an orthogonal sum of tight frames.
    The rank counts the singular values above `max(m, n) eps` times the largest: 0 for `W = 0`. It has no
    gradient. Traced: -1 if an entry is not finite.

    Raises:
        ValueError: `W` is not one matrix of finite real numbers.

    Reference: Scherlis et al. 2022, section 2; Elhage et al. 2022, who observe it.
    """
    W = _given(W, oriented=False)
    W = W / weights.power_of_two(W)
    values = one_by_one.singular_values(one_by_one.triangle(W.T))  # jax's SVD of W itself would need (n, n)
    rank = jnp.sum(values > max(W.shape) * jnp.finfo(W.dtype).eps * values[0])
    return jnp.where(jnp.isfinite(values[0]), rank, -1)


def _given(W: Float[Array, "m n"], *, oriented: bool = True) -> Float[Array, "m n"]:
    """`W` as it came, checked, in float32 at least; `oriented`: the answer is another for `W.T`."""
    weights.check(W)
    weights.check_finite(W)
    if oriented:
        weights.warn_if_transposed(W)
    W = jnp.asarray(W)
    return W.astype(jnp.promote_types(jnp.result_type(W, float), jnp.float32))


def _directions(W: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """`W_i_hat`, column by column; a zero column stays zero, with gradient 0; nan for one that is not finite."""
    part = W / weights.power_of_two(W, axis=0)
    square = jnp.sum(part**2, axis=0, keepdims=True)
    alive = square != 0
    return jnp.where(alive, part / jnp.sqrt(jnp.where(alive, square, 1)), 0)


@jax.custom_jvp
def _projected_energy(W: Float[Array, "m n"], v: Float[Array, "m k"]) -> Float[Array, " k"]:
    """`v_i^T W W^T v_i = |R v_i|^2` for each column of v; a rule, as QR has no derivative at low rank."""
    R = one_by_one.triangle(W.T)
    return jnp.sum(jnp.matmul(R, v, precision="highest") ** 2, axis=0)


@_projected_energy.defjvp
def _projected_energy_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (W, v), (dW, dv) = primals, tangents
    along_v = jnp.matmul(jnp.matmul(W, W.T, precision="highest"), dv, precision="highest")
    along_W = jnp.matmul(jnp.matmul(W, dW.T, precision="highest"), v, precision="highest")
    return _projected_energy(W, v), 2 * jnp.sum(v * (along_v + along_W), axis=0)


def _check_pair(W: Float[Array, "m n"]) -> None:
    if W.shape[1] < 2:
        raise ValueError(f"n = {W.shape[1]}, the columns of W: needs n >= 2, a pair to compare")
