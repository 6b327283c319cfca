"""What a run can be told, as plain frozen dataclasses: checked when made, and quick to import."""

from dataclasses import dataclass
from math import inf

MOST = 2**31 - 1
"""The largest count: JAX counts in 32 bits."""
MOST_NODES = 2**16
"""The longest series; long before there is nothing to gain."""


@dataclass(frozen=True)
class Diagram:
    """A phase diagram of n features in m dimensions; the last feature's importance varies, the others have 1.

    Args:
        n: features, at least 1.
        m: hidden dimensions, from 1 to n.
        densities: grid points from density `density_max` down to `density_min`, evenly in log density.
        importances: grid points from `importance_min` to `importance_max`, evenly in log importance.
        restarts: random starts a cell.
        density_min: smallest density, in (0, 1].
        density_max: largest density, in (0, 1].
        importance_min: smallest importance of the last feature, above 0.
        importance_max: largest importance of the last feature.
        nodes: terms of the cosine series, from 8 to 65,536; not used up to n = 3, where the loss is a closed form.
        steps: quasi-Newton steps a start may take.
        tolerance: squared length below which a column or an overlap counts as nothing in labels, in (0, 1).
        seed: of the random starts.
    """

    n: int = 2
    m: int = 1
    densities: int = 50
    importances: int = 50
    restarts: int = 10
    density_min: float = 0.01
    density_max: float = 1.0
    importance_min: float = 0.1
    importance_max: float = 10.0
    nodes: int = 64
    steps: int = 500
    tolerance: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting that is out of range."""
        for name in ("n", "m", "densities", "importances", "restarts", "steps"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
            _require(name, getattr(self, name), getattr(self, name) <= MOST, f"at most {MOST}")
        _require("m", self.m, self.m <= self.n, f"at most n = {self.n}")
        _require("density_min", self.density_min, 0 < self.density_min <= 1, "a density in (0, 1]")
        upper = f"a density in [{self.density_min}, 1]"
        _require("density_max", self.density_max, self.density_min <= self.density_max <= 1, upper)
        finite = 0 < self.importance_min < inf
        _require("importance_min", self.importance_min, finite, "a positive importance")
        above = self.importance_min <= self.importance_max < inf
        _require("importance_max", self.importance_max, above, f"at least importance_min = {self.importance_min}")
        _require("nodes", self.nodes, self.nodes >= 8, "at least 8")
        _require("nodes", self.nodes, self.nodes <= MOST_NODES, f"at most {MOST_NODES}")
        _require("tolerance", self.tolerance, 0 < self.tolerance < 1, "a number in (0, 1)")
        _require("seed", self.seed, 0 <= self.seed < 2**32, "an integer in [0, 2^32)")


VARIANTS = ("relu", "relu-2023", "p-annealed", "gated", "topk", "batchtopk", "matryoshka", "jumprelu")
"""Names of the kinds of autoencoder."""


@dataclass(frozen=True)
class Unmixing:
    """A toy model in superposition, and the autoencoders that are to find its features again in its activations.

    Args:
        n: features, at least 2.
        m: hidden dimensions, from 1 to n.
        density: probability that a feature is active, in (0, 1].
        variant: a kind of autoencoder, or several with commas between, or all.
        model: train or solve the toy model: solved, it is a certified minimum, which takes minutes from n = 20 up.
        latents: of each autoencoder; 0 for as many as features.
        values: of what makes latents sparse: penalties, or numbers of active latents.
        starts: random starts at each of them.
        steps: of training an autoencoder.
        batch: samples a step.
        rate: of learning.
        samples: that scores and edits are measured on.
        seed: of everything random.
    """

    n: int = 20
    m: int = 8
    density: float = 0.05
    variant: str = "all"
    model: str = "train"
    latents: int = 0
    values: int = 4
    starts: int = 2
    steps: int = 3000
    batch: int = 512
    rate: float = 3e-3
    samples: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting that is out of range."""
        for name, least in (("n", 2), ("m", 1), ("latents", 0), ("values", 1), ("starts", 1), ("steps", 1), ("batch", 1)):
            _require(name, getattr(self, name), least <= getattr(self, name) <= MOST, f"at least {least}, at most {MOST}")
        _require("m", self.m, self.m <= self.n, f"at most n = {self.n}")
        _require("density", self.density, 0 < self.density <= 1, "a density in (0, 1]")
        unknown = [name for name in self.variants if name not in VARIANTS]
        once = len(set(self.variants)) == len(self.variants)
        _require("variant", self.variant, once and not unknown, f"all, or of {', '.join(VARIANTS)}, each once")
        _require("model", self.model, self.model in ("train", "solve"), "train or solve")
        _require("rate", self.rate, 0 < self.rate < inf, "a positive rate")
        enough = max(100, self.latents, self.n)
        _require(
            "samples", self.samples, enough <= self.samples <= MOST, f"at least {enough}: 100, the latents, the features"
        )
        _require("seed", self.seed, 0 <= self.seed < 2**32, "an integer in [0, 2^32)")

    @property
    def variants(self) -> tuple[str, ...]:
        """The kinds that are asked for."""
        return VARIANTS if self.variant == "all" else tuple(self.variant.split(","))


