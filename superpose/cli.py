"""The command: what may be given to it, and how it ends; heavy imports wait until a command needs them."""

import gc
import sys

import tyro

from superpose import processes
from superpose.commands import figures, phase, reproduce
from superpose.commands.run import told

RARELY = (100_000, 20, 100)
"""Thresholds of Python's garbage collector: by default a third of the time in which JAX traces goes into looking at its objects."""
STOPPED = "stopped; finished chunks are kept, the same command goes on"


def main() -> None:
    """Run the command; one line and exit code 2 for a wrong argument, 1 for anything else that a user can cause."""
    gc.set_threshold(*RARELY)
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            {"phase": phase.Phase, "reproduce": reproduce.Reproduce, "figures": figures.Figures},
            prog="superpose",
            description="The mathematics of superposition, computed exactly.",
        )
        code = _run(command, given={argument.split("=")[0] for argument in sys.argv[2:]})
    except ValueError as error:
        code = told(error, 2)
    except processes.Lost as error:
        code = told(error, 1)
    except KeyboardInterrupt:
        code = told(STOPPED, 130)
    except OSError as error:
        code = told(f"{error.filename or 'out'}: {error.strerror}", 1)
    processes.leave(code)


def _run(command: phase.Phase | reproduce.Reproduce | figures.Figures, given: set[str]) -> int:
    match command:
        case phase.Phase():
            return phase.phase(command, published=not given & {"--n", "--m"})
        case reproduce.Reproduce():
            return reproduce.reproduce(command)
        case _:
            return figures.figures(command)
