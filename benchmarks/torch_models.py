"""The same sampled training in PyTorch: many toy models at once, the baseline to compare the library with.

Model `x' = ReLU(x W W^T + b)` with `W` of shape `(n, m)`, one model a slice of `(instances, n, m)`; fresh
batches of 1,024; `sum_i importance_i (x_i - x'_i)^2`, averaged over the batch, added over models; AdamW.

- `plain`: as the notebook of "Toy Models of Superposition" writes it: `einsum`, models between batch and
  features, two draws a feature, one tensor operation after the other.
- `best`: the fastest found with PyTorch's own random numbers. The whole step, gradient and optimiser too, is
  one `torch.compile` graph; models lead and the batch is last, so that vector units run along it; products of
  few terms are sums that the compiler fuses, others `bmm`; one draw a feature, one generator a thread.
- `hashed`: `best`, but its random numbers are a hash of their place and step, made inside the graph.

Needs torch, NumPy and a C++ compiler. `python benchmarks/torch_models.py` prints each form's time per step.
Beside other busy processes two threads wait for each other and a step takes up to a hundred times as long:
measure on an idle machine, or with `threads=1`.
"""

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

SIZES = ((2, 1, 256), (5, 2, 256), (20, 5, 256), (100, 20, 32), (200, 20, 16), (400, 30, 8))
"""`(n, m, instances)` of the printed table."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Those of `torch.optim.AdamW`."""

MOST_SUMMED = 32
"""Up to this `n m` fused sums beat `bmm`: 18 us against 24 at (5, 2), 95 against 88 at (20, 5), 1 thread."""


def initial_weights(instances, n, m, seed):
    """Xavier normal, model by model, `(instances, n, m)`: of the stack, `instances` would count as a fan."""
    generator = torch.Generator().manual_seed(seed)
    empty = torch.empty(n, m, device="cpu")
    weights = [torch.nn.init.xavier_normal_(empty.clone(), generator=generator) for _ in range(instances)]
    return torch.stack(weights).to(torch.get_default_device())


class Plain:
    """The notebook's form. `start` draws new weights, `step` takes a step; `W` is `(instances, n, m)`."""

    def __init__(self, m, density, importance, batch, rate, decay):
        self.m, self.batch, self.rate, self.decay = m, batch, rate, decay
        self.density, self.importance = density[:, None], importance

    def start(self, seed):
        """Begin anew."""
        instances, n = self.importance.shape
        torch.manual_seed(seed)
        self.W = torch.nn.Parameter(initial_weights(instances, n, self.m, seed))
        self.b = torch.nn.Parameter(torch.zeros(instances, n))
        self.optimizer = torch.optim.AdamW([self.W, self.b], lr=self.rate, weight_decay=self.decay)

    def step(self):
        """One step of all models."""
        shape = (self.batch, *self.importance.shape)
        self.optimizer.zero_grad(set_to_none=True)
        size = torch.rand(shape)
        x = torch.where(torch.rand(shape) <= self.density, size, torch.zeros(()))
        self.loss(x).backward()
        self.optimizer.step()

    def loss(self, x):
        """The loss at inputs `(batch, instances, n)`."""
        hidden = torch.einsum("...if,ifh->...ih", x, self.W)
        out = torch.relu(torch.einsum("...ih,ifh->...if", hidden, self.W) + self.b)
        return (self.importance * (x - out) ** 2).mean(dim=0).sum()


class Best:
    """The whole step in one compiled graph; used like `Plain`."""

    def __init__(self, m, density, importance, batch, rate, decay, *, hashed=False, shared=False):
        self.m, self.batch, self.rate, self.decay = m, batch, rate, decay
        self.hashed, self.shared = hashed, shared
        self.density, self.importance = density[:, None, None], importance
        torch._dynamo.reset()  # each size is a graph of its own; torch gives up after eight
        self.compiled = torch.compile(self.update, fullgraph=True, dynamic=False)
        self.workers = ThreadPoolExecutor(torch.get_num_threads())

    def start(self, seed):
        """Begin anew."""
        instances, n = self.importance.shape
        self.steps = 0
        self.W, self.b = initial_weights(instances, n, self.m, seed), torch.zeros(instances, n)
        self.moments = tuple(torch.zeros_like(a) for a in (self.W, self.W, self.b, self.b))
        self.uniform = torch.empty(1 if self.shared else instances, n, self.batch)
        threads = torch.get_num_threads()
        self.parts = self.uniform.view(-1).chunk(threads)
        seeds = np.random.SeedSequence(seed).generate_state(threads).tolist()
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]

    def step(self):
        """One step of all models."""
        self.steps += 1
        corrections = torch.tensor([1 / (1 - BETA1**self.steps), 1 / (1 - BETA2**self.steps)])
        if self.hashed:
            draws = torch.randint(-(2**31), 2**31, (2,), dtype=torch.int32, generator=self.generators[0])
        else:
            list(self.workers.map(lambda part, g: part.uniform_(generator=g), self.parts, self.generators))
            draws = self.uniform
        self.compiled(self.W, self.b, self.moments, draws, corrections)

    def update(self, W, b, moments, draws, corrections):
        """Draw, differentiate, and change weights and moments in place."""
        u = hashed_uniform(draws, self.uniform.shape) if self.hashed else draws
        x = torch.where(u <= self.density, u / self.density, 0.0)  # u / p is uniform again
        gradients = torch.func.grad(self.loss, argnums=(0, 1))(W, b, x)
        for weight, gradient, first, second in zip((W, b), gradients, moments[::2], moments[1::2], strict=True):
            first.lerp_(gradient, 1 - BETA1)
            second.mul_(BETA2).add_((1 - BETA2) * gradient**2)
            scale = (second * corrections[1]).sqrt() + EPSILON
            weight.mul_(1 - self.rate * self.decay).sub_(self.rate * corrections[0] * first / scale)

    def loss(self, W, b, x):
        """The loss at inputs `(instances, n, batch)`."""
        if W[0].numel() <= MOST_SUMMED and not self.hashed:  # sums would hash again for every term
            hidden = (W[..., None] * x[:, :, None, :]).sum(1)
            out = torch.relu((W[..., None] * hidden[:, None]).sum(2) + b[..., None])
        else:
            out = torch.relu(torch.bmm(W, torch.bmm(W.mT, x)) + b[..., None])
        return ((x - out).square().mean(2) * self.importance).sum()