SHAPES = ("digon", "pair", "triangle", "square", "pentagon", "antiprism", "family")
"""Arrangements of features whose recovery can be mapped."""


@dataclass(frozen=True)
class Recovery:
    """Where an autoencoder's optimum is the truth: a map over penalty and density for one arrangement of features.

    Args:
        shape: digon, pair (two features in a plane, `angle` apart), triangle, square, pentagon, antiprism (8 in 3 dimensions), or
            family (a parent and a child, which is active in `child` of the parent's inputs, at right angles).
        angle: between the two features of a pair, in degrees, above 0, at most 180.
        child: of a family, in (0, 1).
        densities: grid points from `density_min` to `density_max`, evenly in log density.
        penalties: grid points from `penalty_min` to `penalty_max`, evenly in log penalty.
        restarts: random starts a cell, besides the truth.
        density_min: smallest density, in (0, 1].
        density_max: largest density, in (0, 1].
        penalty_min: smallest penalty, above 0.
        penalty_max: largest penalty.
        nodes: frequencies of each axis of the exact loss's series, from 8 to 256.
        gap: the largest gap of a certified minimum, as a share of its loss.
    """

    shape: str = "digon"
    angle: float = 60.0
    child: float = 0.3
    densities: int = 6
    penalties: int = 6
    restarts: int = 4
    density_min: float = 0.01
    density_max: float = 0.3
    penalty_min: float = 0.01
    penalty_max: float = 1.0
    nodes: int = 32
    gap: float = 1e-4

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting that is out of range."""
        _require("shape", self.shape, self.shape in SHAPES, f"one of {', '.join(SHAPES)}")
        _require("angle", self.angle, 0 < self.angle <= 180, "degrees above 0, at most 180")
        _require("child", self.child, 0 < self.child < 1, "a number in (0, 1)")
        for name in ("densities", "penalties", "restarts"):
            _require(name, getattr(self, name), 1 <= getattr(self, name) <= MOST, f"at least 1, at most {MOST}")
        _require("density_min", self.density_min, 0 < self.density_min <= 1, "a density in (0, 1]")
        upper = f"a density in [{self.density_min}, 1]"
        _require("density_max", self.density_max, self.density_min <= self.density_max <= 1, upper)
        _require("penalty_min", self.penalty_min, 0 < self.penalty_min < inf, "a positive penalty")
        above = self.penalty_min <= self.penalty_max < inf
        _require("penalty_max", self.penalty_max, above, f"at least penalty_min = {self.penalty_min}")
        _require("nodes", self.nodes, 8 <= self.nodes <= 256, "from 8 to 256")
        _require("gap", self.gap, 0 < self.gap < 1, "a number in (0, 1)")


@dataclass(frozen=True)
class Processes:
    """The processes that share a computation; each computes its part on its own devices, and the first one reports.

    Args:
        distributed: several processes, which JAX finds by itself under SLURM, Kubernetes and others.
        coordinator: HOST:PORT of the first process, where nothing is detected; implies `distributed`.
        processes: how many there are, with `coordinator`.
        process: which one this is, from 0, with `coordinator`.
        patience: seconds to wait for the others to come, and without a sign of life until one counts as dead.
    """

    distributed: bool = False
    coordinator: str = ""
    processes: int = 1
    process: int = 0
    patience: int = 100

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting that is out of range."""
        host, _, port = self.coordinator.rpartition(":")
        address = host != "" and port.isdecimal() and 1 <= int(port) <= 65535
        _require("coordinator", self.coordinator, address or not self.coordinator, "HOST:PORT, the port from 1 to 65535")
        _require("processes", self.processes, self.processes >= 1, "at least 1")
        _require("process", self.process, 0 <= self.process < self.processes, f"a number from 0 to {self.processes - 1}")
        given = self.processes == 1 or bool(self.coordinator)
        _require("processes", self.processes, given, "a coordinator, HOST:PORT; or --distributed alone to detect all")
        _require("patience", self.patience, self.patience >= 1, "at least 1 second")

    @property
    def several(self) -> bool:
        """Whether there are other processes."""
        return self.distributed or bool(self.coordinator)


def _require(name: str, value: object, holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {value}: needs {what}")
