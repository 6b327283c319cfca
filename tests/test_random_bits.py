"""The same random numbers as jax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from superpose._jax import random_bits


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("size", [1, 1001])
def test_bits_are_those_of_jax(implementation, size):
    keys = jax.random.split(jax.random.key(3, impl=implementation), 4)
    assert random_bits._ours(keys[0], size) == (implementation == "threefry2x32")
    found = jax.jit(jax.vmap(lambda key: random_bits.bits(key, size)))(keys)
    expected = jax.vmap(lambda key: jax.random.bits(key, (size,), "uint32"))(keys)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [1, 1001])
def test_uniform_numbers_are_those_of_jax(size):
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 numbers")
    for seed in range(4):
        key = jax.random.key(seed)
        np.testing.assert_array_equal(random_bits.uniform(key, size), jax.random.uniform(key, (size,), jnp.float64))
