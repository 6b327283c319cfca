"""Many searches of different length side by side: a place whose search is over takes the next one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


class Machine(NamedTuple):
    """A search by single steps.

    `begin(i)` gives the state of item i, `advance(state, i)` makes one step, `unfinished(state)` says whether to go on, and
    `keep(state)` is what remains, a pytree.
    """

    begin: Callable[[Array], Any]
    advance: Callable[[Any, Array], Any]
    unfinished: Callable[[Any], Array]
    keep: Callable[[Any], Any]


def work_off(machine: Machine, kept: Any, order: Int[Array, " r"], waiting: Int[Array, ""], *, lanes: int) -> Any:
    """Run the first `waiting` items of `order` through `lanes` places, at least one step each.

    Args:
        machine: the search.
        kept: what was kept of each item before, arrays with a leading axis of r items; the others' stays.
        order: the items, most urgent first.
        waiting: how many of them are to be run.
        lanes: how many run side by side.

    Returns:
        `kept`, renewed.
    """
    count = len(order)

    def item(number: Int[Array, " lanes"]) -> Int[Array, " lanes"]:
        return order[jnp.minimum(number, count - 1)]

    def step(carry: tuple) -> tuple:
        states, number, following, kept = carry
        states = jax.vmap(machine.advance)(states, item(number))
        done = ~jax.vmap(machine.unfinished)(states) & (number < waiting)
        where = jnp.where(done, item(number), count)
        news = jax.vmap(machine.keep)(states)
        kept = jax.tree.map(lambda old, new: old.at[where].set(new, mode="drop"), kept, news)
        number = jnp.where(done, following + jnp.cumsum(done) - 1, number)
        fresh = jax.vmap(machine.begin)(item(number))
        states = jax.tree.map(lambda a, b: jnp.where(done.reshape((-1,) + (1,) * (a.ndim - 1)), a, b), fresh, states)
        return states, number, following + done.sum(), kept

    number = jnp.arange(lanes)
    carry = (jax.vmap(machine.begin)(item(number)), number, jnp.array(lanes), kept)
    return jax.lax.while_loop(lambda c: jnp.any(c[1] < waiting), step, carry)[3]
