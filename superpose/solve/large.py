"""Minimisation beyond a hundred numbers a start: nothing of the size of a Hessian is stored.

L-BFGS steps of one evaluation of loss and gradient each, Newton steps by conjugate gradients on products with the Hessian, and a
certificate: how far above its minimum the loss can be, and the lowest eigenvalue of the Hessian with its error. From a saddle the
search goes on downhill.

Reference: Nocedal and Wright 2006, "Numerical Optimization", sections 7.1 and 7.2; Li and Fukushima 2001, J. Comput. Appl. Math.
129, 15, for L-BFGS where the curvature is negative.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from superpose.solve import certificate, krylov, programs, quasi_newton
from superpose.solve.solution import CERTIFIED, UNFINISHED, Solution

LONGEST = 1.0
"""Longest step, in units of the parameters."""
NEAREST = 1e-6
"""A try this near that is still refused gives up its direction: a saddle can fall off over a small distance only."""
LIFTED = 1e-2
"""Least cosine between a step and the change of the gradient that it brings; what is less is lifted to it."""
PRODUCTS = 200
"""Products with the Hessian at most for a Newton step, and for the gap."""
COARSE = 1e-6
"""Share of the loss that a step of the coarser loss may promise, and is left to the loss itself."""
PROBES = 10
"""Products that show the size of the largest eigenvalue."""
LADDER = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)
"""Distances at which a direction of negative curvature is looked at, both ways."""
SURE = 1.0
"""Share of the lowest eigenvalue to which it is told: then its sign is certain."""


class Settings(NamedTuple):
    """What a program is compiled for, beside its loss."""

    steps: int
    rounds: int
    tolerance: float
    flat: float
    memory: int
    lanczos_steps: int
    lanes: int
    deflate: Callable[[Any, Any], Any] | None


def minimize_large(
    loss: Callable[..., Float[Array, ""]],
    starts: Any,
    data: Any = None,
    *,
    deflate: Callable[[Any, Any], Any] | None = None,
    finer: Callable[..., Float[Array, ""]] | None = None,
    coarser: Callable[..., Float[Array, ""]] | None = None,
    steps: int = 10_000,
    rounds: int = 40,
    tolerance: float = 1e-8,
    flat: float = 1e-6,
    memory: int = 30,
    lanczos_steps: int = 400,
    lanes: int = 1,
) -> Solution:
    """Minimise `loss(params)` or `loss(params, data)` from each of many starts, each start on its own, without a Hessian.

    Programs are kept as those of `minimize` are.

    Args:
        loss: parameters, and data where given, to a scalar; twice differentiable (reverse, then forward mode), free of sampling
            noise, and scaled to order 1.
        starts: a pytree of float arrays with a leading axis of r starts, of order 1 as well; or one start without that axis.
        data: a pytree with the same leading axis, what tells the problems apart; None if they are all alike.
        deflate: from parameters and a direction, alike, the direction without its part along a continuous symmetry of the loss. The
            lowest eigenvalue is then that of all other directions. Without it, the zero eigenvalues of a symmetry do no harm but
            need more Lanczos steps.
        steps: at most so many quasi-Newton steps a start.
        finer: a more exact version of `loss`, used at the end only, as that of `minimize`.
        coarser: a cheaper version of `loss`, with which the search begins.
        rounds: so many times quasi-Newton steps and then a Newton step, or from a saddle one downhill along its lowest curvature.
        tolerance: largest gap of a converged point, as a share of the loss.
        flat: curvatures far below this share of the largest count as flat: along them the gap is that of this curvature.
        memory: pairs of steps and changes of the gradient that the quasi-Newton steps keep.
        lanczos_steps: at most so many products with the Hessian for its lowest eigenvalue, and as many vectors in memory.
        lanes: starts that are worked on side by side; all wait for the slowest. One is best on a CPU.

    Returns:
        The solutions with their certificates, each array with the leading axis of starts. `eigenvalues` holds the lowest and the
        largest Ritz value, `(r, 2)`; `eigenvalue_error` how near to the lowest an eigenvalue is for certain.

    Raises:
        ValueError: a number of steps, rounds, pairs or lanes below 1, a tolerance that is not positive, and as `minimize`.
    """
    settings = Settings(steps, rounds, tolerance, flat, memory, lanczos_steps, lanes, deflate)
    counts = {"steps": steps, "rounds": rounds, "memory": memory}
    for name, value in (counts | {"lanczos_steps": lanczos_steps, "lanes": lanes}).items():
        if value < 1:
            raise ValueError(f"{name} = {value}: needs at least 1")
    for name, value in {"tolerance": tolerance, "flat": flat}.items():
        if not value > 0:
            raise ValueError(f"{name} = {value}: needs to be positive")
    return programs.run(_search, (loss, finer, coarser), settings, starts, data)


def _search(
    losses: tuple[Callable, Callable | None, Callable | None], settings: Settings, starts: Any, data: Any
) -> Solution:
    loss, finer, coarser = losses
    _, unravel = ravel_pytree(jax.tree.map(lambda x: x[0], starts))

    def within(theta: Array, v: Array) -> Array:
        deflate = settings.deflate
        return v if deflate is None else ravel_pytree(deflate(unravel(theta), unravel(v)))[0]

    def one(start: Any, datum: Any) -> Solution:
        def slopes(f: Callable) -> Callable:
            return jax.value_and_grad(lambda theta: f(unravel(theta), datum))

        others = finer and slopes(finer), coarser and slopes(coarser)
        s = _searched(slopes(loss), *others, within, ravel_pytree(start)[0], settings)
        finite = jnp.isfinite(s.point.value)
        return Solution(
            params=unravel(s.point.theta),
            loss=jnp.where(finite, s.point.value, jnp.nan),
            gradient_norm=jnp.where(finite, jnp.linalg.norm(s.point.gradient), jnp.nan),
            eigenvalues=jnp.stack([s.ends.lowest, s.ends.largest]),
            eigenvalue_error=s.ends.error,
            gap=s.gap,
            reason=s.reason,
            converged=s.reason == CERTIFIED,
            steps=s.steps,
        )

    batch = {} if settings.lanes == 1 else {"batch_size": settings.lanes}
    return jax.lax.map(lambda x: one(*x), (starts, data), **batch)


class _Point(NamedTuple):
    theta: Array
    value: Array
    gradient: Array


def _unknown(theta: Float[Array, " d"]) -> _Point:
    """A point yet to be evaluated: the first try is the point itself, a step of no length from a loss of infinity."""
    return _Point(theta, jnp.full((), jnp.inf, theta.dtype), jnp.zeros_like(theta))


class _Round(NamedTuple):
    """Where a round ends, and what is known there."""

    point: _Point
    direction: Array  # of the next descent's first try
    shift: Array  # the curvature that counts as flat
    settled: Array  # whether the decrement is small enough, so that only the certificate is missing
    decrement: Array
    gap: Array
    ends: krylov.Ends
    reason: Array
    steps: Array  # evaluations so far
    count: Array  # of rounds
    stuck: Array  # whether no step was taken, by any curvature or the gradient
    done: Array


def _searched(
    value_and_grad: Callable,
    finer: Callable | None,
    coarser: Callable | None,
    within: Callable,
    theta: Float[Array, " d"],
    settings: Settings,
) -> _Round:
    """Rounds of a descent, and a Newton step or a certificate; from a saddle it goes on downhill."""
    zero, scalar, no, none = jnp.zeros_like(theta), jnp.zeros((), theta.dtype), jnp.array(False), jnp.zeros((), jnp.int32)
    begin = _Round(
        point=_unknown(theta),
        direction=zero,
        shift=scalar,
        settled=no,
        decrement=scalar,
        gap=scalar,
        ends=krylov.unknown(theta, settings.lanczos_steps),
        reason=jnp.array(UNFINISHED),
        steps=none,
        count=none,
        stuck=no,
        done=no,
    )
    if coarser is not None:
        point, steps = _descend(coarser, begin.point, zero, none, scalar + COARSE / settings.tolerance, no, settings)
        begin = begin._replace(point=_unknown(point.theta), steps=steps)

    def unfinished(s: _Round) -> Bool[Array, ""]:
        return ~s.done & (s.count < settings.rounds) & (s.steps < settings.steps)

    def advance(s: _Round) -> _Round:
        share = 10.0 ** -(1 + jnp.minimum(s.count, 2))
        point, steps = _descend(value_and_grad, s.point, s.direction, s.steps, share, s.settled, settings)
        stuck = ~s.settled & (point.value >= s.point.value)
        s = s._replace(point=point, steps=steps, count=s.count + 1, stuck=stuck)
        return _judged(value_and_grad, finer, within, s, settings)

    return jax.lax.while_loop(unfinished, advance, begin)


def _judged(value_and_grad: Callable, finer: Callable | None, within: Callable, s: _Round, settings: Settings) -> _Round:
    """A Newton step from the point, or one downhill along negative curvature; or the certificate, in the last round.

    `gap = 2 g^T (H + s)^-1 g + 4 fall + max(error - |lowest|, 0) / 2 + error of the loss`, bounded above: four times the Newton
    decrement, as in `superpose.solve.certificate`, and what was seen along each direction of negative curvature. The curvature s
    counts as flat: at least twice the negative curvature that does no harm.
    """
    point, limit = s.point, certificate.limit(s.point.value, tolerance=settings.tolerance)
    probe = jax.random.normal(jax.random.key(0), point.theta.shape, point.theta.dtype)

    def product(v: Array) -> Array:
        return jax.jvp(lambda t: value_and_grad(t)[1], (point.theta,), (v,))[1]

    last = s.settled | s.stuck | (s.count >= settings.rounds) | (s.steps >= settings.steps)
    count, stays = jnp.where(last, settings.lanczos_steps, PROBES), partial(within, point.theta)
    ends = krylov.ends(product, probe, count, most=settings.lanczos_steps, atol=limit / 4, rtol=SURE, within=stays)
    value, gradient = _finer(finer, s)
    shift = jnp.maximum(s.shift, settings.flat * ends.largest)
    known = s.settled if finer is None else jnp.array(False)
    rtol = jnp.where(known | (ends.lowest < -jnp.maximum(shift, 2 * limit)), 1.0, 1e-3)  # at a saddle no step is asked for
    solved = krylov.solved(product, gradient, shift, atol=0.1 * jnp.sqrt(limit * shift), rtol=rtol, steps=PRODUCTS)
    ends = _lower(ends, solved)
    falls, best = _falls(lambda t: value_and_grad(t)[0], point, ends, limit)
    lower = jnp.max(falls) > limit / 8
    steep = ~lower & (ends.lowest < -jnp.maximum(certificate.WEAK * ends.largest, 2 * limit))
    unseen = -ends.low[-1] / 2 if len(point.theta) > krylov.LOW else jnp.zeros_like(limit)
    bending = jnp.where(lower | steep, -ends.lowest / 2, jnp.where(unseen > limit, unseen, 0))
    decrement = jnp.where(s.settled, s.decrement, solved.decrement)
    more = jnp.where(s.settled & ~known, 4 * jnp.maximum(solved.decrement - decrement, 0), 0)
    gap, reason = certificate.judge(
        point.value,
        uphill=jnp.where(
            lower | steep,
            0,
            4 * jnp.minimum(decrement, jnp.abs(point.value)) + jnp.maximum(ends.error - jnp.abs(ends.lowest), 0) / 2,
        ),
        bending=bending,
        fall=4 * falls.sum(),
        error=jnp.abs(value - point.value) + more,
        kink=s.stuck,
        tolerance=settings.tolerance,
    )
    done = (last & ~lower) | steep | s.stuck | ~jnp.isfinite(point.value)
    known = done | lower | last
    return s._replace(
        direction=jnp.where(lower, best, _limited(solved.x)),
        shift=jnp.where(lower, s.shift, jnp.maximum(shift, -2 * ends.lowest)),
        settled=~lower & (8 * decrement <= limit),
        decrement=decrement,
        gap=jnp.where(known, gap, 4 * decrement),
        ends=ends,
        reason=jnp.where(known, reason, UNFINISHED),
        done=done,
    )


def _falls(value: Callable, point: _Point, ends: krylov.Ends, limit: Array) -> tuple[Float[Array, " k"], Float[Array, " d"]]:
    """How far the loss falls along each direction of negative curvature, and the step to the lowest place seen."""
    lengths = jnp.asarray(LADDER + tuple(-x for x in LADDER), point.theta.dtype)

    def look(v: Array) -> tuple[Array, Array]:
        seen = jax.lax.map(lambda t: value(point.theta + t * v), lengths)
        seen = jnp.where(jnp.isfinite(seen), seen, jnp.inf)
        return jnp.maximum(point.value - seen.min(), 0), lengths[jnp.argmin(seen)]

    def none(v: Array) -> tuple[Array, Array]:  # noqa: ARG001
        return jnp.zeros_like(limit), jnp.zeros_like(limit)

    falls, steps = jax.lax.map(lambda x: jax.lax.cond(x[0] < -2 * limit, look, none, x[1]), (ends.low, ends.vectors))
    best = jnp.argmax(falls)
    return falls, steps[best] * ends.vectors[best]


def _finer(finer: Callable | None, s: _Round) -> tuple[Array, Array]:
    """Value and gradient of the more exact loss where only the certificate is missing, else of the loss itself."""
    if finer is None:
        return s.point.value, s.point.gradient
    return jax.lax.cond(s.settled, lambda p: finer(p.theta), lambda p: (p.value, p.gradient), s.point)


class _State(NamedTuple):
    point: _Point
    pairs: Any
    direction: Array
    length: Array
    promised: Array  # decrease that the last direction promised where it was chosen
    fresh: Array  # whether the direction is the negative gradient itself
    step: Array


def _descend(
    value_and_grad: Callable,
    point: _Point,
    direction: Float[Array, " d"],
    step: Int[Array, ""],
    share: Float[Array, ""],
    done: Bool[Array, ""],
    settings: Settings,
) -> tuple[_Point, Int[Array, ""]]:
    """L-BFGS from a first try along `direction`, until the next step promises but `share` of the tolerance, or none is taken.

    Where it is `done` no step is tried.
    """
    inverse: Any = optax.scale_by_lbfgs(settings.memory)

    def begin(point: _Point, direction: Array, length: Array, step: Array, fresh: Array) -> _State:
        known = jnp.isfinite(point.value).astype(jnp.int32)
        pairs = inverse.init(point.theta)._replace(count=known, params=point.theta, updates=point.gradient)
        return _State(point, pairs, direction, length, jnp.inf * jnp.ones_like(length), fresh, step)

    def unfinished(s: _State) -> Bool[Array, ""]:
        limit = certificate.limit(s.point.value, tolerance=settings.tolerance)
        enough = jnp.where(jnp.isfinite(limit), share * limit, 0)  # the start itself has yet to be tried
        return (s.step < settings.steps) & (s.length > 0) & (s.promised > enough)

    def advance(s: _State) -> _State:
        theta, slope = s.point.theta + s.length * s.direction, s.direction @ s.point.gradient
        tried = _Point(theta, *value_and_grad(theta))
        s = s._replace(step=s.step + 1)

        def taken(s: _State) -> _State:
            pairs = s.pairs._replace(updates=_lifted(s.point, tried))
            move, pairs = inverse.update(tried.gradient, pairs, theta)
            promised, one = move @ tried.gradient / 2, jnp.ones_like(s.length)
            return _State(tried, pairs, _limited(-move), one, promised, jnp.array(False), s.step)

        def refused(s: _State) -> _State:
            cut = jnp.clip(-slope * s.length / (2 * (tried.value - s.point.value - s.length * slope)), 0.1, 0.5)
            length = s.length * jnp.where(jnp.isfinite(cut), cut, 0.1)
            at_last = jnp.where(s.fresh & (slope <= 0), 0, jnp.ones_like(length))
            anew = partial(begin, s.point, _limited(-s.point.gradient), at_last, s.step, jnp.array(True))
            return jax.lax.cond(length < NEAREST, anew, lambda: s._replace(length=length))

        return jax.lax.cond(_acceptable(s.point, tried, s.direction, s.length), taken, refused, s)

    start = begin(point, direction, jnp.where(done, 0, jnp.ones_like(point.value)), step, jnp.array(False))
    s = jax.lax.while_loop(unfinished, advance, start)
    return s.point, s.step


def _limited(move: Float[Array, " d"]) -> Float[Array, " d"]:
    """A step, shortened to `LONGEST`."""
    return move * LONGEST / jnp.maximum(jnp.linalg.norm(move), LONGEST)


def _lifted(old: _Point, new: _Point) -> Float[Array, " d"]:
    """The old gradient, moved along the step so that what the step changed has some positive curvature."""
    move, change = new.theta - old.theta, new.gradient - old.gradient
    square = move @ move
    missing = LIFTED * jnp.sqrt(square * (change @ change)) - move @ change
    return old.gradient - jnp.where(square > 0, jnp.maximum(missing, 0) / jnp.where(square > 0, square, 1), 0) * move


def _acceptable(old: _Point, new: _Point, direction: Float[Array, " d"], length: Array) -> Bool[Array, ""]:
    """Armijo's decrease; or, within `NOISE` of the old value, slopes that show one: the value may jump where the slopes do not.

    Reference: Hager and Zhang 2005, SIAM J. Optim. 16, 170, the approximate Wolfe conditions.
    """
    slope, after = direction @ old.gradient, direction @ new.gradient
    level = new.value <= old.value + quasi_newton.NOISE * jnp.abs(old.value)
    falling = (slope < 0) & (after <= (2 * quasi_newton.SUFFICIENT - 1) * slope)
    decrease = quasi_newton.acceptable(old.value, old.gradient, new.value, new.gradient, length * slope)
    return decrease | (level & falling & jnp.all(jnp.isfinite(new.gradient)))


def _lower(ends: krylov.Ends, solved: krylov.Solved) -> krylov.Ends:
    """With the negative curvature that conjugate gradients came upon, where Lanczos's iteration saw none as low."""
    met = solved.curvature < ends.lowest
    low = ends.low.at[0].set(jnp.where(met, solved.curvature, ends.lowest))
    vectors = ends.vectors.at[0].set(jnp.where(met, solved.direction, ends.vectors[0]))
    return ends._replace(low=low, vectors=vectors, error=jnp.where(met, ends.largest - solved.curvature, ends.error))
