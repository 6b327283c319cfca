"""Training in time: snapshots of a run, abrupt changes in them, and the directions by which a plateau is left.

Feature dimensionalities `D_i` and the loss stand still for long and then jump. `trajectory` records a sampled run, `jumps`
finds abrupt changes by a stated criterion, `match` asks how many of them fall together with others and how many would by
chance, and `escape` holds what the parameters did next against the Hessian's spectrum at a plateau.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "Superposition and Learning Dynamics", where jumps of `D_i` are
seen to coincide with drops of the loss.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key
from scipy.sparse.linalg import LinearOperator, eigsh

from superpose import features, interference, train


@struct.dataclass
class Trajectory:
    """A recorded run.

    Args:
        params: as the start, with a leading axis of `snapshots + 1`; the first is the start itself.
        losses: mean batch loss between one snapshot and the next, shape `(snapshots,)`.
    """

    params: Any
    losses: Array


class Jumps(NamedTuple):
    """Abrupt changes of a series: `at`, the snapshots they are centred on, ascending; `size`, signed, over the window."""

    at: Int[np.ndarray, " j"]
    size: Float[np.ndarray, " j"]


class Matching(NamedTuple):
    """`matched` of `total` jumps have a drop nearby; `expected` would by chance; `p_value` of as many or more."""

    matched: int
    total: int
    expected: float
    p_value: float


class Escape(NamedTuple):
    """How a plateau was left.

    `eigenvalues` of the Hessian, ascending, `(d,)`; `along`, the share of the squared movement along each eigenvector, `(d,)`,
    adding up to 1; `negative`, the share along those that curve down; `chance`, their share of all d directions, which a
    movement at random would have.
    """

    eigenvalues: Float[np.ndarray, " d"]
    along: Float[np.ndarray, " d"]
    negative: float
    chance: float


def trajectory(
    key: Key[Array, ""],
    start: Any,
    distribution: features.Distribution,
    importance: Any = 1.0,
    *,
    snapshots: int,
    every: int,
    **settings: Any,
) -> Trajectory:
    """`train.fit` of `snapshots * every` steps, with the parameters kept after each `every`.

    Args:
        key: the model's own, as for `train.fit`.
        start: initial parameters.
        distribution: of the features.
        importance: weight of each feature in the loss.
        snapshots: number of stretches, >= 1.
        every: steps of a stretch, >= 1.
        **settings: `batch`, `optimizer`, `output`, `loss` of `train.fit`.

    Raises:
        ValueError: `snapshots` below 1; or as `train.fit`.
    """
    if snapshots < 1:
        raise ValueError(f"snapshots = {snapshots}: needs at least 1")
    first = train.fit(key, start, distribution, importance, steps=every, **settings)

    def stretch(run: train.Fit, done: Array) -> tuple[train.Fit, tuple[Any, Array]]:
        run = train.fit(key, run, distribution, importance, done, steps=every, **settings)
        return run, (run.params, run.losses.mean())

    _, (later, losses) = jax.lax.scan(stretch, first, every * jnp.arange(1, snapshots))
    params = jax.tree.map(lambda a, b, c: jnp.concatenate([a[None], b[None], c]), start, first.params, later)
    return Trajectory(params, jnp.concatenate([first.losses.mean()[None], losses]))


def dimensionalities(W: Float[Array, "t m n"]) -> Float[Array, "t n"]:
    """`D_i` of each feature at each snapshot, from `trajectory.params.W`; see `interference.feature_dimensionality`."""
    return jax.vmap(interference.feature_dimensionality)(W)


def jumps(series: Float[np.ndarray, " t"], *, least: float, window: int = 3, ratio: float = 5.0) -> Jumps:
    """Abrupt changes of a series.

    With `c_t = s_{t+window} - s_t`, there is a jump centred on `t + window/2` (rounded down) if `|c_t| >= least`, if
    `|c_t| >= ratio` times the median of `|c|` over the 10 windows on either side, so that a steady slope is none, and if no
    `|c|` within a window of it is larger. For drops of a loss take its logarithm and the jumps with `size < 0`.

    Args:
        series: shape `(t,)`.
        least: smallest change, > 0.
        window: snapshots over which a change is abrupt, >= 1.
        ratio: how many times the usual change a jump is, >= 1.

    Raises:
        ValueError: an argument out of range, or a series no longer than the window.
    """
    s = np.asarray(series, np.float64)
    if window < 1 or len(s) <= window:
        raise ValueError(f"window = {window}: needs at least 1 and less than the {len(s)} snapshots")
    if least <= 0 or ratio < 1:
        raise ValueError(f"least = {least}, ratio = {ratio}: needs least > 0 and ratio >= 1")
    change = s[window:] - s[:-window]
    size = np.abs(change)
    usual = _around(size, 10 * window)
    largest = np.array([size[max(0, t - window) : t + window + 1].max() for t in range(len(size))])
    peak = (size >= least) & (size >= ratio * usual) & (size == largest)
    first = peak & ~np.array([peak[max(0, t - window) : t].any() for t in range(len(size))], bool)  # of equal ones
    at = np.flatnonzero(first)
    return Jumps(at + window // 2, change[at])


def match(at: Int[np.ndarray, " j"], drops: Int[np.ndarray, " d"], *, length: int, within: int = 2) -> Matching:
    """How many jumps have a drop within `within` snapshots, and how many would if the drops came at another time.

    The null shifts all drops by the same number of snapshots, round the end, and takes each of the `length` shifts once: it
    keeps their spacing and draws nothing at random. Jumps and drops that are both crowded at the beginning coincide without
    being related, and such a shift parts them: leave the beginning out.

    Args:
        at: snapshots of the jumps, of one series or of many together.
        drops: snapshots of the drops.
        length: snapshots in all.
        within: largest distance, >= 0.

    Raises:
        ValueError: a time outside `0 .. length - 1`, or `within` negative.
    """
    times = np.concatenate([at, drops]).astype(int)
    if within < 0 or np.any((times < 0) | (times >= length)):
        raise ValueError(f"within = {within}, length = {length}: needs within >= 0 and all times in 0 .. length - 1")
    near = np.zeros(length, bool)
    for t in np.asarray(drops, int):
        near[max(0, t - within) : t + within + 1] = True
    matched = int(near[at].sum())
    wrapped = (np.asarray(drops, int)[None, :, None] + np.arange(-within, within + 1)) % length
    circular = np.zeros(length, bool)
    circular[wrapped.ravel()] = True
    shifted = np.array([np.roll(circular, shift)[at].sum() for shift in range(length)])
    return Matching(matched, len(at), float(shifted.mean()), float(np.mean(shifted >= matched)))


def spectrum(
    loss: Callable[[Any], Float[Array, ""]], params: Any, *, lowest: int | None = None
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "d k"]]:
    """Eigenvalues, ascending, and eigenvectors of the Hessian of `loss` at `params`, in the order of `ravel_pytree`.

    All of them from the dense matrix (forward over reverse); or the `lowest` k by Lanczos's method from Hessian-vector
    products alone, for parameters in their thousands. The loss is deterministic, such as `expected_loss.relu_output`, and
    made once: a new function compiles anew, which takes most of the time.
    """
    if lowest is None:
        hessian = np.asarray(_hessian(loss, params), np.float64)
        return np.linalg.eigh((hessian + hessian.T) / 2)
    flat = np.asarray(ravel_pytree(params)[0])
    shape, apply = (flat.size, flat.size), lambda v: np.asarray(_product(loss, params, jnp.asarray(v.ravel(), flat.dtype)))
    operator = LinearOperator(shape, matvec=apply, dtype=flat.dtype)  # pyright: ignore[reportCallIssue]
    begin = np.random.default_rng(0).normal(size=flat.size).astype(flat.dtype)
    values, vectors = eigsh(operator, k=lowest, which="SA", v0=begin)
    order = np.argsort(values)
    return values[order], vectors[:, order]


def escape(loss: Callable[[Any], Float[Array, ""]], params: Any, later: Any, *, flat: float = 1e-6) -> Escape:
    """Hold the movement from `params`, on a plateau, to `later` against the Hessian of `loss` at `params`.

    Args:
        loss: of the parameters; deterministic, twice differentiable and made once, as for `spectrum`.
        params: where the plateau stands.
        later: where the run came to.
        flat: eigenvalues above `-flat` times the largest in size do not count as negative.

    Raises:
        ValueError: `later` equals `params`.
    """
    values, vectors = spectrum(loss, params)
    movement = np.asarray(ravel_pytree(later)[0], np.float64) - np.asarray(ravel_pytree(params)[0], np.float64)
    total = movement @ movement
    if total == 0:
        raise ValueError("later = params: needs a movement")
    along = (vectors.T @ movement) ** 2 / total
    down = values < -flat * np.abs(values).max()
    return Escape(values, along, float(along[down].sum()), float(down.mean()))


@partial(jax.jit, static_argnums=0)
def _hessian(loss: Callable[[Any], Array], params: Any) -> Float[Array, "d d"]:
    flat, unravel = ravel_pytree(params)
    return jax.jacfwd(jax.grad(lambda theta: loss(unravel(theta))))(flat)


@partial(jax.jit, static_argnums=0)
def _product(loss: Callable[[Any], Array], params: Any, v: Float[Array, " d"]) -> Float[Array, " d"]:
    flat, unravel = ravel_pytree(params)
    return jax.jvp(jax.grad(lambda theta: loss(unravel(theta))), (flat,), (v,))[1]


def _around(size: Float[np.ndarray, " t"], reach: int) -> Float[np.ndarray, " t"]:
    """Median over the neighbours up to `reach` away."""
    return np.array([np.median(size[max(0, t - reach) : t + reach + 1]) for t in range(len(size))])
