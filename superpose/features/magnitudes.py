"""Magnitude laws: how large a feature is when it is active.

A feature is x = s u with s ~ Bernoulli(p) and u drawn from one of these laws. A law is a few closed forms, and only these
enter the exact loss: the moments, the characteristic function psi(t) = E e^{itu} with its derivatives, and the two
expectations with a single active feature, `E r(b + g u)^2` and `E (u - r(b + g u))^2`, where r(y) = max(y, 0).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from superpose.features import characteristic

Real = Float[Array, "..."]


def _no_form(*_: Real) -> Real:
    raise NotImplementedError("no closed form for this law")


class Magnitude(NamedTuple):
    """A law of u: all that the library knows of it.

    `moments` are E u, .., E u^4. `quantile(q)` turns a uniform number into a draw. `derivatives(t, order)` lists
    psi(t), psi'(t), ... up to `order`, accurate near t = 0 too, and `recurrence(theta, order)` the same at k theta, k = 1, 2, ...
    `relu_square(b, g)` and `relu_error(b, g)` are `E r(b + g u)^2` and `E (u - r(b + g u))^2`, `relu_product(b, g, c, h)` is
    `E r(b + g u) r(c + h u)`, elementwise. `on_phase(t, z)` gives psi(t) and psi'(t) from t and `z = e^{it/2}`.

    What a method needs besides, for laws that have it: `below_cube(b, g)`, `E r(-b - g u)^3`, and `own_cube(a)`, the c of
    `superpose.expected_loss.own_feature`; `flat`, the density of u is constant on its support; `constant`, u = 1;
    `compresses`, sums over features of one density can be compressed (`superpose.expected_loss.compressed_series`).
    """

    name: str
    moments: tuple[float, float, float, float]
    support: tuple[float, float]
    quantile: Callable[[Real], Real]
    derivatives: Callable[[Real, int], characteristic.Values]
    recurrence: Callable[[Real, int], characteristic.Recurrence]
    relu_square: Callable[[Real, Real], Real]
    relu_error: Callable[[Real, Real], Real]
    relu_product: Callable[[Real, Real, Real, Real], Real]
    on_phase: Callable[[Real, characteristic.Complexes], tuple[characteristic.Complexes, characteristic.Complexes]]
    below_cube: Callable[[Real, Real], Real] = _no_form
    own_cube: Callable[[Real], Real] = _no_form
    flat: bool = False
    constant: bool = False
    compresses: bool = False

    @property
    def has_cubes(self) -> bool:
        """Whether `below_cube` and `own_cube` are there."""
        return self.own_cube is not _no_form


def _crossing(b: Real, g: Real, low: float, high: float) -> Real:
    """Where `b + g u` changes sign, clipped to `[low, high]`; at g = 0 there is no crossing."""
    flat = g == 0
    return jnp.where(flat, low, jnp.clip(-b / jnp.where(flat, 1, g), low, high))


def _mean_square(start: Real, end: Real) -> Real:
    """Mean square of a quantity that runs linearly from `start` to `end`; no cancellation where both have one sign."""
    return (start * start + start * end + end * end) / 3


def _with_slopes(f: Callable[[Real, Real], tuple[Real, Real, Real]]) -> Callable[[Real, Real], Real]:
    """The value of f, which gives its slopes in both arguments as well, differentiated by these."""
    value = jax.custom_jvp(lambda start, end: f(start, end)[0])

    @value.defjvp
    def push(primals: tuple[Real, Real], tangents: tuple[Real, Real]) -> tuple[Real, Real]:
        found, by_start, by_end = f(*primals)
        return found, by_start * tangents[0] + by_end * tangents[1]

    return value


@_with_slopes
def _mean_relu_square(start: Real, end: Real) -> tuple[Real, Real, Real]:
    """Mean of `r(y)^2` where y runs evenly from `start` to `end`.

    With both ends positive as for a square; else `h^2 t / 3`, with the higher end h and the share t where y is positive.
    """
    low, high = jnp.minimum(start, end), jnp.maximum(start, end)
    whole, length = low >= 0, high - low
    h = jnp.maximum(high, 0)
    share = h / jnp.where(length > 0, length, 1)
    value = jnp.where(whole, _mean_square(start, end), h * h * share / 3)
    near, far = h * share * (1 - share / 3), h * share * share / 3  # slopes in the higher and in the lower end
    rising = end > start
    by_start = jnp.where(whole, (2 * start + end) / 3, jnp.where(rising, far, near))
    by_end = jnp.where(whole, (start + 2 * end) / 3, jnp.where(rising, near, far))
    return value, by_start, by_end


@_with_slopes
def _mean_below_cube(start: Real, end: Real) -> tuple[Real, Real, Real]:
    """Mean of `r(-y)^3` where y runs evenly from `start` to `end`.

    With both ends negative as for a cube; else `d^3 t / 4`, with the lower end -d and the share t where y is negative.
    """
    low, high = jnp.minimum(start, end), jnp.maximum(start, end)
    whole, length = high <= 0, high - low
    d = jnp.maximum(-low, 0)
    share = d / jnp.where(length > 0, length, 1)
    value = jnp.where(whole, -(start + end) * (start**2 + end**2) / 4, d**3 * share / 4)
    near, far = -(d**2) * share**2 / 4, -(d**2) * share * (1 - share / 4)  # slopes in the higher and in the lower end
    rising = end > start
    by_start = jnp.where(whole, -(3 * start**2 + 2 * start * end + end**2) / 4, jnp.where(rising, far, near))
    by_end = jnp.where(whole, -(start**2 + 2 * start * end + 3 * end**2) / 4, jnp.where(rising, near, far))
    return value, by_start, by_end


def _flat_law(low: float) -> tuple[Callable[[Real, Real], Real], Callable[[Real, Real], Real]]:
    """`relu_square` and `relu_error` of U[low, 1]: each integrand is a square of linear pieces."""
    width = 1 - low

    def relu_square(b: Real, g: Real) -> Real:
        return _mean_relu_square(b + low * g, b + g)

    def relu_error(b: Real, g: Real) -> Real:
        start, end = b + low * g, b + g
        first, last = start > 0, end > 0  # which sign y has before u, where it crosses 0 if it does, and behind
        u = jnp.where(first != last, -b / jnp.where(first != last, g, 1), low)
        y = b + g * u
        before = (u - low) * _mean_square(low - jnp.where(first, start, 0), u - jnp.where(first, y, 0))
        return (before + (1 - u) * _mean_square(u - jnp.where(last, y, 0), 1 - jnp.where(last, end, 0))) / width

    return relu_square, relu_error


def _relu(y: Real) -> Real:
    return jnp.maximum(y, 0)


def _both_positive(lines: tuple[tuple[Real, Real], ...], low: float, high: float) -> tuple[Real, Real]:
    """The interval of `[low, high]` on which all lines `b + g u` are positive, of length 0 where there is none."""
    start, end = jnp.asarray(low), jnp.asarray(high)
    for b, g in lines:
        u = -b / jnp.where(g == 0, 1, g)
        start = jnp.maximum(start, jnp.where(g > 0, u, low))
        end = jnp.minimum(end, jnp.where(g < 0, u, jnp.where((g == 0) & (b <= 0), low, high)))
    start = jnp.minimum(start, high)
    return start, jnp.maximum(start, end)


def _flat_product(low: float) -> Callable[[Real, Real, Real, Real], Real]:
    """`relu_product` of U[low, 1]: Simpson's rule where both are positive; all its terms are."""

    def relu_product(b: Real, g: Real, c: Real, h: Real) -> Real:
        start, end = _both_positive(((b, g), (c, h)), low, 1.0)
        (y, y_end), (z, z_end) = ((x + k * start, x + k * end) for x, k in ((b, g), (c, h)))
        return (end - start) / (6 * (1 - low)) * (2 * (y * z + y_end * z_end) + y * z_end + y_end * z)

    return relu_product


