"""What README.md beside this says of all experiments: which there are, and what the saved full runs found.

`python -m experiments.full_table` writes both tables; without saved results, only the first. `superpose reproduce` makes them.
"""

import ast
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import xarray as xr

from superpose.commands.reproduce import text
from superpose.reproduction import runs
from superpose.results import ResultError, write_atomically

README = Path(__file__).with_name("README.md")
RESULTS = Path("results/reproduce")
LIST, FULL = "<!-- list -->", "<!-- full runs -->"
"""Lines between two of which a table stands."""


def main(results: Path = RESULTS) -> None:
    """Rewrite the tables."""
    experiments = runs.experiments()
    broken = {name: error for name, error in experiments.items() if isinstance(error, Exception)}
    if broken:
        sys.exit("\n".join(f"{name}: {error}" for name, error in broken.items()))
    page = between(README.read_text(), LIST, listing(experiments))
    saved, missing = {}, []
    for name, experiment in experiments.items():
        try:
            saved[name] = runs.saved(results, experiment, quick=False)
        except ResultError as error:
            missing.append(str(error))
    if saved:
        page = between(page, FULL, full_runs(experiments, saved))
    write_atomically(README, lambda path: path.write_text(page))
    print(*missing, sep="\n", end="\n" if missing else "", file=sys.stderr)


def between(page: str, mark: str, content: str) -> str:
    """The page with what stands between two marks replaced."""
    before, _, after = page.split(mark)
    return f"{before}{mark}\n\n{content}\n\n{mark}{after}"


def listing(experiments: dict[str, Any]) -> str:
    """Name, section of the paper, what is asked, and how it is answered, in the paper's order."""
    lines = ["| name | section of the paper | what it asks | how |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {e.PAPER} | {e.TITLE} | {way(e)} |" for name, e in experiments.items()]
    return "\n".join(lines)


def way(experiment: Any) -> str:
    """From what a module imports: certified minima, descent on the exact loss, sampled training."""
    tree, names = ast.parse(inspect.getsource(experiment)), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.name for alias in node.names} | ({node.module} if isinstance(node, ast.ImportFrom) else set())
    ways = []
    if names & {"solve", "superpose.solve"}:
        ways.append("certified minima of the exact loss")
    elif names & {"relu_output", "expected_loss", "superpose.expected_loss"}:
        ways.append("descent on the exact loss")
    if names & {"train", "superpose.train"}:
        ways.append("sampled training")
    return "; ".join(ways) or "analysis"


def full_runs(experiments: dict[str, Any], saved: dict[str, xr.Dataset]) -> str:
    """What each saved run took, and each of its findings."""
    rows = {name: runs.rows(experiments[name], dataset) for name, dataset in saved.items()}
    hold = sum(row["holds"] for found in rows.values() for row in found)
    lines = [f"{hold} of {sum(map(len, rows.values()))} findings of {len(rows)} experiments hold.", ""]
    lines += ["| experiment | holds | seconds | date | commit | machine |", "|---|---|---|---|---|---|"]
    for name, dataset in saved.items():
        a, count = dataset.attrs, sum(row["holds"] for row in rows[name])
        commit = a["commit"][:9] + "+" * a["commit"].endswith("+") or json.loads(a["versions"])["superpose"]
        made = f"{a['seconds']:.0f} | {a['created'][:10]} | {commit} | {a['machine']}"
        lines.append(f"| `{name}` | {count} of {len(rows[name])} | {made} |")
    lines += ["", "| experiment | claim | published | found | tolerance | holds |", "|---|---|---|---|---|---|"]
    for row in (row for found in rows.values() for row in found):
        values = (row["claim"], text(row["published"]), text(row["found"]), row["tolerance"])
        cells = (value.replace("|", "\\|") for value in values)
        lines.append(f"| `{row['experiment']}` | {' | '.join(cells)} | {'yes' if row['holds'] else '**no**'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
