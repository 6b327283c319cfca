"""Feature distributions as data: who is active, how often, and how strongly.

A feature is `x_i = s_i u_i`: active (`s_i = 1`) with probability `p_i`, its density, with a magnitude `u_i` from a law of
`superpose.features.magnitudes`. Everything takes densities `p`, never sparsities `S = 1 - p`, which float32 cannot hold near 1.
The plain distributions have independent features; `Together`, `Exclusive` and `Tree` couple them, and a `Mixture` is one of several
distributions, whichever a hidden context chooses.

Reference: Elhage et al. 2022, "Toy Models of Superposition", sections 2 and 6 (correlated and anticorrelated features).
"""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float

from superpose.features import forest, magnitudes


@struct.dataclass
class Sparse:
    """Independent features, each active with probability `density`; use one of the four classes below.

    Args:
        density: probability that a feature is active, in (0, 1]; a scalar, or `(n,)` for one per feature.
    """

    density: Array | float
    magnitude: ClassVar[magnitudes.Magnitude]
    law: str = struct.field(pytree_node=False, default="", repr=False)  # jit takes classes of equal fields for one another


@struct.dataclass
class SparseUniform(Sparse):
    """Magnitudes u ~ U[0, 1]: the distribution of "Toy Models of Superposition"."""

    magnitude: ClassVar = magnitudes.UNIFORM
    law: str = struct.field(pytree_node=False, default="uniform", repr=False)


@struct.dataclass
class SparseBinary(Sparse):
    """Magnitude 1: a feature is on or off."""

    magnitude: ClassVar = magnitudes.BINARY
    law: str = struct.field(pytree_node=False, default="binary", repr=False)


@struct.dataclass
class SparseSymmetric(Sparse):
    """Magnitudes u ~ U[-1, 1]: a feature has a sign."""

    magnitude: ClassVar = magnitudes.SYMMETRIC
    law: str = struct.field(pytree_node=False, default="symmetric", repr=False)


@struct.dataclass
class SparseExponential(Sparse):
    """Magnitudes u ~ Exp(1), of mean 1 and unbounded."""

    magnitude: ClassVar = magnitudes.EXPONENTIAL
    law: str = struct.field(pytree_node=False, default="exponential", repr=False)


@struct.dataclass
class Together:
    """Sets of features that are active all at once or not at all, each with a magnitude of its own.

    Args:
        features: their magnitudes, and the density of a *set*, a scalar or `(number of sets,)`.
        sets: for each of the n features the number of its set, from 0 up: `(0, 0, 1, 1)` is two pairs.
    """

    features: Sparse
    sets: tuple[int, ...] = struct.field(pytree_node=False)
    coupling: str = struct.field(pytree_node=False, default="together", repr=False)


@struct.dataclass
class Exclusive:
    """Sets of features of which at most one is active at a time.

    Args:
        features: their magnitudes, and the density of each feature, a scalar or `(n,)`, adding up to at most 1 in each set.
        sets: for each of the n features the number of its set, from 0 up.
    """

    features: Sparse
    sets: tuple[int, ...] = struct.field(pytree_node=False)
    coupling: str = struct.field(pytree_node=False, default="exclusive", repr=False)


@struct.dataclass
class Tree:
    """Features in trees: one can be active only if its parent is.

    Args:
        features: their magnitudes, and as density the probability that a feature is active *once its parent is*, of a root that
            it is at all; a scalar or `(n,)`. So feature i is active with the product of the densities from its root down to it.
        parents: for each of the n features the number of its parent, -1 for a root: `(-1, 0, 0)` is a parent with two children.
        exclusive: whether at most one child of a parent is active at a time, their densities adding up to at most 1; else the
            children are independent once their parent is active. Roots are independent.
    """

    features: Sparse
    parents: tuple[int, ...] = struct.field(pytree_node=False)
    exclusive: bool = struct.field(pytree_node=False, default=False)
    coupling: str = struct.field(pytree_node=False, default="tree", repr=False)


@struct.dataclass
class Mixture:
    """One of several distributions of the same n features, chosen anew for each input by a hidden context.

    Args:
        contexts: a tuple of distributions, mixtures too; here a density may be 0, of a feature that a context does not have.
        weights: probability of each context, `(number of contexts,)`, adding up to 1.
    """

    contexts: tuple
    weights: Array
    coupling: str = struct.field(pytree_node=False, default="mixture", repr=False)


Coupled = Together | Exclusive | Tree
Distribution = Sparse | Coupled | Mixture


def magnitude(distribution: Distribution) -> magnitudes.Magnitude:
    """The law of an active feature's size; a mixture has one for each context.

    Raises:
        ValueError: a mixture.
    """
    if isinstance(distribution, Mixture):
        raise ValueError("distribution is a Mixture: has a law of magnitudes for each of its contexts, not one")
    return _features(distribution).magnitude