def _exponential_product(b: Real, g: Real, c: Real, h: Real) -> Real:
    """With `v = u - start` from where both are positive on: `e^{-start} int_0^D e^{-v} (y + g v)(z + h v) dv`, D its length."""
    start, end = _both_positive(((b, g), (c, h)), 0.0, jnp.inf)
    some = jnp.isfinite(start)
    start = jnp.where(some, start, 0)
    length = jnp.where(jnp.isfinite(end), end - start, 0)
    tail = jnp.where(jnp.isfinite(end), jnp.exp(-length), 0)
    y, z = b + g * start, c + h * start
    none, one, two = -jnp.expm1(-length), 1 - tail * (1 + length), 2 - tail * (2 + length * (2 + length))
    none = jnp.where(jnp.isfinite(end), none, 1)
    return jnp.where(some, jnp.exp(-start) * (y * z * none + (y * h + z * g) * one + g * h * two), 0)


def _exponential_tail(b: Real, g: Real) -> tuple[Real, Real]:
    """`e^{-u}` and `u` at the crossing `u = -b/g >= 0`; where there is none, u = 0."""
    u = _crossing(b, g, 0.0, jnp.inf)
    u = jnp.where(jnp.isfinite(u), u, 0)
    return jnp.exp(-u), u


def _exponential_relu_square(b: Real, g: Real) -> Real:
    """B + g u rises: `e^{-u0} (y0^2 + 2 y0 g + 2 g^2)` with `y0 = r(b)`; falls from b > 0: the whole less the tail."""
    tail, _ = _exponential_tail(b, g)
    whole = b * b + 2 * b * g + 2 * g * g
    crosses = jnp.sign(b) * jnp.sign(g) < 0
    rising = jnp.where(crosses, tail * 2 * g * g, whole)
    falling = jnp.where(crosses, whole - tail * 2 * g * g, 0)
    return jnp.where(g > 0, rising, jnp.where(g < 0, falling, jnp.where(b > 0, whole, 0)))  # with its slope at g = 0


