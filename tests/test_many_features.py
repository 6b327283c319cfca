"""Blocks of columns against the same quantities of the whole matrix, brute force, known answers; and memory."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close, assert_matches_simulation

from superpose import frames, interference, many_features
from superpose.many_features import blocks, dimensionality, histograms, pairs, tiles

M, N = 6, 83
DTYPE = np.dtype(jnp.zeros(()).dtype)
memories = pytest.mark.parametrize("memory", [4000, 20_000, many_features.MEMORY])
judged = pytest.mark.parametrize("signed", [False, True])


def awkward(seed=0):
    """Random columns of very different lengths, with zero, repeated and antipodal ones in different blocks."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(M, N)) * 10 ** rng.uniform(-2, 0, N)
    W[:, [4, N - 1]] = 0
    W[:, N // 2], W[:, N - 3] = W[:, 3], -2 * W[:, 7]
    return W.astype(DTYPE)


def whole(seed=1):
    """Small whole numbers: their products are exact, and many tie."""
    return np.random.default_rng(seed).integers(-2, 3, (3, N)).astype(DTYPE)


def cosines(W):
    length = np.linalg.norm(W.astype(np.float64), axis=0)
    unit = W / np.where(length > 0, length, 1)
    return unit.T @ unit


def judge(value, signed):
    """What pairs are ordered by, -inf on the diagonal."""
    score = np.where(np.eye(len(value), dtype=bool), -np.inf, value if signed else np.abs(value))
    return score.astype(np.float64)


@pytest.mark.x64
def test_blocks_are_several_and_ragged():
    widths = [blocks.width(awkward(), memory, fixed=48 * M**2, each=M * 56) for memory in (4000, 20_000)]
    assert widths == [6, 54]
    assert all(1 < tiles.tile_width(awkward(), memory) < N / 2 for memory in (4000, 20_000))
    read = [start for start, _ in blocks.stream(awkward(), 54)]
    assert read == [0, 54]
    assert not np.any(blocks.read(awkward(), 54, 54)[:, N - 54 :])


@memories
def test_dimensionality_is_that_of_the_whole(memory):
    W = awkward()
    D = many_features.feature_dimensionality(W, memory=memory)
    assert D.dtype == DTYPE
    assert not np.any(D[[4, N - 1]])
    # Each entry on its own. Lengths differ 100 times, and eps l / s <= 2e-16 x 1e4 x N in float64.
    np.testing.assert_allclose(D, interference.feature_dimensionality(jnp.asarray(W)), rtol=max(2e-10, 64 * EPS))


@pytest.mark.x64
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1.0, 1e-2, 1e-4, 1e-5])
def test_a_short_column_alone_in_its_dimension_errs_as_stated(dtype, length):
    rng = np.random.default_rng(2)
    turn, W = np.linalg.qr(rng.normal(size=(M, M)))[0], np.zeros((M, 40))
    W[: M - 1, 1:], W[M - 1, 0] = rng.normal(size=(M - 1, 39)), length
    W = (turn @ W).astype(dtype)
    exact = W.astype(np.longdouble)
    square = np.sum(exact**2, axis=0)
    expected = square**2 / np.sum((exact.T @ exact) ** 2, axis=1)
    error = np.abs(many_features.feature_dimensionality(W, memory=20_000) / expected - 1)
    eps = np.finfo(dtype).eps / 2
    largest = np.linalg.eigvalsh(np.asarray(exact @ exact.T, np.float64))[-1]
    stated = eps + (eps**2 + 1e-16) * largest / np.asarray(square / expected, np.float64)
    assert np.all(error <= 16 * stated)  # tens of roundings, at random


@pytest.mark.parametrize("frame", [frames.polygon(5), frames.simplex(9), frames.square_antiprism(), frames.polygon(3)])
def test_dimensionality_of_copies_of_a_frame(frame):
    copies = 25  # copies of a tight frame make one
    D = many_features.feature_dimensionality(jnp.tile(frame, copies), memory=5000)
    assert_close(D, np.full(frame.shape[1] * copies, frame.shape[0] / frame.shape[1] / copies))


def test_nothing_stored():
    W = np.zeros((2, 5))
    assert not np.any(many_features.feature_dimensionality(W))
    assert many_features.coherence(W) == 0
    np.testing.assert_array_equal(many_features.nearest_neighbours(W).index, [1, 0, 0, 0, 0])


