"""What does this neuron do? Which features each neuron serves, which neurons each feature uses, and how many of each.

A hidden layer with a privileged basis (`superpose.hidden_layer`) has neurons that mean something one by one. `weights` has
shape (m, n): row k belongs to neuron k, column i to feature i; what neurons read (`W`, `W_in`), or what they write
(`W_out.T`). Asked of the transposed weights, each question is about features. Works on saved NumPy arrays.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "Superposition in a Privileged Basis", where a neuron is
monosemantic if it serves one feature and polysemantic if it serves more.
"""

import numpy as np
from jaxtyping import Bool, Float

from superpose.weights import check, check_finite

MINUS = "\N{MINUS SIGN}"


def serves(weights: Float[np.ndarray, "m n"], *, threshold: float = 0.25, dead: float = 0.05) -> Bool[np.ndarray, "m n"]:
    """Which features each neuron serves: `|w_ki| > threshold max_j |w_kj|`, and none if the neuron is dead.

    Dead is a neuron with `max_j |w_kj| <= dead max |w|`: what is left in it is noise. `serves(weights.T).T` asks which neurons
    each feature uses, relative to the feature's largest weight; the two differ where sizes do.

    Args:
        weights: shape `(m, n)`.
        threshold: in (0, 1).
        dead: in [0, 1).

    Raises:
        ValueError: `threshold` or `dead` out of range, or `weights` is not one matrix of finite real numbers. No shape is taken
            for transposed: more neurons than features are usual, and each question may be asked of the transposed weights.
    """
    check(weights, "weights")
    check_finite(weights, "weights")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold = {threshold}: needs to lie in (0, 1)")
    if not 0 <= dead < 1:
        raise ValueError(f"dead = {dead}: needs to lie in [0, 1)")
    size = np.abs(np.asarray(weights))
    largest = size.max(axis=1, keepdims=True, initial=0)
    return (size > threshold * largest) & (largest > dead * size.max(initial=0))


def counts(served: Bool[np.ndarray, "m n"]) -> dict[str, float | np.ndarray]:
    """The answer in numbers, from `serves`.

    Returns:
        `features` (m,), how many each neuron serves; `monosemantic` and `polysemantic`, the shares of the living neurons that
        serve one feature and more (nan if none lives); `dead`, the share of all neurons that serve none; and `neurons` (n,),
        how many neurons serve each feature.

    Raises:
        ValueError: `served` is not one matrix.
    """
    check(served, "served")
    served = np.asarray(served)
    features = served.sum(1)
    alive = features > 0
    share = float(np.mean(features[alive] == 1)) if alive.any() else float("nan")
    return {
        "features": features,
        "neurons": served.sum(0),
        "monosemantic": share,
        "polysemantic": 1 - share,
        "dead": float(np.mean(~alive)),
    }


def table(
    weights: Float[np.ndarray, "m n"],
    *,
    threshold: float = 0.25,
    dead: float = 0.05,
    row: str = "neuron",
    column: str = "feature",
) -> str:
    """The answer in words: a line a neuron with its features, the largest weight first, and a line that sums up.

    `table(weights.T, row="feature", column="neuron")` lists each feature's neurons.

    Raises:
        ValueError: as `serves`.
    """
    served = serves(weights, threshold=threshold, dead=dead)
    weights = np.asarray(weights)
    lines = [f"{row:>8}  {'what':<13} {column}s (weight)"]
    for k, (line, mine) in enumerate(zip(weights, served, strict=True)):
        order = [i for i in np.argsort(-np.abs(line), kind="stable") if mine[i]]
        what = _kind(len(order), column)
        lines.append(f"{k:>8}  {what:<13} " + ", ".join(f"{i} ({line[i]:.2f})".replace("-", MINUS) for i in order))
    kinds = [_kind(int(count), column) for count in served.sum(1)]
    lines.append("; ".join(f"{kind}: {kinds.count(kind)} of {len(kinds)} {row}s" for kind in dict.fromkeys(sorted(kinds))))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _kind(count: int, column: str) -> str:
    if column != "feature":
        return f"{count} {column}" + ("s" if count != 1 else "")
    return "dead" if count == 0 else "monosemantic" if count == 1 else "polysemantic"
