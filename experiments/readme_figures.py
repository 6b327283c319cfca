"""The README's figures, as PNG, from the results of `make phase`; needs the extra `figures` and Chrome or chromium."""

import sys
from pathlib import Path

import plotly.io

from superpose.plot import phase_diagram
from superpose.results import ResultError, load

NAMES = ("n2-m1", "n3-m2")


def main(results: Path = Path("results/phase"), docs: Path = Path("docs")) -> None:
    """Draw both published diagrams."""
    try:
        figures = [phase_diagram(load(results / name / "phase.nc")) for name in NAMES]
    except ResultError as error:
        sys.exit(f"{error}; `make phase` writes it")
    docs.mkdir(exist_ok=True)
    files = [docs / f"phase-{name}.png" for name in NAMES]
    try:
        plotly.io.write_images(figures, files, width=[860] * 2, height=[540] * 2, scale=[1.5] * 2)
    except RuntimeError as error:
        sys.exit(f"cannot export PNG ({str(error).splitlines()[0]}): install Chrome, or Debian's package chromium")
    print(*files, sep="\n")


if __name__ == "__main__":
    main()
