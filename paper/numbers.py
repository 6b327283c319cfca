"""Every number of the paper as a macro, and its table of findings, from the committed results in `paper/results/`.

`python -m paper.numbers` writes numbers.tex and findings.tex beside this. A result that is missing, of other settings or of
another version of superpose fails, and the command that makes it is named.
"""

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

from paper.collect import AT, HERE, SIZES
from superpose import results
from superpose.reproduction import cells, runs

SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}
SIGNS = {
    **{"≤": "\\le", "≥": "\\ge", "×": "\\times", "−": "-", "±": "\\pm", "→": "\\to", "≈": "\\approx", "·": "\\cdot"},
    **{"√": "\\sqrt{}", "∞": "\\infty", "°": "^\\circ", "²": "^2", "³": "^3", "ᵀ": "^{\\top}", "½": "\\tfrac12"},
    **{
        "‖": "\\|",
        "μ": "\\mu",
        "ε": "\\varepsilon",
        "Σ": "\\Sigma",
        "Δ": "\\Delta",
        "<": "<",
        ">": ">",
        "|": "|",
        "ᵢ": "_i",
        "λ": "\\lambda",
        "∝": "\\propto",
    },
}
"""Characters that LaTeX writes in mathematics."""
NAMES = {"phase-n2-m1": "Two", "phase-n3-m2": "Three"}


def main(here: Path = HERE) -> None:
    """Write both files, or exit with 1 and say what is missing."""
    known = runs.experiments()
    try:
        loaded = {name: load(here, name, wanted) for name, wanted in settings(known).items()}
    except results.ResultError as error:
        sys.exit(f"paper: {error}")
    found = {name: loaded[name]["findings"] for name in known}
    values = macros(loaded) | counts(found)
    made = "".join(f"\\newcommand{{\\{name}}}{{{value}}}\n" for name, value in values.items())
    results.write_atomically(here.parent / "numbers.tex", lambda path: path.write_text(made))
    results.write_atomically(here.parent / "findings.tex", lambda path: path.write_text(table(found)))


def settings(known: dict[str, Any]) -> dict[str, str]:
    """Every result that the paper cites, and the settings it has to be of."""
    wanted = {name: results.settings_text(diagram) for name, diagram in SIZES.items()}
    wanted |= {"boundary": json.dumps({"at": AT})}
    return wanted | {name: results.settings_text(module.Config()) for name, module in known.items()}


def load(here: Path, name: str, wanted: str) -> dict[str, Any]:
    """One committed result.

    Raises:
        ResultError: it is missing, damaged, of other settings or of another version.
    """
    path = here / f"{name}.json"
    first = "" if name == "boundary" else "superpose phase && " if name in SIZES else f"superpose reproduce {name} && "
    command = f"`{first}python -m paper.collect` makes it"
    anew = command.replace(f" {name} ", f" {name} --again ").replace(
        "superpose phase", "rm -r results/phase && superpose phase"
    )
    try:
        result = json.loads(path.read_text())
        version = json.loads(result["versions"])["superpose"]
    except FileNotFoundError:
        raise results.ResultError(f"{path}: missing; {command}") from None
    except (ValueError, KeyError, TypeError):
        raise results.ResultError(f"{path}: damaged; {command}") from None
    if result["settings"] != wanted:
        raise results.ResultError(f"{path}: of other settings; {command}")
    if version != results.package_version("superpose"):
        raise results.ResultError(f"{path}: of superpose {version}; {anew}")
    return result


def macros(loaded: dict[str, Any]) -> dict[str, str]:
    """The numbers in the text."""
    values = {}
    for name, word in NAMES.items():
        n = loaded[name]["numbers"]
        values |= {
            f"cells{word}": f"{n['cells']:,}".replace(",", "{,}"),
            f"certified{word}": percent(n["cells_certified"], 0),
            f"startsCertified{word}": percent(n["restarts_certified"]),
            f"gradient{word}": power(n["worst_gradient_norm"]),
            f"agreement{word}": percent(n["agreement_with_published"]),
            f"offset{word}": f"{n['boundary_offset_decades']:.3f}",
            f"candidateGap{word}": percent(n["largest_gap_of_candidates"]),
            f"lowestBasin{word}": percent(n["random_starts_in_lowest_basin"], 0),
            f"several{word}": percent(n["cells_with_several_minima"], 0),
            f"mostMinima{word}": str(n["most_minima"]),
            f"disagree{word}": percent(n["cells_whose_restarts_disagree"], 0),
            f"worstAbove{word}": f"{1 + n['worst_minimum_above_lowest']:.3g}",
            f"averageAbove{word}": percent(n["average_above_lowest"], 0),
            f"missed{word}": percent(n["cells_missed_by_random_starts"]),
        }
    return values | boundary(loaded["boundary"]["numbers"]) | {"commit": loaded["boundary"]["commit"][:9]}


def boundary(n: dict[str, Any]) -> dict[str, str]:
    """The exact boundary at p = 0.001, 0.1 and 0.5, and the tricritical points."""
    words = dict(zip(map(str, AT), ("Sparse", "Tenth", "Half"), strict=True))
    values = {f"exact{word}": f"{n['importance'][p]:.8f}" for p, word in words.items()}
    values |= {f"published{word}": f"{n['published'][p]:.4f}" for p, word in words.items()}
    values |= {f"jump{word}": f"{n['jump'][p]:.4f}" for p, word in words.items()}
    values["slopeSparse"] = f"{n['importance']['0.001'] / 0.001:.4f}"
    for word, (p, importance) in zip(("First", "Second"), n["tricritical"], strict=True):
        values |= {f"tricritical{word}": f"{p:.8f}", f"tricriticalImportance{word}": f"{importance:.6f}"}
    return values


def counts(found: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """How many findings there are, and how many hold."""
    rows = [row for findings in found.values() for row in findings]
    hold = sum(row["holds"] for row in rows)
    numbers = {"experiments": len(found), "findings": len(rows), "holding": hold, "failing": len(rows) - hold}
    return {name: str(value) for name, value in numbers.items()}


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Rows of the table of findings: experiment, claim, expected, found, holds."""
    lines = []
    for name, rows in found.items():
        for k, row in enumerate(rows):
            *values, holds = map(tex, cells(row))
            values = [tex(name) if k == 0 else "", *values, holds if row["holds"] else f"\\textbf{{{holds}}}"]
            lines.append(" & ".join(values) + " \\\\")
        lines.append("\\addlinespace")
    return "\n".join(lines) + "\n"


def tex(value: str) -> str:
    """Text as LaTeX; a character that it does not know is named."""
    return "".join(map(_character, value))


def _character(c: str) -> str:
    if c in SPECIAL:
        return SPECIAL[c]
    if c in SIGNS:
        return f"\\ensuremath{{{SIGNS[c]}}}"
    greek = unicodedata.name(c, "").removeprefix("GREEK SMALL LETTER ").lower()
    if "GREEK SMALL" in unicodedata.name(c, ""):
        return f"\\ensuremath{{\\{greek}}}"
    if ord(c) > 127 and c not in "–—’‘“”":
        raise ValueError(f"character {c!r} ({unicodedata.name(c, '?')}): needs an entry in SIGNS")
    return c


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage in LaTeX."""
    return f"{100 * share:.{digits}f}\\,\\%"


def power(value: float) -> str:
    """A small number as a power of ten in LaTeX."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}\\times 10^{{{int(exponent)}}}"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
