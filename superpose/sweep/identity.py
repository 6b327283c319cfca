"""What a result is of: its settings, its points and its program; what is of others is refused by name.

The program is the lowered one of a single point, as StableHLO text without locations: constants are in it, and all that a
printed jaxpr hides, but no address, no path and no width. What a host callback does is not in it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from superpose import results
from superpose.sweep import devices


def points_digest(points: Any) -> str:
    """SHA-256 of names, dtypes, shapes and bytes of a pytree of NumPy arrays."""
    arrays = devices.named(points)
    text = [f"{name} {x.dtype} {x.shape} {hashlib.sha256(x.tobytes()).hexdigest()}" for name, x in arrays.items()]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def program_digest(program: jax.stages.Lowered) -> str:
    """SHA-256 of a lowered program, and of the constants that JAX may pass as arguments instead."""
    digest = hashlib.sha256(program.as_text().encode())
    for constant in getattr(program._lowering, "const_args", ()):  # no public name
        digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of what makes a program."""
    return {name: results.package_version(name) for name in ("superpose", "jax", "jaxlib")}


def attributes(points: Any, program: jax.stages.Lowered, code: str | None) -> dict[str, str]:
    """What a finished result says of itself, besides its settings, for `check`."""
    found = {
        "points_sha256": points_digest(points),
        "program_sha256": program_digest(program),
        "platform": jax.export.default_export_platform(),
    }
    return found | ({} if code is None else {"code_sha256": code})


def check(
    path: Path,
    found: Mapping[str, Any],
    settings: Any,
    points: Any,
    code: str | None,
    lower: Callable[[str], jax.stages.Lowered],
) -> None:
    """Raise ResultError, naming the first difference, unless a finished result is of these settings, points and program.

    Args:
        path: of the result.
        found: its attributes; the settings alone are compared where there are none of `attributes`, as in older files.
        settings: the configuration wanted.
        points: the points wanted.
        code: digest of the code that the program follows from, if known; if it is the one found, nothing is lowered.
        lower: gives the program wanted, lowered for the platform that the result was computed on.
    """
    if found.get("settings") != results.settings_text(settings):
        raise _other(path, "other settings")
    mine = points_digest(points)
    if found.get("points_sha256", mine) != mine:
        raise _other(path, "other points")
    if "program_sha256" not in found or (code is not None and found.get("code_sha256") == code):
        return
    if program_digest(lower(found["platform"])) != found["program_sha256"]:
        made, here = json.loads(found["versions"]), versions()
        changes = [f"{name} {made.get(name)}, here {x}" for name, x in here.items() if made.get(name) != x]
        raise _other(path, "another program" + f" (made with {'; '.join(changes)})" * bool(changes))


def _other(path: Path, what: str) -> results.ResultError:
    return results.ResultError(f"{path}: holds a result of {what}; name another folder, or move it away to compute it again")