def _features(distribution: Sparse | Coupled) -> Sparse:
    return distribution if isinstance(distribution, Sparse) else distribution.features


def coupling(distribution: Sparse | Coupled, *, n: int) -> forest.Forest:
    """Which features are active with which, as a forest."""
    if isinstance(distribution, Mixture):
        raise ValueError("distribution is a Mixture: has a coupling for each of its contexts, not one")
    if isinstance(distribution, Together):
        return forest.together(distribution.sets)
    if isinstance(distribution, Exclusive):
        return forest.exclusive(distribution.sets)
    if isinstance(distribution, Tree):
        return forest.tree(distribution.parents, exclusive=distribution.exclusive)
    return forest.independent(n)


def given(distribution: Sparse | Coupled, *, n: int) -> Float[Array, " n"]:
    """Probability that each feature is active once its parent in `coupling` is, shape `(n,)`."""
    p = jnp.asarray(_features(distribution).density, float)
    if not isinstance(distribution, Together):
        return jnp.broadcast_to(p, (n,))
    root = np.array(coupling(distribution, n=n).parent) < 0
    return jnp.where(root, p[np.array(distribution.sets)] if p.ndim else p, 1)


def check(distribution: Distribution, *, n: int, absent: bool = False) -> None:
    """Hold what is known of `distribution` at trace time against `n` features.

    Args:
        distribution: to be held.
        n: number of features.
        absent: whether densities may be 0, as within a mixture.

    Raises:
        ValueError: no distribution of this module; a density, weights, sets or parents whose shape does not fit `n`; or, where the
            values are known, a density outside (0, 1], exclusive densities or weights that do not add up.
    """
    if not isinstance(distribution, Distribution):
        name = type(distribution).__name__
        raise ValueError(f"distribution is a {name}: needs one of superpose.features, such as SparseUniform(0.1)")
    if isinstance(distribution, Mixture):
        _check_mixture(distribution, n)
        return
    count, single = n, _features(distribution)
    if not isinstance(single, Sparse):
        raise ValueError(f"features is a {type(single).__name__}: needs one law for all, such as SparseUniform(0.1)")
    if isinstance(distribution, Tree):
        _check_numbers("parents", distribution.parents)
    if isinstance(distribution, Together | Exclusive):
        sets = distribution.sets
        _check_numbers("sets", sets)
        if len(sets) != n or set(sets) != set(range(max(sets, default=-1) + 1)):
            raise ValueError(f"sets = {sets}: needs one set number for each of n = {n} features, from 0 without gaps")
        count = max(sets) + 1 if isinstance(distribution, Together) else n
    if isinstance(distribution, Tree) and len(distribution.parents) != n:
        raise ValueError(f"parents = {distribution.parents}: needs one for each of n = {n} features")
    if np.shape(single.density) not in ((), (count,)):
        raise ValueError(f"density has shape {np.shape(single.density)}: needs a scalar or ({count},)")
    known = None if isinstance(distribution, Sparse) else coupling(distribution, n=n)
    if isinstance(single.density, Tracer):
        return
    values = np.asarray(single.density)
    if not np.all(((values > 0) | absent & (values == 0)) & (values <= 1)):
        raise ValueError(f"density = {values}: needs to lie in {'[' if absent else '('}0, 1]")
    if known is not None and not isinstance(distribution, Together):
        total = np.where(forest.siblings(known), np.broadcast_to(values, (n,)), 0).sum(1)
        if np.any(total > 1 + 1e-6):
            where = f"sets {distribution.sets}" if isinstance(distribution, Exclusive) else "children of one parent"
            raise ValueError(f"density adds up to {total.max()} in the {where}: exclusive features need at most 1 a set")


def _check_numbers(name: str, numbers: Any) -> None:
    if not isinstance(numbers, tuple | list) or not all(isinstance(x, int | np.integer) for x in numbers):
        raise ValueError(f"{name} = {numbers}: needs a tuple of whole numbers, which is known before anything is traced")


def _check_mixture(distribution: Mixture, n: int) -> None:
    contexts, weights = distribution.contexts, distribution.weights
    if not isinstance(contexts, tuple) or not contexts or np.shape(weights) != (len(contexts),):
        count = len(contexts) if isinstance(contexts, tuple) else type(contexts).__name__
        raise ValueError(f"contexts = {count}, weights of shape {np.shape(weights)}: needs a tuple, and a weight for each")
    for context in contexts:
        check(context, n=n, absent=True)
    if not isinstance(weights, Tracer):
        known = np.asarray(weights)
        if not (np.all(known >= 0) and abs(known.sum() - 1) <= 1e-6):
            raise ValueError(f"weights = {known}: need to be at least 0 and to add up to 1")
