"""Several processes at work on one computation, on one machine or many: they find each other, and wait for each other.

JAX brings them together (`jax.distributed`: SLURM, Kubernetes and others by themselves, or an explicit address). When one dies,
JAX ends the others at once by an abort and a page of log; here the page becomes one line. Importing this imports no JAX.
"""

import os
import signal
import sys
import threading
from itertools import count

from superpose.settings import Processes

LOST = (
    "lost contact with another process of this run: it stopped or died; finished chunks are kept, the same command goes on"
)
FATAL = b"JAX distributed service detected fatal errors"
"""In the first line of JAX's last words."""
LONGEST_WAIT = 30 * 24 * 3600
"""Seconds one process may work longer than another; that it is alive, JAX watches."""
_barriers = count()


class Lost(Exception):
    """Another process of this run is gone."""


def begin(settings: Processes) -> None:
    """Before anything starts a thread, JAX for one: with several processes, make JAX's last words one line.

    An abort leaves Python no room to speak, so a small process is forked, through which all standard error goes from here on.
    """
    if not settings.several:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors that come before the fatal one
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(interrupt, signal.SIG_IGN)
        _pass_on(reading)
        os._exit(0)
    os.close(reading)
    os.dup2(writing, sys.stderr.fileno())
    os.close(writing)


def connect(settings: Processes) -> None:
    """With several processes, find the others; call before JAX computes anything.

    Raises:
        ValueError: nothing tells JAX which processes there are.
    """
    if not settings.several:
        return
    import jax

    def give_up() -> None:
        where = settings.coordinator or "the address that JAX detected"
        late = f"not all processes came to {where} within {settings.patience} seconds: start them all, or raise --patience"
        print(f"superpose: {late}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(settings.patience, give_up)
    timer.start()
    given = bool(settings.coordinator)
    try:
        jax.distributed.initialize(
            settings.coordinator or None,
            settings.processes if given else None,
            settings.process if given else None,
            initialization_timeout=settings.patience + 60,  # longer than the timer: JAX would abort
            heartbeat_timeout_seconds=settings.patience,
        )
    except ValueError as error:
        raise ValueError(f"distributed = True: needs a cluster that JAX detects, or --coordinator ({error})") from None
    finally:
        timer.cancel()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # JAX would only note it, as the notice of a preemption


def leave(code: int) -> None:
    """End this process with an exit code: at once if it failed among others, who would wait for a farewell."""
    if code and "jax" in sys.modules:
        from jax._src import distributed  # the client has no public name

        if distributed.global_state.client is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def is_first() -> bool:
    """Whether this process is the one that prints and writes results."""
    import jax

    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process has come here.

    Raises:
        Lost: one never will.
    """
    import jax
    from jax._src import distributed  # the client has no public name

    if jax.process_count() == 1:
        return
    if distributed.global_state.client is None:
        raise Lost("jax.distributed was shut down before the end of the computation")
    try:
        distributed.global_state.client.wait_at_barrier(f"superpose {name} {next(_barriers)}", LONGEST_WAIT * 1000)
    except jax.errors.JaxRuntimeError:
        raise Lost(LOST) from None


def _pass_on(source: int) -> None:
    last = f"superpose: {LOST}\n".encode()
    said = over = False
    with open(source, "rb") as lines, open(2, "wb", buffering=0, closefd=False) as error:
        for line in lines:
            over |= FATAL in line
            if not over:
                error.write(line)
                said |= line == last
        if over and not said:
            error.write(last)
