"""What all figures share: their look in print, and how they are written to files."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.system import escape
from bench.system.files import atomic_path, write_text_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = 3.3
"""Width of a column of a two-column paper, inches."""

# Okabe and Ito 2008: told apart by colour-blind readers; the order also falls in lightness, for grey printers.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")

_LONGEST_NAME = 200
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.4,
    "axes.axisbelow": True,
    "lines.linewidth": 1.0,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    # TrueType, which journals ask for, and text that stays text.
    "pdf.fonttype": 42,
    "svg.hashsalt": "ard-bench",
    # Names come from files: a dollar sign in one is no formula.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        name: of its files, without suffix.
        figure: as matplotlib has it.
        rows: the numbers that are drawn, one mapping a point.
        caption: what a reader must know; also in the files' metadata.
    """

    name: str
    figure: Figure
    rows: Sequence[Mapping[str, Any]]
    caption: str

    def write(self, folder: Path) -> list[Path]:
        """Write NAME.pdf, NAME.png and NAME.csv; the same drawing always gives the same bytes."""
        paths = [folder / f"{self.name}.{suffix}" for suffix in ("pdf", "png", "csv")]
        metadata = ({"Subject": self.caption, "CreationDate": None}, {"Description": self.caption, "Software": None})
        with styled():
            for path, facts in zip(paths, metadata, strict=False):
                with atomic_path(path) as temporary:
                    self.figure.savefig(temporary, format=path.suffix[1:], dpi=300, metadata=facts)
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({key: escape.csv(value) if isinstance(value, str) else value for key, value in row.items()})
        write_text_atomically(paths[2], stream.getvalue())
        return paths


@contextmanager
def styled() -> Iterator[None]:
    """The figures' style inside the block; the user's own settings stay out of it."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]
        yield


def file_name(name: str, conditions: str) -> str:
    """A name that every file system takes: no odd letters, and of a very long one its start and its digest."""
    slug = re.sub(r"[^a-z0-9.]+", "-", conditions.lower()).strip("-")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}_{slug}")
    if len(plain) <= _LONGEST_NAME:
        return plain
    return f"{plain[: _LONGEST_NAME - 9]}-{hashlib.sha256(f'{name}_{slug}'.encode()).hexdigest()[:8]}"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_legend(figure: Figure, columns: int) -> None:
    """A legend below the axes, in at most so many columns as it is no wider than the figure, which grows by it."""
    for number in range(columns, 0, -1):
        legend = figure.legend(
            loc="outside lower center", ncols=number, frameon=False, handletextpad=0.3, columnspacing=1
        )
        extent = legend.get_window_extent()
        if number == 1 or extent.width <= figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)
