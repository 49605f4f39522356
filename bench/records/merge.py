"""Taking in records made elsewhere: all of them or none, byte by byte as they came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.records.check_all import Found, Problem, problems, read_all
from bench.records.index import folder_facts
from bench.records.intake import take_in


@dataclass(frozen=True)
class Merged:
    """What a merge took in and what was there already (names of files), and what is odd about either."""

    new: tuple[str, ...]
    known: tuple[str, ...]
    warnings: tuple[Problem, ...]


def merge(paths: Sequence[Path], folder: Path, dry_run: bool = False) -> Merged:
    """Take records (files or folders) into a folder; of those that it has only the ones new to it are read.

    Raises:
        BenchError: a record does not add up, alone or beside the records here, or the folder cannot be written;
            nothing was taken in.
    """
    here = [Found(folder / name, facts, ()) for name, facts in folder_facts(folder).items()]
    _refuse(problems(here), "the records here do not add up", "See `bench results validate`, and repair those first.")
    incoming = read_all(paths)
    listed = problems(incoming, believed=here)
    _refuse(
        listed, "", "Ask who made it; `bench results validate PATH` lists all that is wrong with the records alone."
    )
    known = {one.path.name for one in here}
    # Two files of one name are the same record, or they would have been refused.
    by_name = {one.path.name: one.path for one in incoming}
    new = [path for name, path in by_name.items() if name not in known]
    for path in new:
        if (folder / path.name).exists():
            raise BenchError(
                f"Nothing was taken in: {folder / path.name} is here, and is not right.\nDelete it, then merge again."
            )
    if new and not dry_run:
        take_in(new, folder)
    return Merged(tuple(path.name for path in new), tuple(sorted(by_name.keys() & known)), tuple(listed))


def _refuse(listed: Iterable[Problem], reason: str, remedy: str) -> None:
    """A `BenchError` if there is an error among the problems."""
    errors = [problem for problem in listed if problem.kind == "error"]
    if errors:
        first = errors[0].line.removeprefix("error: ")
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise BenchError(f"Nothing was taken in: {reason + ': ' if reason else ''}{first}{more}.\n{remedy}")
