"""Products of matrices in full precision on every device."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax


def precisely(f: Callable) -> Callable:
    """`f` with products of matrices in full precision on a GPU, whose default for float32 keeps 3 digits."""

    @wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return f(*args, **kwargs)

    return run
