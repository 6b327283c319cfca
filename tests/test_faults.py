"""Sweeps whose processes die, never come, or are many: what is left goes on to the same bits, and everybody is told.

The processes come from a fork server that has imported the library, so each starts in a fraction of a second. Their float type
is their own matter (float32), so all run once.
"""

import contextlib
import multiprocessing
import os
import socket
import time
from collections import Counter

import numpy as np
import pytest

from superpose import processes, results
from superpose.settings import Processes
from tests import sweep_job
from tests.sweep_job import CHUNKS, DEVICES, Settings

pytestmark = pytest.mark.x64

LONG = Settings(work=30)
ALONE = Processes()
IN_FLIGHT = DEVICES * max(1, len(os.sched_getaffinity(0)) // DEVICES)
"""Chunks a process works on at a time."""


@pytest.fixture(scope="module")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.sweep_job"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # `processes.begin` sets it, but has to come before jax
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")  # processes that are killed would leave half a program
        context.Process(target=int).start()  # the server starts with the first
    return context


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """The bits of one process that nobody disturbs, and the seconds it takes."""
    begin(server, tmp_path_factory.mktemp("warm")).join(300)
    folder, start = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    process = begin(server, folder)
    process.join(300)
    assert process.exitcode == 0, said(folder)
    return bits(folder), time.monotonic() - start


def begin(server, folder, shared=ALONE, settings=LONG):
    """Start one process; what it computes and says goes to files beside the folder."""
    process = server.Process(target=sweep_job.job, args=(folder, settings, log_of(folder, shared.process), shared))
    process.start()
    return process


def pair(server, folder, patience=60):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [Processes(coordinator=address, processes=2, process=k, patience=patience) for k in (0, 1)]
    return [begin(server, folder, shared) for shared in both]


def log_of(folder, process=0):
    return folder.with_name(f"{folder.name}-{process}.log")


def computed(folder):
    """How often each chunk was computed, over all processes and runs."""
    logs = folder.parent.glob(f"{folder.name}-?.log")
    return Counter(line for log in logs for line in log.read_text().splitlines())


def said(folder, process=0):
    return log_of(folder, process).with_suffix(".log.stderr").read_text()


def told(folder, process):
    """What one of several processes said that has failed: another one passes it on, perhaps a little after the end."""
    deadline = time.monotonic() + 10
    while not said(folder, process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return said(folder, process)


def bits(folder):
    dataset = results.load(folder / "sweep.nc")
    return {name: (x.dims, x.values.dtype, x.values.tobytes()) for name, x in dataset.variables.items()}


def kept(folder):
    """The chunks there and when they were written; a run that is done removes them, perhaps while we look."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for path in folder.glob(".sweep.chunks/*-*.npz"):
            found[path] = path.stat().st_mtime_ns
    return found


def wait_for_chunks(folder, process, count=1):
    deadline = time.monotonic() + 120
    while len(kept(folder)) < count:
        assert process.exitcode is None, said(folder)
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill_and_go_on(server, undisturbed, folder, kills, rng):
    """Kill a run at random moments, each time going on, and let it finish; begin anew where it gets through before."""
    expected, seconds = undisturbed
    while kills > 0:
        since, process = 0, begin(server, folder)
        while kills > 0 and process.exitcode is None:
            process.join(rng.uniform(0, seconds))
            if process.exitcode is None:
                before = kept(folder)
                process.kill()
                process.join()
                assert before.items() <= kept(folder).items() or (folder / "sweep.nc").exists()  # what was there stays
                since, kills, process = since + 1, kills - 1, begin(server, folder)
        process.join(300)
        assert process.exitcode == 0, said(folder)
        finish(folder, expected, since)
        assert said(folder) == ""
        (folder / "sweep.nc").unlink()
        log_of(folder).unlink()


def finish(folder, expected, kills):
    assert bits(folder) == expected
    assert [path.name for path in folder.iterdir()] == ["sweep.nc"]
    again = computed(folder)
    assert len(again) == CHUNKS
    assert sum(again.values()) <= CHUNKS + kills * IN_FLIGHT


def test_killed_sweep_goes_on_to_the_same_bits(server, undisturbed, tmp_path):
    kill_and_go_on(server, undisturbed, tmp_path, 8, np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_sweep_killed_a_hundred_times_goes_on_to_the_same_bits(server, undisturbed, tmp_path, seed):
    kill_and_go_on(server, undisturbed, tmp_path, 10, np.random.default_rng(100 + seed))


def test_two_processes_of_two_devices_equal_one(server, undisturbed, tmp_path):
    both = pair(server, tmp_path)
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0], (said(tmp_path), said(tmp_path, 1))
    assert bits(tmp_path) == undisturbed[0]
    assert "4 x cpu" in results.load(tmp_path / "sweep.nc").attrs["device"]
    shares = [set(log_of(tmp_path, k).read_text().split()) for k in (0, 1)]
    assert [len(share) for share in shares] == [CHUNKS // 2, CHUNKS // 2]
    assert not shares[0] & shares[1]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.nc"]


def peer_dies(server, undisturbed, folder, victim, chunks):
    both = pair(server, folder, patience=5)
    wait_for_chunks(folder, both[0], chunks)
    both[victim].kill()
    survivor = both[1 - victim]
    survivor.join(60)
    assert survivor.exitcode not in (None, 0)
    time.sleep(0.3)  # for the process that speaks for it
    assert told(folder, 1 - victim) == f"superpose: {processes.LOST}\n"
    before = kept(folder)
    assert len(before) >= chunks
    process = begin(server, folder)
    process.join(300)
    assert process.exitcode == 0, said(folder)
    assert bits(folder) == undisturbed[0]
    assert sum(computed(folder).values()) <= CHUNKS + 2 * IN_FLIGHT


@pytest.mark.parametrize("victim", [0, 1])
def test_peer_that_dies_is_told_and_its_chunks_are_kept(server, undisturbed, tmp_path, victim):
    peer_dies(server, undisturbed, tmp_path, victim, 3)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(20))
def test_peer_that_dies_at_any_moment(server, undisturbed, tmp_path, trial):
    peer_dies(server, undisturbed, tmp_path, trial % 2, int(np.random.default_rng(trial).integers(1, CHUNKS - 8)))


@pytest.mark.parametrize("here", [0, 1])
def test_peer_that_never_comes_is_told(server, tmp_path, here):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = Processes(coordinator=address, processes=2, process=here, patience=1)
    process = begin(server, tmp_path, shared)
    process.join(60)
    assert process.exitcode == 1
    late = f"not all processes came to {address} within 1 seconds: start them all, or raise --patience"
    assert told(tmp_path, here) == f"superpose: {late}\n"
    assert list(tmp_path.iterdir()) == []


def test_rival_of_a_running_sweep_is_told(server, undisturbed, tmp_path):
    process = begin(server, tmp_path)
    wait_for_chunks(tmp_path, process)
    with pytest.raises(results.ResultError, match=r"\.sweep\.chunks: another run is at work here"):
        sweep_job.compute(tmp_path, LONG)
    process.join(300)
    assert process.exitcode == 0, said(tmp_path)
    assert bits(tmp_path) == undisturbed[0]
