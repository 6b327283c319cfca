"""What a series leaves to closed forms: a share of the characteristic function of each group, and the terms with at most one other.

Write each factor as `phi_s(w) = c_s + (phi_s(w) - c_s)`, with any number c_s. Then

    prod_s phi_s = prod_s c_s + sum_s (phi_s - c_s) prod_{l != s} c_l + rest,

and the first two terms are elementary: an atom at b, and the laws of one active feature. Only the rest needs a series. The usual
choice c_s = P(s idle) takes out the inputs with at most one active feature *among all*. But a feature that an output hardly sees
matters little whether it is active or not, so its share should be all of it. Here

    c_s = 1 - P_s (1 - e^{-(w_K g)^2 / 12}),

with w_K the highest frequency of the series and P_s the probability that s is active, or a little less: 1 - c_s agrees with
`P_s (1 - |psi(w_K g)|^2)` in its first term, for u ~ U[0, 1]. The loss does not depend on c; the error of a series does, by up to
10^6 times.

Where many active features turn up beyond w_K, `prod c + sum (phi - c) prod c` is not like the product there: it goes on where that
turns or dies out, by the mean and by the noise of many. So only the part `1 / (1 + (R^2 + M^2)^2 / FEW^4)` of it is taken out, and
with it of everything in closed form. With `u_s = (w_K g)^2 / 12`, `R = sum_s P_s (e^{-u_s} - e^{-16 u_s})` counts the active
features that turn up between w_K and 4 w_K, and `M = sum_s P_s E[u] 4 w_K g e^{-6 u_s}` is what those that have yet to turn up
bring on average.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from superpose.expected_loss.groups import Groups, lift, of_own_group
from superpose.features import Magnitude, forest

SPREAD = 12.0
"""In `e^{-t^2 / SPREAD}`: the weight falls as a squared sinc, but is an exponential only."""
SMALLEST = 1e-24
"""The product of all c is at least this: it divides, and its parts must be numbers in float32."""
LEAST = 0.05
"""And each c at least this."""
FEW = 1.0
"""Active features that turn up later at which half is taken out."""


class Shares(NamedTuple):
    """`left` (S, n, ...) is 1 - c; `c`; `log` (n, ...) of their product over sets; `others` (S, n, ...), that without set s.

    `part` (n, ...): how much of it is taken out.
    """

    left: Array
    c: Array
    log: Array
    others: Array
    part: Array

    @property
    def whole(self) -> Array:
        """The product of c over all groups, `(n, ...)`."""
        return jnp.exp(self.log)

    @property
    def taken_out(self) -> "Shares":
        """The same with products of c as they are taken out."""
        return self._replace(
            log=self.log + jnp.log(self.part), others=self.part[None] * self.others, part=jnp.ones_like(self.part)
        )


def idle_shares(groups: Groups, like: Array) -> Shares:
    """c_s = P(s idle), whatever the overlaps: what is taken out are the inputs with at most one active feature, all independent."""
    left = jnp.broadcast_to(lift(groups.chance, like), (len(groups.chance), *like.shape[1:]))
    logs = jnp.log1p(-jnp.minimum(left, 1 - jnp.finfo(left.dtype).eps))  # a feature may never be idle
    total = logs.sum(0)
    return Shares(left, 1 - left, total, jnp.exp(total[None] - logs), jnp.ones_like(total))


def shares(groups: Groups, law: Magnitude, t: Array, spread: float = SPREAD) -> Shares:
    """The shares for overlaps times highest frequency `t = w_K g`, of shape (n inputs, n outputs, ...).

    Of a group of several features, `P_s (1 - e^{-u})` is the sum over its roots, with `u = sum_j P(j | root) (w_K g_j)^2 / 12`
    over what is below each: what its characteristic function has lost by w_K while the root is active.
    """
    if groups.independent:
        felt = lift(groups.density, t) * _felt(t * t / spread)
    else:
        square = forest.below_roots(groups.coupling, lift(groups.given, t), t * t) / spread
        felt = forest.over_roots(groups.coupling, lift(groups.given[groups.coupling.roots], t) * _felt(square))
    left = lift(cut_of(groups.chance, len(groups.chance)), t) * felt
    gauss = jnp.exp(-t * t / SPREAD)
    part = part_of(*((lift(groups.density, t) * x).sum(0) for x in later(law, t, gauss)))
    c, log = 1 - left, jnp.log1p(-left).sum(0)
    return Shares(left, c, log, jnp.exp(log)[None] / c, part)


def later(law: Magnitude, t: Array, gauss: Array) -> tuple[Array, Array]:
    """What each active feature adds to R and to M, from `gauss = e^{-u}`."""
    return gauss - gauss**16, 4 * law.moments[0] * t * gauss**6


def later_slopes(law: Magnitude, t: Array, gauss: Array) -> tuple[Array, Array]:
    """Their slopes in t."""
    return -2 / SPREAD * t * (gauss - 16 * gauss**16), 4 * law.moments[0] * (1 - 12 / SPREAD * t * t) * gauss**6


def part_of(count: Array, drift: Array) -> Array:
    """The part that is taken out, from R and M."""
    return 1 / (1 + ((count**2 + drift**2) / FEW**2) ** 2)


def left_of(p: Array, t: Array, count: int, spread: float) -> Array:
    """1 - c of single features of density p, element by element, among so many."""
    return cut_of(p, count) * p * _felt(t * t / spread)


def cut_of(p: Array, count: int) -> Array:
    """What keeps each c and their product away from 0, among so many features of density p."""
    return jnp.minimum(1, most(count) / jnp.maximum(p, LEAST))


def _felt(u: Array) -> Array:
    """`1 - e^{-u}`; in float64, whose `expm1` is slow, digits that are lost where u is small do not count."""
    return 1 - jnp.exp(-u) if u.dtype == jnp.float64 else -jnp.expm1(-u)


def most(count: int) -> float:
    """The largest 1 - c among so many groups."""
    return 1 - max(LEAST, SMALLEST ** (1 / count))


def without_own(groups: Groups, found: Shares) -> Array:
    """The product of c over the groups that feature i is not in, shape (n, ...)."""
    return of_own_group(groups, found.others)
