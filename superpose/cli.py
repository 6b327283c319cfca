"""The command: what may be given to it, and how it ends; heavy imports wait until a command needs them."""

import difflib
import gc
import os
import sys
from importlib.metadata import version

from superpose import processes
from superpose.commands import figures, parsing, phase, reproduce, unmix
from superpose.commands.run import told

RARELY = (100_000, 20, 100)
"""Thresholds of Python's garbage collector: by default a third of the time in which JAX traces goes into looking at its objects."""
COMMANDS = {
    "phase": phase.Phase,
    "unmix": unmix.Unmix,
    "reproduce": reproduce.Reproduce,
    "figures": figures.Figures,
}
HELP = "The mathematics of superposition, computed exactly. `superpose --version` tells which version this is."
STOPPED = "stopped; finished chunks are kept, the same command goes on"


def main() -> None:
    """Run the command; one line and exit code 2 for a wrong argument, 1 for anything else that a user can cause."""
    gc.set_threshold(*RARELY)
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except ValueError as error:
        code = told(error, 2)
    except processes.Lost as error:
        code = told(error, 1)
    except KeyboardInterrupt:
        code = told(STOPPED, 130)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = told(f"{error.filename or 'out'}: {error.strerror}", 1)
    processes.leave(code)


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"superpose {version('superpose')}")
        return 0
    if arguments:
        _known(arguments[0])
    match parsing.parsed(COMMANDS, arguments, description=HELP):
        case phase.Phase() as command:
            given = {argument.split("=")[0] for argument in arguments[1:]}
            return phase.phase(command, sizes=given & {"--n", "--m"})
        case unmix.Unmix() as command:
            return unmix.unmix(command)
        case reproduce.Reproduce() as command:
            return reproduce.reproduce(command)
        case command:
            return figures.figures(command)


def _known(word: str) -> None:
    """Raise ValueError naming the nearest command if the first word is none."""
    if word not in COMMANDS and not word.startswith("-"):
        near = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.4)
        perhaps = f"; perhaps {near[0]}" if near else ""
        raise ValueError(f"command = {word}: needs one of {', '.join(COMMANDS)}{perhaps}")
