"""The tables of `superpose phase` on a terminal."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


def report(numbers: dict[str, Any], dataset: "xr.Dataset") -> None:
    """Print the summary of a diagram, its boundary, and the check by sampling where there was one."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"n = {numbers['n']}, m = {numbers['m']}: {numbers['cells']:,} cells", show_header=False)
    for name, value in _lines(numbers):
        table.add_row(name, value)
    console.print(table)
    if "boundary" in numbers:
        console.print(_boundary_table(numbers["boundary"], "exact_order" in dataset and dataset["exact_order"].values))
    if "check" in numbers:
        console.print(_check_table(numbers["check"]))
    console.print(f"Results in {numbers['folder']}: phase.nc, phase.html, summary.json")


def _lines(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("cells with a certified minimum", f"{numbers['cells_certified']:.2%}"),
        ("starts certified", f"{numbers['restarts_certified']:.2%}"),
        ("random starts that end in the lowest basin", f"{numbers['random_starts_in_lowest_basin']:.2%}"),
        ("worst gradient norm of a cell", f"{numbers['worst_gradient_norm']:.1e}"),
        ("worst error of a loss", f"{numbers['worst_loss_error']:.1e}"),
    ]
    if "agreement_with_published" in numbers:
        lines += [
            ("cells that agree with published theory", f"{numbers['agreement_with_published']:.2%}"),
            (
                "boundary against published theory",
                _offset(numbers["boundary_offset_decades"]),
            ),
            (
                "published candidates cost up to",
                f"{numbers['largest_gap_of_candidates']:.1%} more than the minimum",
            ),
            ("cells above a fixed candidate", str(numbers["cells_above_a_candidate"])),
        ]
    if "diagram_offset_from_exact_decades" in numbers:
        lines.append(("boundary against its exact curve", _offset(numbers["diagram_offset_from_exact_decades"])))
    return [*lines, ("seconds", f"{numbers['seconds']:.1f}")]


def _offset(decades: float) -> str:
    return "no boundary within these axes" if decades != decades else f"{decades:.4f} decades off on average"


def _boundary_table(boundary: dict[str, list[float]], order: Any) -> Any:
    from rich.table import Table

    table = Table(title="importance at which the last feature stops being ignored")
    names = [name for name in ("in_diagram", "exact", "published") if name in boundary]
    for name in (
        "density",
        *(name.replace("_", " ") for name in names),
        *(["transition"] if "exact" in names else []),
    ):
        table.add_column(name, justify="right")
    count = len(boundary["density"])
    for k in sorted({round(j * (count - 1) / 7) for j in range(8)}):
        cells = [f"{boundary['density'][k]:.4f}"]
        cells += ["none" if boundary[name][k] != boundary[name][k] else f"{boundary[name][k]:.6f}" for name in names]
        if "exact" in names:
            cells.append("first order" if order[k] == 1 else "continuous")
        table.add_row(*cells)
    return table


def _check_table(cells: list[dict[str, float]]) -> Any:
    from rich.table import Table

    worst = max(cell["below"] for cell in cells)
    verdict = "none below" if worst == 0 else f"lowest {worst:.1f} standard errors below (5 allowed)"
    table = Table(title=f"trained by sampling against the certified minimum: {verdict}")
    for name in ("density", "importance", "minimum", "trained", "standard error", "above by"):
        table.add_column(name, justify="right")
    for c in cells:
        numbers = (
            f"{c['density']:.4f}",
            f"{c['importance']:.4f}",
            f"{c['minimum']:.6e}",
            f"{c['trained']:.6e}",
        )
        table.add_row(*numbers, f"{c['sem']:.1e}", f"{c['excess']:+.2%}")
    return table
