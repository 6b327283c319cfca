"""The same sampled training in PyTorch: many toy models at once, the baseline that the library is compared with.

Model `x' = ReLU(x W W^T + b)` with `W` of shape `(n, m)`, one model a slice of `(instances, n, m)`; fresh batches of
1,024; `sum_i importance_i (x_i - x'_i)^2`, averaged over the batch and added over models; AdamW. Three forms:

- `plain`: as the notebook of "Toy Models of Superposition" writes it: `einsum`, batch leading, two draws a feature.
- `best`: the fastest found with PyTorch's own random numbers. The whole step, gradient and optimiser included, is one
  `torch.compile` graph; models lead and the batch is last, so vector units run along the batch; products with few
  terms are sums that the compiler fuses, others `bmm`; one draw a feature, from one generator a thread.
- `hashed`: `best` with random numbers from a counter-based hash inside the graph, not from PyTorch's generator.

Needs torch and NumPy only. `python benchmarks/torch_models.py` prints the time per step of each form and size.
"""

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import torch

FORMS = ("plain", "best", "hashed")
SIZES = ((2, 1, 100), (5, 2, 100), (20, 5, 20), (100, 20, 4), (200, 20, 4))
"""`(n, m, instances)` of the printed table."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # those of torch.optim.AdamW
FEW_TERMS = 20  # up to n m = 20 fused sums beat bmm: (5, 2) 4.7 against 7.9 us, (20, 5) 42 against 36 us


def train(
    form, n, m, density, importance, steps, seed, *, batch=1024, rate=1e-3, decay=0.01, threads=2, compiled=True
):
    """Train `instances` models for `steps` steps.

    Args:
        form: one of `FORMS`.
        n: number of features.
        m: hidden dimensions.
        density: probability that a feature is active, `(instances,)`, in (0, 1].
        importance: weight of each feature in the loss, `(instances, n)`.
        steps: number of steps.
        seed: of initial weights and draws; the draws of `best` also depend on `threads`.
        batch: inputs per step and model.
        rate: learning rate.
        decay: weight decay of AdamW; its default 0.01 shifts phase boundaries, 0 is Adam.
        threads: of PyTorch.
        compiled: False runs `best` and `hashed` without `torch.compile`, which needs a C++ compiler.

    Returns:
        W `(instances, m, n)`, in the library's orientation, b `(instances, n)`, and the seconds that the steps took,
        compilation left out.
    """
    torch.set_num_threads(threads)
    density, importance = (torch.as_tensor(np.asarray(a, np.float32)) for a in (density, importance))
    step, weights = _form(form, n, m, density, importance, seed, batch, rate, decay, compiled)
    step(), step()  # compiles; the second run meets the final memory layout
    step, weights = _form(form, n, m, density, importance, seed, batch, rate, decay, step)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - start
    W, b = weights()
    return W.detach().mT.contiguous().numpy(), b.detach().numpy(), seconds
