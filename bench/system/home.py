"""Where things live: one folder with `data/` (downloaded images) and `results/` (runs, records, tables)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

_PUBLISHED = ("tiny-imagenet-200",)
"""Folders of a registered dataset in a layout of its own."""


@dataclass(frozen=True)
class Home:
    """The folders of one home; none is made before something is written to it.

    Attributes:
        root: what `--home` or `BENCH_HOME` names; by default the current folder.
    """

    root: Path

    @classmethod
    def at(cls, root: Path) -> Home:
        """The home a user names; `~` is expanded."""
        expanded = os.path.expanduser(root)
        if expanded.startswith("~"):
            raise BenchError(f"--home {root}: there is no user of that name.\nWrite the folder's whole path.")
        return cls(Path(expanded))

    @property
    def data(self) -> Path:
        """Datasets in their published layouts."""
        return self.root / "data"

    @property
    def models(self) -> Path:
        """Published checkpoints, as RobustBench's package lays them out or right in it. Not for git."""
        return self.root / "models"

    @property
    def results(self) -> Path:
        """`results/` in the root; the root itself where it is a campaign: a folder that lies in a `results/`."""
        campaign = self.root.resolve().parent.name == "results" and not (self.root / "results").exists()
        return self.root if campaign else self.root / "results"

    @property
    def runs(self) -> Path:
        """One folder a run: config, metrics, checkpoints. Not for git."""
        return self.results / "runs"

    @property
    def records(self) -> Path:
        """One JSON file an evaluation. For git."""
        return self.results / "records"

    @property
    def kept(self) -> Path:
        """What a stopped evaluation has computed, and images crafted on surrogates. Not for git; may be deleted."""
        return self.results / "kept"

    @property
    def profiles(self) -> Path:
        """One JSON file for what `bench profile` measured of a method."""
        return self.results / "profiles"

    @property
    def exports(self) -> Path:
        """Networks as files for others, a folder each."""
        return self.results / "exports"

    @property
    def tables(self) -> Path:
        """Rendered tables."""
        return self.results / "tables"

    @property
    def duels(self) -> Path:
        """Pages of `bench duel`."""
        return self.results / "duels"

    @property
    def figures(self) -> Path:
        """Drawn figures."""
        return self.results / "figures"

    @property
    def report(self) -> Path:
        """The static site of everything here. Not for git."""
        return self.results / "report"

    @property
    def recipes(self) -> Path:
        """A user's own recipes, beside the built-in ones."""
        return self.root / "recipes"

    @property
    def specs(self) -> Path:
        """A user's own table specs, beside the built-in ones."""
        return self.root / "tables"


def own_datasets(data: Path) -> dict[str, str]:
    """The user's own datasets in a data folder, by name what loads each.

    NAME.npz, a folder NAME with train-*.parquet (or those in its folder `data`), or one with the folders train and
    test or val; a symbolic link to one is as good.
    """
    found = {}
    for path in sorted(data.expanduser().glob("*")):
        if path.suffix == ".npz" and path.is_file():
            found[path.stem] = f"npz:{path}"
        elif any(path.glob("train-*.parquet")) or any(path.glob("data/train-*.parquet")):
            found[path.name] = f"parquet:{path}"
        elif (path / "train").is_dir() and ((path / "test").is_dir() or (path / "val").is_dir()):
            found[path.name] = f"imagefolder:{path}"
    return {name: spec for name, spec in found.items() if name not in _PUBLISHED}
