"""What the commands share: how a run starts, how it says no, and JSON that others can read."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from superpose import processes
from superpose.settings import Processes


def _folder(arguments: list[str]) -> Path:
    if not arguments[0]:
        raise ValueError("an empty name: needs a folder, . for this one")
    return Path(arguments[0])


Folder = Annotated[
    Path,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=_folder,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A folder, but not an empty name, which `Path` would take for this one."""


def prepare(settings: Processes) -> None:
    """Float64, compiled code kept between runs, warnings in one line; and the other processes."""
    processes.begin(settings)
    import jax

    logging.basicConfig(format="superpose: %(message)s", level=logging.WARNING)
    jax.config.update("jax_enable_x64", True)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "superpose" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    processes.connect(settings)


def told(error: object, code: int) -> int:
    """Say on standard error, in one line, what went wrong; returns the exit code."""
    print(f"superpose: {error}", file=sys.stderr, flush=True)
    return code


def first_line(error: Exception) -> str:
    """Type and first line of an error that nobody foresaw."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def unwritten(error: OSError) -> str:
    """What could not be written, and why."""
    return f"{error.filename or 'out'}: {error.strerror}"


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON, whole or not at all."""
    from superpose.results import write_atomically

    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(no_nan(content), indent=2) + "\n"))


def no_nan(content: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    return json.loads(json.dumps(content), parse_constant=lambda _: None)


class Progress:
    """A bar on standard error, drawn only where somebody looks; entered, it gives what advances it by one."""

    def __init__(self, description: str, *, total: int, unit: str):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self.bar, self.seen = (
            Progress(*columns, console=console, transient=True),
            console.is_terminal and processes.is_first(),
        )
        self.task = self.bar.add_task(description, total=total)

    def __enter__(self) -> Any:
        if self.seen:
            self.bar.start()
        return lambda: self.bar.advance(self.task)

    def __exit__(self, *_: object) -> None:
        if self.seen:
            self.bar.stop()