def _exponential_relu_error(b: Real, g: Real) -> Real:
    """`E u^2 - 2 E[u r(b + g u)] + E r(b + g u)^2`, E u^2 = 2."""
    tail, u = _exponential_tail(b, g)
    whole, beyond = b + 2 * g, tail * g * (2 + u)
    crosses = jnp.sign(b) * jnp.sign(g) < 0
    rising = jnp.where(crosses, beyond, whole)
    falling = jnp.where(crosses, whole - beyond, 0)
    cross = jnp.where(g > 0, rising, jnp.where(g < 0, falling, jnp.where(b > 0, whole, 0)))
    return 2 - 2 * cross + _exponential_relu_square(b, g)


_UNIFORM_SQUARE, _UNIFORM_ERROR = _flat_law(0.0)
_SYMMETRIC_SQUARE, _SYMMETRIC_ERROR = _flat_law(-1.0)

UNIFORM = Magnitude(
    name="uniform",
    moments=(1 / 2, 1 / 3, 1 / 4, 1 / 5),
    support=(0.0, 1.0),
    quantile=lambda q: q,
    derivatives=characteristic.uniform_derivatives,
    recurrence=characteristic.uniform_recurrence,
    relu_square=_UNIFORM_SQUARE,
    relu_error=_UNIFORM_ERROR,
    relu_product=_flat_product(0.0),
    on_phase=characteristic.uniform_on_phase,
    below_cube=lambda b, g: _mean_below_cube(b, b + g),
    own_cube=lambda a: (1 + a) / (3 * a**2),
    flat=True,
    compresses=True,
)
"""u ~ U[0, 1]; psi(t) = (e^{it} - 1) / (it)."""

BINARY = Magnitude(
    name="binary",
    moments=(1.0, 1.0, 1.0, 1.0),
    support=(0.0, 1.0),
    quantile=jnp.ones_like,
    derivatives=characteristic.binary_derivatives,
    recurrence=characteristic.binary_recurrence,
    relu_square=lambda b, g: _relu(b + g) ** 2,
    relu_error=lambda b, g: (1 - _relu(b + g)) ** 2,
    relu_product=lambda b, g, c, h: _relu(b + g) * _relu(c + h),
    on_phase=characteristic.binary_on_phase,
    below_cube=lambda b, g: _relu(-b - g) ** 3,
    own_cube=jnp.zeros_like,
    constant=True,
)
"""u = 1; psi(t) = e^{it}."""

SYMMETRIC = Magnitude(
    name="symmetric",
    moments=(0.0, 1 / 3, 0.0, 1 / 5),
    support=(-1.0, 1.0),
    quantile=lambda q: 2 * q - 1,
    derivatives=characteristic.symmetric_derivatives,
    recurrence=characteristic.symmetric_recurrence,
    relu_square=_SYMMETRIC_SQUARE,
    relu_error=_SYMMETRIC_ERROR,
    relu_product=_flat_product(-1.0),
    on_phase=characteristic.symmetric_on_phase,
    flat=True,
)
"""u ~ U[-1, 1]; psi(t) = sin(t) / t."""

EXPONENTIAL = Magnitude(
    name="exponential",
    moments=(1.0, 2.0, 6.0, 24.0),
    support=(0.0, float("inf")),
    quantile=lambda q: -jnp.log1p(-q),
    derivatives=characteristic.exponential_derivatives,
    recurrence=characteristic.exponential_recurrence,
    relu_square=_exponential_relu_square,
    relu_error=_exponential_relu_error,
    relu_product=_exponential_product,
    on_phase=characteristic.exponential_on_phase,
)
"""u ~ Exp(1); psi(t) = 1 / (1 - it)."""
