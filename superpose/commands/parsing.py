"""Arguments to one of the commands; what is wrong with them is told in one line instead of tyro's box."""

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stderr
from typing import Any

import tyro

STYLE = re.compile(r"\x1b\[[0-9;]*m")
HINTS = {"Perhaps you meant:": "perhaps", "Argument helptext:": "needs"}
"""How a part of the box begins whose second line names an option, and what the line says of that option."""


def parsed(commands: Mapping[str, Any], arguments: list[str], *, description: str) -> Any:
    """The command that arguments ask for.

    Raises:
        ValueError: an option, a word or a value that no command takes, or no command; the message offers the nearest option.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                dict(commands), prog="superpose", description=description, args=arguments
            )
    except SystemExit as stopped:
        if not stopped.code:
            raise
    command = next((word for word in arguments[:1] if word in commands), "")
    raise ValueError(f"{one_line(said.getvalue())}; `{' '.join(['superpose', command]).strip()} --help` lists what there is")


def one_line(box: str) -> str:
    """What was wrong, and a hint where there is one: the parts of a box, which rules divide, without its frame and colours.

    Where UTF-8 is not to be had, frames are of `|` and `-`, and a rule divides off the title as well.
    """
    lines = [STYLE.sub("", line).strip("│| \r") for line in box.splitlines()[1:-1]]
    parts = [part.split("\n") for part in re.split(r"\n[─-]{3,}\n", "\n".join(lines).lstrip("-\n"))]
    hints = [f"{HINTS[part[0]]} {part[1]}" for part in parts if part[0] in HINTS]
    return "; ".join([" ".join(parts[0]).removesuffix("."), *hints])
