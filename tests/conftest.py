"""The whole suite in float64 (or float32 with SUPERPOSE_TEST_X64=0): no rank promotion, warnings are errors."""

import os

import jax
import pytest
from jaxtyping import install_import_hook

X64 = os.environ.get("SUPERPOSE_TEST_X64", "1") != "0"
jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook("superpose", "beartype.beartype")


@pytest.fixture
def key():
    return jax.random.key(0)


def pytest_collection_modifyitems(items):
    """Tests of float64 accuracy are marked `x64` and left out of the float32 run."""
    if not X64:
        skip = pytest.mark.skip(reason="needs float64")
        for item in items:
            if "x64" in item.keywords:
                item.add_marker(skip)
