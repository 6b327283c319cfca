"""The tables of `superpose unmix` on a terminal."""

from typing import Any

ANSWERS = {
    "read": "read",
    "traced": "traced",
    "edited": "edited",
    "verified": "verified",
    "hidden_at_most": "hidden",
}


def report(numbers: dict[str, Any]) -> None:
    """Print what was found, from the summary."""
    from rich.console import Console

    console = Console()
    n, m, stored = (numbers[name] for name in ("n", "m", "features_stored"))
    console.print(
        f"n = {n}, m = {m}: {stored} features stored, exact loss {numbers['model_loss']:.6f}, "
        f"{numbers['features_per_neuron']:.1f} features a neuron"
    )
    console.print(_variants(numbers["variants"]))
    console.print(_questions(numbers))
    console.print(f"{numbers['seconds']:.1f} s. Results in {numbers['folder']}: unmix.nc, unmix.html, summary.json")


def report_recovery(numbers: dict[str, Any]) -> None:
    """Print in how many cells of the phase diagram the truth is what."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{numbers['settings']['shape']}: the true dictionary is", box=SIMPLE, show_header=False)
    for name, count in numbers["truth"].items():
        table.add_row(name, f"{count} of {numbers['cells']} cells")
    table.add_row("cells whose best autoencoder is certified", f"{numbers['best_certified']:.0%}")
    table.add_row("loss of the truth above the best, at most", f"{numbers['largest_excess']:.2%}")
    table.add_row("cosine of the feature that the best turns most", _number(numbers["worst_cosine_of_the_best"]))
    console.print(table)
    console.print(f"{numbers['seconds']:.1f} s. Results in {numbers['folder']}: recovery.nc, recovery.html, summary.json")


def _variants(runs: list[dict[str, Any]]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(
        title="each variant's run with the best F1",
        caption="* 0 for random directions, 1 for the truth; found: within .9; features: a latent",
        box=SIMPLE,
    )
    columns = {
        "l0": "L0",
        "mcc_calibrated": "cosine*",
        "coverage": "found",
        "f1_matched": "F1",
        "fvu": "FVU",
        "features_per_latent": "features",
    }
    for name in ("variant", "sparsity", *columns.values()):
        table.add_column(name, justify="left" if name in ("variant", "sparsity") else "right", no_wrap=True)
    for one in runs:
        knob = next(name for name in ("penalty", "k") if name in one)
        cells = [one["collapse"], *[""] * (len(columns) - 1)] if one["collapse"] else [_number(one[c]) for c in columns]
        table.add_row(one["variant"], f"{knob} {one[knob]:.3g}", *cells)
    return table


def _questions(numbers: dict[str, Any]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    name = numbers["best_variant"]
    latents = next(one for one in numbers["variants"] if one["variant"] == name)
    steered = numbers["steering_selectivity"]
    table = Table(
        title="can concepts be read, traced, edited, their absence verified?",
        caption="1 at best; hidden: at most so much where it seems absent; steered: what hits",
        box=SIMPLE,
    )
    for column in ("", *ANSWERS.values(), *(["steered"] if steered else [])):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    rows = {**numbers["directions_and_neurons"], f"latents ({name})": latents}
    for row, values in rows.items():
        aim = [_number(steered["latents" if row.startswith("latents") else row])] if steered else []
        table.add_row(row, *(_number(values[a]) for a in ANSWERS), *aim)
    return table


def _number(x: float | None) -> str:
    return "nan" if x is None else f"{x:.2f}"