@memories
@judged
def test_nearest_neighbours_by_brute_force(memory, signed):
    W = awkward()
    score = judge(cosines(W), signed)
    index, value = many_features.nearest_neighbours(W, signed=signed, memory=memory)
    everyone = np.arange(N)
    assert np.all(index != everyone)
    assert_close(value, cosines(W)[everyone, index])
    assert_close(score[everyone, index], score.max(1))


@memories
@judged
def test_of_equal_neighbours_the_lowest_counts(memory, signed):
    W = whole()
    index, value = many_features.nearest_neighbours(W, signed=signed, unit=False, memory=memory)
    expected = judge(W.T @ W, signed).argmax(1)  # the first of equal ones
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_array_equal(value, (W.T @ W)[np.arange(N), expected])


@memories
@judged
@pytest.mark.parametrize("k", [1, 30, N * (N - 1) // 2])
def test_top_pairs_by_brute_force_with_ties_in_order(memory, signed, k):
    W = whole()
    i, j = np.triu_indices(N, 1)
    order = np.argsort(-judge(W.T @ W, signed)[i, j], kind="stable")[:k]  # by score, then i, then j
    top = many_features.top_pairs(W, k, signed=signed, unit=False, memory=memory)
    for mine, expected in zip(top, (i[order], j[order], (W.T @ W)[i, j][order]), strict=True):
        np.testing.assert_array_equal(mine, expected)


@memories
def test_top_cosines_by_brute_force(memory):
    W = awkward()
    i, j, value = many_features.top_pairs(W, 20, memory=memory)
    assert_close(value, cosines(W)[i, j])
    assert_close(np.abs(value), -np.sort(-np.abs(cosines(W)[np.triu_indices(N, 1)]))[:20])
    assert {(3, N // 2), (7, N - 3)} == set(zip(i[:2].tolist(), j[:2].tolist(), strict=True))


@memories
def test_coherences_are_those_of_the_whole(memory):
    W = np.random.default_rng(5).normal(size=(M, N)).astype(DTYPE)
    assert_close(many_features.coherence(W, memory=memory), interference.coherence(jnp.asarray(W)))
    assert_close(many_features.signed_coherence(W, memory=memory), interference.signed_coherence(jnp.asarray(W)))


def test_coherences_of_known_sets():
    assert_close(many_features.coherence(frames.simplex(20), memory=12_000), 1 / 19)
    assert_close(many_features.signed_coherence(frames.simplex(20), memory=12_000), -1 / 19)
    assert many_features.coherence(frames.antipodal_pairs(20), memory=12_000) == 1
    assert many_features.signed_coherence(frames.antipodal_pairs(20), memory=12_000) == 0
    assert_close(many_features.coherence(frames.icosahedron_diagonals()), 5**-0.5)


@memories
def test_histogram_counts_every_pair_once(memory):
    W = whole()
    product = (W.T @ W)[np.triu_indices(N, 1)].astype(int)
    found = many_features.histogram(W, bins=25, limit=12.5, unit=False, memory=memory)  # |W_i . W_j| <= 12
    np.testing.assert_array_equal(found.edges, np.arange(26) - 12.5)
    np.testing.assert_array_equal(found.counts, np.bincount(product + 12, minlength=25))
    assert not np.any(found.standard_error)
    narrow = many_features.histogram(W, bins=5, limit=2.5, unit=False, memory=memory)
    np.testing.assert_array_equal(narrow.counts, np.bincount(np.clip(product, -2, 2) + 2))


@memories
def test_histogram_of_cosines(memory):
    W = awkward()
    counts = many_features.histogram(W, bins=7, memory=memory).counts
    assert counts.sum() == N * (N - 1) / 2
    # Seven bins: cosines of 0, +1 and -1, which rounding could move, lie inside or at the closed ends.
    expected, _ = np.histogram(np.clip(cosines(W)[np.triu_indices(N, 1)], -1, 1), np.linspace(-1, 1, 8))
    np.testing.assert_array_equal(counts, expected)


def test_all_features_as_probes_give_the_histogram():
    W = whole()
    found = many_features.sampled_histogram(W, jax.random.key(0), probes=N, bins=25, limit=12.5, unit=False, memory=200_000)
    exact = many_features.histogram(W, bins=25, limit=12.5, unit=False)
    assert_close(found.counts, exact.counts, 1e-13)  # a mean in float64
    assert not np.any(found.standard_error)


@pytest.mark.x64
def test_probes_estimate_counts_and_their_own_error():
    W, probes, draws = whole()[:, :40], 36, 1500
    exact = many_features.histogram(W, bins=5, limit=2.5, unit=False).counts
    value = np.clip(W.T @ W, -2, 2).astype(int)
    each = np.array([np.bincount(np.delete(row, i) + 2, minlength=5) for i, row in enumerate(value)])
    variance = 20**2 * (1 - probes / 40) * each.var(0, ddof=1) / probes  # of a mean drawn without replacement
    drawn = [
        many_features.sampled_histogram(W, key, probes=probes, bins=5, limit=2.5, unit=False)
        for key in jax.random.split(jax.random.key(6), draws)
    ]
    counts = np.stack([d.counts for d in drawn])
    assert_matches_simulation(counts, exact)
    assert_matches_simulation(np.stack([d.standard_error for d in drawn]) ** 2, variance)
    # And it is the spread: of 1,500 nearly Gaussian draws it is known to 2 %, at 5 of them.
    np.testing.assert_allclose(counts.std(0), np.sqrt(variance), rtol=0.1)


@pytest.mark.x64
def test_every_source_gives_the_same(tmp_path):
    W = awkward()
    np.save(tmp_path / "W.npy", np.asfortranarray(W))
    forms = [
        jnp.asarray(W),
        np.load(tmp_path / "W.npy", mmap_mode="r"),
        many_features.Columns(lambda start, stop: W[:, start:stop], n=N, m=M, dtype=W.dtype),
    ]
    for function in (many_features.feature_dimensionality, many_features.nearest_neighbours, many_features.histogram):
        for form in forms:
            mine, expected = function(form, memory=4000), function(W, memory=4000)
            jax.tree.map(np.testing.assert_array_equal, mine, expected)


@pytest.mark.x64
def test_precision_follows_the_matrix_whatever_jax_is_set_to():
    W = np.random.default_rng(7).normal(size=(3, 20))
    gram = W.T @ W
    D = many_features.feature_dimensionality(W, memory=4000)
    np.testing.assert_allclose(D, np.diag(gram) ** 2 / np.sum(gram**2, axis=1), rtol=1e-13)
    np.testing.assert_allclose(many_features.coherence(W), np.abs(cosines(W) - np.eye(20)).max(), rtol=1e-14)
    assert many_features.feature_dimensionality(W.astype(np.float16)).dtype == np.float32
    assert jax.config.jax_enable_x64 == (np.float64 == DTYPE)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: many_features.nearest_neighbours(np.ones((3, 1))), "n = 1, the columns of W: needs n >= 2"),
        (lambda: many_features.histogram(np.ones((3, 1))), "n = 1, the columns of W: needs n >= 2"),
        (lambda: many_features.feature_dimensionality(np.ones(3)), r"W has shape \(3,\): needs \(m, n\)"),
        (lambda: many_features.histogram(np.full((2, 3), "a")), "W has entries of type <U1: needs real numbers"),
        (lambda: many_features.top_pairs(np.zeros((2, 3), "M8[s]")), r"W has entries of type datetime64\[s\]: needs real"),
        (lambda: many_features.coherence(np.zeros((2, 3), "m8[s]")), r"W has entries of type timedelta64\[s\]: needs real"),
        (
            lambda: many_features.nearest_neighbours(np.zeros((2, 3), "f4,f4")),
            "W has entries of type .*: needs real numbers",
        ),
        (lambda: many_features.feature_dimensionality(np.zeros((2, 3), complex)), "W has entries of type complex128: needs"),
        (lambda: many_features.feature_dimensionality(np.ones((3, 9)), memory=50), r"memory = 50: needs at least \d+ bytes"),
        (lambda: many_features.coherence(np.ones((3, 9)), memory=50), r"memory = 50: needs at least \d+ bytes"),
        (lambda: many_features.top_pairs(np.ones((3, 9)), 0), "k = 0: needs 1 to 36"),
        (lambda: many_features.top_pairs(np.ones((3, 9)), 37), "k = 37: needs 1 to 36"),
        (lambda: many_features.histogram(np.ones((3, 9)), bins=0), "bins = 0: needs at least 1"),
        (lambda: many_features.histogram(np.ones((3, 9)), limit=0.0), "limit = 0.0: needs to be positive"),
        (lambda: many_features.sampled_histogram(np.ones((3, 9)), jax.random.key(0)), "probes = 1000: needs 2 to n = 9"),
        (
            lambda: many_features.coherence(many_features.Columns(lambda a, b: np.ones((b - a, 3)), n=9, m=3)),
            r"W\[:, 0:9\] has shape \(9, 3\): needs \(3, 9\)",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.x64
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize(
    "function",
    [
        many_features.feature_dimensionality,
        many_features.nearest_neighbours,
        many_features.top_pairs,
        many_features.coherence,
        many_features.histogram,
        lambda W, memory: many_features.sampled_histogram(W, jax.random.key(0), probes=9, memory=max(memory, 80_000)),
    ],
)
def test_a_column_that_is_not_finite_is_named(function, value):
    W = awkward().astype(np.float64)
    W[2, 70] = value
    source = many_features.Columns(lambda start, stop: W[:, start:stop], n=N, m=M)  # float32, where 1e200 is infinite
    with pytest.raises(ValueError, match="W has nan or inf in column 70: needs finite numbers"):
        function(source, memory=20_000)


@pytest.mark.x64
def test_one_huge_column_leaves_the_others_right():
    W = np.random.default_rng(3).normal(size=(M, N))
    expected = cosines(W)
    W[:, 5] *= 1e200
    near = many_features.nearest_neighbours(W, memory=20_000)
    assert_close(near.value, expected[np.arange(N), near.index])
    assert_close(np.abs(near.value), np.where(np.eye(N, dtype=bool), 0, np.abs(expected)).max(1))
    D = many_features.feature_dimensionality(W, memory=20_000)
    assert_close(D, np.arange(N) == 5)  # it takes its direction from all others, whose shares are 1e-400


@pytest.mark.x64
@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e-30), (np.float32, 1e30), (np.float64, 1e-170), (np.float64, 1e200)]
)
def test_lengths_are_all_that_the_type_holds(dtype, size):
    W = np.random.default_rng(4).normal(size=(M, N)).astype(dtype)
    for memory in (4000, many_features.MEMORY):
        few = np.where(np.arange(N) < 50, np.zeros((), dtype), W)  # the first blocks hold zeros alone
        for whole in (W, few):
            D = many_features.feature_dimensionality(whole * dtype(size), memory=memory)
            np.testing.assert_allclose(
                D, many_features.feature_dimensionality(whole, memory=memory), rtol=64 * np.finfo(dtype).eps
            )
        assert np.isclose(many_features.coherence(W * dtype(size), memory=memory), many_features.coherence(W), rtol=1e-6)


@pytest.mark.x64
def test_a_feature_lost_in_rounding_is_named():
    W = np.concatenate([np.random.default_rng(5).normal(size=(M - 1, 40)), np.zeros((1, 40))])
    W[:, 3] = 1e-30 * np.eye(M)[-1]
    with pytest.warns(UserWarning, match="D_i is lost in rounding for column 3, far shorter than others of W"):
        D = many_features.feature_dimensionality(W)
    assert np.all((D >= 0) & (D <= 1))


@pytest.mark.x64
def test_products_that_overflow_are_refused():
    W = np.full((3, 4), 1e30, np.float32)
    for function in (many_features.histogram, many_features.top_pairs, many_features.nearest_neighbours):
        with pytest.raises(ValueError, match=r"unit = False with entries of W up to 1e\+30: products overflow in float32"):
            function(W, unit=False)
    with pytest.raises(ValueError, match=r"unit = False with entries of W up to 1e\+30"):
        many_features.sampled_histogram(W, jax.random.key(0), probes=2, unit=False)


def scratch(step, *arguments, **static):
    """Bytes that a compiled step takes beside its arguments and results."""
    with jax.enable_x64(True):
        compiled = jax.jit(step.__wrapped__, static_argnames=tuple(static)).lower(*arguments, **static).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.x64
@pytest.mark.parametrize(("m", "b"), [(1024, 512), (32, 1024)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_step_stays_within_what_the_block_width_allows(m, b, dtype):
    """Block widths come from copies counted by hand; this counts those of the compiler."""
    size, s, bins = np.dtype(dtype).itemsize, 300, 200
    block, rows, index = np.zeros((m, b), dtype), np.zeros((b, m), dtype), np.zeros(4 * b, np.int32)
    tile, value = tiles.Tile(0, rows, b, rows, 4 * b), np.zeros(4 * b, dtype)
    square = tiles.SQUARES * size * b * b
    assert scratch(pairs._nearer, (value, value, index), tile, signed=False, unit=True) <= square
    assert scratch(pairs._merge, (value, index, index, value), tile, signed=False, unit=True) <= square
    assert scratch(histograms._add_counts, np.zeros(bins, np.int64), tile, 1.0, unit=True) <= square
    counts, probes, places = np.zeros((s, bins), np.int64), np.zeros((s, m), dtype), np.zeros(s, np.int64)
    taken = scratch(histograms._add_probe_counts, counts, probes, places, 0, block, 4 * b, 1.0)
    assert taken <= size * b * (m + 6 * s) + 40 * bins * s
    held = m * b * (4 * size + 24) + 24 * m * m  # three blocks and, when M is summed, three triangles beside the scratch
    strips = [np.zeros((len(range(m)[k]), m - k.start)) for k in dimensionality._strips(m)]
    scale = np.ones((1, 1))
    assert scratch(dimensionality._add_products, strips, scale, block) <= held - 3 * m * b * size
    assert scratch(dimensionality._shares, np.zeros((m, m), dtype), block, scale, 0.0) <= held - 3 * m * b * size


def in_process(code, timeout=300):
    """Numbers printed by a process of its own, whose peak memory is then known."""
    head = """
        import numpy as np
        from superpose import many_features

        def peak():  # of this program; what getrusage tells begins with the memory of the process that started it
            return 1024 * int(next(x for x in open("/proc/self/status") if x.startswith("VmHWM")).split()[1])
    """
    script = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return [float(x) for x in done.stdout.split()]


@pytest.mark.x64
def test_peak_memory_does_not_grow_with_the_number_of_features():
    gram = 4 * 12_000**2  # bytes
    before, after = in_process("""
        def run(n):
            def read(start, stop):
                return np.sin(np.arange(start, stop) * np.arange(1, 65)[:, None]).astype(np.float32)

            W = many_features.Columns(read, n=n, m=64)
            memory = 2**22
            D = many_features.feature_dimensionality(W, memory=memory)
            near = many_features.nearest_neighbours(W, memory=memory)
            top = many_features.top_pairs(W, 100, memory=memory)
            counts = many_features.histogram(W, memory=memory).counts
            assert counts.sum() == n * (n - 1) / 2

        run(2_000)
        print(peak())
        run(12_000)
        print(peak())
    """)
    assert after - before < gram / 16  # programs for other shapes, results, fragments of the allocator


@pytest.mark.slow
def test_a_million_features_of_1024_dimensions_in_one_gigabyte():
    # Orthonormal axes shared by features of different lengths: D_i = |W_i|^2 / sum of |W_j|^2 on the same axis.
    memory, error = in_process("""
        from scipy.linalg import hadamard

        n, m = 1_000_000, 1024
        axes = (hadamard(m) / 32).astype(np.float32)
        length = np.random.default_rng(0).uniform(0.5, 1, n).astype(np.float32)
        read = lambda start, stop: axes[:, np.arange(start, stop) % m] * length[start:stop]
        D = many_features.feature_dimensionality(many_features.Columns(read, n=n, m=m))
        square = np.float64(length) ** 2
        expected = square / np.bincount(np.arange(n) % m, square)[np.arange(n) % m]
        print(peak(), np.max(np.abs(D / expected - 1)))
    """)
    assert memory < 2**30  # W has 4.1 GB
    assert error < 1e-5  # float32, sums of 1,024 squares


@pytest.mark.x64
def test_a_transposed_matrix_brings_a_warning_at_the_line_that_gave_it():
    W = np.random.default_rng(6).normal(size=(40, 6))
    for function in (many_features.feature_dimensionality, many_features.coherence, many_features.histogram):
        with pytest.warns(UserWarning, match=r"W has shape \(m, n\) = \(40, 6\), more dimensions than features") as seen:
            function(W)
        assert len(seen) == 1
