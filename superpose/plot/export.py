"""Figures as files: HTML that stands alone, or PDF, SVG and PNG through kaleido, all of a batch with one start of the browser."""

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path

import plotly.io
from plotly import graph_objects as go

from superpose.plot.template import OWN
from superpose.results import write_atomically

FORMATS = ("html", "pdf", "svg", "png")
SCALE = 2
"""Pixels of a PNG to one of the layout."""


class ExportError(Exception):
    """A picture cannot be made here; the message says what to install."""


def write(figures: Mapping[Path, go.Figure]) -> None:
    """Write each figure to its path, in the format of its suffix; each file is whole or as it was.

    Raises:
        ExportError: kaleido or a browser is missing, which all formats but HTML need.
        ValueError: a suffix that is none of `FORMATS`.
    """
    for path in figures:
        if path.suffix[1:] not in FORMATS:
            raise ValueError(f"path = {path}: needs one of {', '.join(FORMATS)}")
    pictures = {path: figure for path, figure in figures.items() if path.suffix != ".html"}
    for path in figures.keys() - pictures.keys():
        text = figures[path].to_html(include_plotlyjs=True)
        write_atomically(path, lambda temporary, text=text: temporary.write_text(text))
    if pictures:
        with tempfile.TemporaryDirectory() as folder:
            made = {path: Path(folder, f"{k}{path.suffix}") for k, path in enumerate(pictures)}
            _draw(list(pictures.values()), [*made.values()])
            for path, picture in made.items():
                write_atomically(path, lambda temporary, picture=picture: temporary.write_bytes(picture.read_bytes()))


def _draw(figures: list[go.Figure], files: list[str | Path]) -> None:
    kind = Path(files[0]).suffix[1:]
    if importlib.util.find_spec("kaleido") is None:
        raise ExportError(f"{kind}: needs the package kaleido, `pip install 'superpose[figures]'`; html needs none")
    sizes = [(figure.layout.width or OWN[0], figure.layout.height or OWN[1]) for figure in figures]
    width, height = (list(side) for side in zip(*sizes, strict=True))
    try:
        plotly.io.write_images(figures, files, width=width, height=height, scale=SCALE)
    except RuntimeError as error:  # no browser, or one that does not start
        reason = next(filter(None, str(error).splitlines()), type(error).__name__)
        advice = "install Chrome, or Debian's package chromium; html needs none"
        raise ExportError(f"{kind}: {reason} {advice}") from None
