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

from superpose.reproduction import cells, runs
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
    """From what a module imports and uses: certified minima, descent on the exact loss, sampled training."""
    tree, used = ast.parse(inspect.getsource(experiment)), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            used.add(ast.unparse(node))
    ways = []
    if used & {"solve.minimize", "solve.minimize_large", "solve.toy_minima", "superpose.phase.run.compute"}:
        ways.append("certified minima of the exact loss")
    elif used & {"superpose.expected_loss.relu_output", "dimensions_per_feature.scaled_loss"}:
        ways.append("descent on the exact loss")
    if "train.fit" in used:
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
    lines += ["", "| experiment | claim | expected | found | holds |", "|---|---|---|---|---|"]
    for row in (row for found in rows.values() for row in found):
        *values, holds = (value.replace("|", "\\|") for value in cells(row))
        lines.append(f"| `{row['experiment']}` | {' | '.join(values)} | {holds if row['holds'] else '**no**'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
