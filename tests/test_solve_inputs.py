"""What `minimize` takes, what it refuses in a line, and that it compiles once."""

import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close

from superpose import solve
from superpose.toy_model import Params

pytestmark = pytest.mark.x64

RTOL = 1e-6


def bowl(t, target):
    """Of two numbers; minimum 1 at the target, a number or two."""
    return 1 + (t[0] - target) ** 2 + 2 * (t[1] - target) ** 2


def test_a_program_is_compiled_once_for_a_loss_and_its_shapes():
    """The loss is traced at the first call alone: data and starts may change, a new function or shape is a new program."""
    traced = []

    def loss(t, target):
        traced.append(target)
        return bowl(t, target)

    starts = jnp.zeros((3, 2))
    first = solve.minimize(loss, starts, jnp.arange(3.0))
    count = len(traced)
    assert count > 0
    second = solve.minimize(loss, starts + 0.1, jnp.arange(3.0) + 1)
    assert len(traced) == count
    assert_close(second.params, first.params + 1, rtol=RTOL)
    solve.minimize(loss, starts[:2], jnp.arange(2.0))
    assert len(traced) > count


def test_one_start_gives_one_solution():
    """A loss that takes the start and not its rows: without the leading axis."""
    loss = lambda t: bowl(t, 0.5)  # noqa: E731, one program for both
    found = solve.minimize(loss, jnp.zeros(2))
    assert found.loss.shape == found.converged.shape == found.reason.shape == ()
    assert_close(found.params, np.full(2, 0.5), rtol=RTOL)
    many = solve.minimize(loss, jnp.zeros((1, 2)))
    assert many.loss.shape == (1,)


def test_one_start_of_a_model_with_data_of_its_own():
    def loss(params, target):
        return bowl(params.W[0], target[0]) + jnp.sum((params.b - target) ** 2)

    start, target = Params(W=jnp.zeros((1, 2)), b=jnp.zeros(2)), jnp.array([0.3, 0.2])
    found = solve.minimize(loss, start, target)
    assert found.loss.shape == ()
    assert_close(found.params.b, target, rtol=RTOL)


def test_a_loss_that_takes_everything_is_given_the_rows():
    """`sum(t^2)` takes rows as well as the whole: the leading axis counts starts."""
    found = solve.minimize(lambda t: 1 + jnp.sum(t**2), jnp.ones((4, 3)))
    assert found.loss.shape == (4,)


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (lambda t: bowl(t, 0.5), ()),
        (lambda t, _: bowl(t, 0.5), ()),
        (lambda t, target=0.5: bowl(t, target), ()),
        (lambda t, target=0.1: bowl(t, target), (jnp.array([0.5]),)),
    ],
    ids=["alone", "unused data", "default", "data over default"],
)
def test_a_loss_takes_parameters_alone_or_with_data(loss, arguments):
    found = solve.minimize(loss, jnp.zeros((1, 2)), *arguments)
    assert_close(found.params, np.full((1, 2), 0.5), rtol=RTOL)


@pytest.mark.parametrize(
    ("starts", "data", "loss", "message"),
    [
        (jnp.zeros((0, 2)), None, lambda t: bowl(t, 0.0), "starts is empty: needs at least one start"),
        ((), None, lambda t: 0.0, "starts is empty: needs at least one start"),  # noqa: ARG005
        (jnp.zeros((2, 2)), jnp.zeros(3), bowl, r"leading axes of \[2, 3\]: need one row for each start"),
        (jnp.zeros((3, 2)), jnp.zeros(2), bowl, r"leading axes of \[3, 2\]: need one row for each start"),
        (jnp.zeros((3, 2), int), None, lambda t: bowl(t, 0.0), "starts has dtype int.*: needs floats"),
        (jnp.zeros((3, 2)), None, lambda t: t, r"loss returns \(2,\): needs a scalar"),
        (jnp.zeros((3, 2)), None, lambda t: {"a": t}, r"loss returns \{'a': \(2,\)\}: needs a scalar"),
    ],
)
def test_what_cannot_be_minimised_is_refused_in_a_line(starts, data, loss, message):
    with pytest.raises(ValueError, match=message) as caught:
        solve.minimize(loss, starts, data)
    assert "\n" not in str(caught.value)


def test_what_the_loss_itself_raises_comes_through():
    def loss(t):  # noqa: ARG001
        raise RuntimeError("of the user's own")

    with pytest.raises(RuntimeError, match="of the user's own"):
        solve.minimize(loss, jnp.zeros((2, 2)))


def test_basins_of_losses_that_are_not_finite():
    basin, counts = solve.basins(jnp.array([jnp.nan, 1.0, 1.0, jnp.inf, 2.0]), jnp.ones(5, bool))
    assert basin.tolist() == [-1, 0, 0, -1, 1]
    assert counts.tolist() == [2, 1, 0, 0, 0]
