"""The command as tests start it, and how they read what it says."""

import json
import subprocess
import sys

TINY = ("--n", "2", "--m", "1", "--densities", "4", "--importances", "5", "--restarts", "2", "--steps", "200")
LAUNCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started this with the signal ignored
from superpose.cli import main
main()
"""


def start(environment, *arguments):
    line = [sys.executable, "-c", LAUNCH, "phase", *map(str, arguments)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def strict(text):
    """Parse JSON, without the NaN that Python would let through."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def one_line(error):
    return error.startswith("superpose: ") and error.count("\n") == 1 and "Traceback" not in error
