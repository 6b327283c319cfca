"""Slow loops in plain NumPy, straight from the definitions: what the library must agree with.

`W` has shape `(m, n)`; column `W[:, i]` is the direction of feature i. All in float64.
"""

import math

import numpy as np


def columns(W):
    """The directions, as a list of n lists of m Python floats."""
    return np.asarray(W, np.float64).T.tolist()


def dot(a, b):
    """`sum_k a_k b_k`, correctly rounded."""
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def gram(W):
    """`G_ij = W_i . W_j`."""
    return np.array([[dot(a, b) for b in columns(W)] for a in columns(W)])


def interference(W):
    """`W_i . W_j` for i != j, 0 for i = j."""
    G = gram(W)
    for i in range(len(G)):
        G[i, i] = 0.0
    return G


def cosines(W):
    """`W_i_hat . W_j_hat` for all ordered pairs i != j, 0 where a column is 0."""
    found = []
    for i, a in enumerate(columns(W)):
        for j, b in enumerate(columns(W)):
            if i != j:
                lengths = math.sqrt(dot(a, a)) * math.sqrt(dot(b, b))
                found.append(dot(a, b) / lengths if lengths > 0 else 0.0)
    return found


def coherence(W):
    """The largest `|cos|` of a pair."""
    return max(abs(c) for c in cosines(W))


def signed_coherence(W):
    """The largest `cos` of a pair."""
    return max(cosines(W))


def feature_dimensionality(W):
    """`D_i = |W_i|^2 / sum_j (W_i_hat . W_j)^2`, 0 for a zero column."""
    found = []
    for a in columns(W):
        length = math.sqrt(dot(a, a))
        if length == 0:
            found.append(0.0)
        else:
            found.append(length**2 / math.fsum((dot(a, b) / length) ** 2 for b in columns(W)))
    return np.array(found)


def frame_potential(W):
    """`sum_ij (W_i . W_j)^2`."""
    return math.fsum(dot(a, b) ** 2 for a in columns(W) for b in columns(W))


def reconstruct(W, b, x, output="relu"):
    """`x'_i = f(b_i + sum_j (W_i . W_j) x_j)`, f ReLU or the identity."""
    y = [b_i + dot(row, x) for b_i, row in zip(b, gram(W), strict=True)]
    return np.array([max(y_i, 0.0) for y_i in y] if output == "relu" else y)


def loss(W, b, x, importance, output="relu"):
    """`sum_i importance_i (x_i - x'_i)^2` at one input."""
    error = x - reconstruct(W, b, x, output)
    return math.fsum(w * e**2 for w, e in zip(importance, error, strict=True))


def one_latent(p, penalty):
    """The optimum of one feature and one latent: a soft threshold, `z = r(x - d - t)` with t half of the penalty; `b_dec = d`.

    Where the latent is on, the gradient in gain and bias asks for a residual of t everywhere; `d` solves a quadratic equation.
    """
    t = penalty / 2
    half = (1 - p) + t * p
    d = (-half + (half**2 + p**2 * (2 * t - t**2)) ** 0.5) / p
    s = d + t
    active = (t**3 + d**3) / 3 + (1 - s) * t**2 + t * (1 - s) ** 2
    return d, (1 - p) * d**2 + p * active