def hashed_uniform(keys, shape):
    """24-bit uniform numbers on [0, 1): two rounds, each with a key, of the hash `lowbias32` of the place."""
    h = torch.arange(shape.numel(), dtype=torch.int32).view(shape)
    for key in keys:
        h = h ^ key
        h = (h ^ ((h >> 16) & 0xFFFF)) * 0x7FEB352D
        h = (h ^ ((h >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
        h = h ^ ((h >> 16) & 0xFFFF)
    return ((h >> 8) & 0xFFFFFF).float() * 2.0**-24


def models(form, n, m, density, importance, *, batch=1024, rate=1e-3, decay=0.01, threads=None, **more):
    """The models of one form, with `start(seed)`, `step()`, `W`, `b`; see `train` for the arguments."""
    if form not in ("plain", "best", "hashed"):
        raise ValueError(f"form = {form!r}: needs 'plain', 'best' or 'hashed'")
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    density, importance = (torch.tensor(np.asarray(a, np.float32)) for a in (density, importance))
    if importance.shape != (len(density), n):
        raise ValueError(f"importance has shape {tuple(importance.shape)}: needs ({len(density)}, {n})")
    arguments = (m, density, importance, batch, rate, decay)
    return Plain(*arguments, **more) if form == "plain" else Best(*arguments, hashed=form == "hashed", **more)


def train(form, n, m, density, importance, steps, seed, **settings):
    """Train `instances` models for `steps` steps.

    Args:
        form: "plain", "best" or "hashed".
        n: number of features.
        m: hidden dimensions.
        density: probability that a feature is active, `(instances,)`, in (0, 1].
        importance: weight of each feature in the loss, `(instances, n)`.
        steps: number of steps.
        seed: of initial weights and draws; the draws of `best` also depend on `threads`.
        settings: `batch=1024`, learning `rate=1e-3`, weight `decay=0.01` (AdamW's default; it shifts phase
            boundaries, and 0 is Adam), `threads=2`; and, not for "plain", `shared=False`: True gives all
            models the same random numbers, which are then drawn once.

    Returns:
        NumPy arrays `W`, `(instances, m, n)` as in the library, and `b`, `(instances, n)`; and the seconds
        that the steps took, compilation left out.
    """
    these = models(form, n, m, density, importance, **settings)
    compile_time(these, seed)
    these.start(seed)
    start = time.perf_counter()
    for _ in range(steps):
        these.step()
    seconds = time.perf_counter() - start
    return these.W.detach().mT.contiguous().numpy(), these.b.detach().numpy(), seconds


def step_time(form, n, m, instances, repeats, *, density=0.05, seconds=0.05, **settings):
    """Time a step of all `instances` models together, after compilation and warm-up.

    Returns:
        `repeats` numbers of seconds per step, each the mean over steps that fill about `seconds`.
    """
    these = models(form, n, m, np.full(instances, density), np.ones((instances, n)), **settings)
    compile_time(these)
    steps = max(1, round(seconds / timed(these, 3)))
    return [timed(these, steps) for _ in range(repeats)]


def timed(these, steps):
    """Seconds per step over `steps` steps."""
    start = time.perf_counter()
    for _ in range(steps):
        these.step()
    return (time.perf_counter() - start) / steps


def compile_time(these, seed=0):
    """Seconds from nothing to the end of the first step; a second step shows that nothing compiles again."""
    start = time.perf_counter()
    these.start(seed)
    these.step()
    seconds = time.perf_counter() - start
    these.step()
    return seconds


def main(repeats=15):
    """Print the median and the least time per model and step."""
    print(f"torch {torch.__version__}; us per model and step: median (least) of {repeats}")
    for n, m, instances in SIZES:
        for form in ("plain", "best", "hashed"):
            times = [t / instances * 1e6 for t in step_time(form, n, m, instances, repeats)]
            print(
                f"n={n} m={m} x {instances} {form:6} {statistics.median(times):8.1f} ({min(times):.1f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
