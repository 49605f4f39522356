"""Where things live: one folder with `data/` (downloaded images) and `results/` (runs, records, tables)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.errors import BenchError


@dataclass(frozen=True)
class Home:
    """The folders of one home; none is made before something is written to it.

    Attributes:
        root: what `--home` or `BENCH_HOME` names; by default the current folder.
    """

    root: Path

    data = cached_property[Path](lambda home: home.root / "data")
    """Datasets in their published layouts."""
    runs = cached_property[Path](lambda home: home.root / "results" / "runs")
    """One folder a run: config, metrics, checkpoints. Not for git."""
    records = cached_property[Path](lambda home: home.root / "results" / "records")
    """One JSON file an evaluation. For git."""
    kept = cached_property[Path](lambda home: home.root / "results" / "kept")
    """What a stopped evaluation has computed, and images crafted on surrogates. Not for git; may be deleted."""
    profiles = cached_property[Path](lambda home: home.root / "results" / "profiles")
    """One JSON file for what `bench profile` measured of a method."""
    exports = cached_property[Path](lambda home: home.root / "results" / "exports")
    """Networks as files for others, a folder each."""
    tables = cached_property[Path](lambda home: home.root / "results" / "tables")
    """Rendered tables."""
    figures = cached_property[Path](lambda home: home.root / "results" / "figures")
    """Drawn figures."""
    report = cached_property[Path](lambda home: home.root / "results" / "report")
    """The static site of everything here. Not for git."""
    specs = cached_property[Path](lambda home: home.root / "tables")
    """A user's own table specs, beside the built-in ones."""

    @classmethod
    def at(cls, root: Path) -> Home:
        """The home a user names; `~` is expanded."""
        expanded = os.path.expanduser(root)
        if expanded.startswith("~"):
            raise BenchError(f"--home {root}: there is no user of that name.\nWrite the folder's whole path.")
        return cls(Path(expanded))
