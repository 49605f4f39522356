"""What can be wrong with records beside each other; reads them and lists every problem."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.records.check_one import Kind, attacked_with, check, foreign
from bench.records.files import read_record
from bench.records.index import Facts
from bench.system.garbage import no_collection
from bench.system.second_process import LEAST, Helper, share
from bench.system.text import one_line


@dataclass(frozen=True)
class Problem:
    """Something wrong with a record (`error`), or odd about it (`warning`)."""

    file: str
    kind: Kind
    text: str

    @property
    def line(self) -> str:
        """One line without control characters: a contributor's text can send no codes to the terminal."""
        return one_line(f"{self.kind}: {self.file}: {self.text}")


@dataclass(frozen=True)
class Found:
    """A record's file and, where it could be read, what it is of."""

    path: Path
    facts: Facts | None
    problems: tuple[Problem, ...]

    def error(self, text: str) -> Problem:
        """A problem of this record beside others."""
        return Problem(_shown(self.path), "error", text)


def read_all(paths: Iterable[Path]) -> list[Found]:
    """All records in files and folders, with what is wrong with each alone.

    Raises:
        BenchError: a path that is not there, or no record in any.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise BenchError(
                f"There is nothing at {one_line(str(path))}.\n"
                "Name records or a folder of them, or make some: bench eval --suite whitebox."
            )
        files += _in_folder(path) if path.is_dir() else [path]
    if not files:
        raise BenchError("There is no record (*.json) there.\nMake one: bench eval --suite whitebox.")
    return _read(list(dict.fromkeys(map(str, files))))


def problems(found: Sequence[Found], believed: Sequence[Found] = ()) -> list[Problem]:
    """All that is wrong with records, alone, beside each other or beside those believed to be right; errors first."""
    listed = [problem for one in found for problem in one.problems]
    listed += _contradictions([*believed, *found], {one.path for one in believed})
    return sorted(dict.fromkeys(listed), key=lambda problem: problem.kind)


def _in_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def _shown(path: Path) -> str:
    """A file as messages name it: with the folder or archive it is in."""
    return "/".join(path.parts[-2:])


def _read(files: Sequence[str]) -> list[Found]:
    """Files read and checked, a part of many by a second process."""
    own = len(files) - share(files)
    with Helper("bench.records.check_all:look", files[own:]) as helper, no_collection():
        looked = {file: look(file) for file in files[:own]}
        looked |= helper.results()
        looked |= {file: look(file) for file in files if file not in looked}
    attacks = sorted({what for _, _, own_attacks in looked.values() for _, what in own_attacks})
    # Which attacks are installed takes PyTorch to know, which beside many records takes too much memory.
    with Helper("bench.records.check_one:foreign", attacks if len(files) >= LEAST else []) as helper:
        odd = helper.results()
    odd |= {what: foreign(what) for what in attacks if what not in odd}
    return [_found(Path(file), odd, *looked[file]) for file in files]


def _found(
    path: Path,
    odd: Mapping[str, Iterable[tuple[Kind, str]]],
    facts: Sequence[Any] | None,
    texts: Iterable[tuple[Kind, str]],
    attacks: Iterable[tuple[str, str]],
) -> Found:
    """What `look` gave, with what is `odd` about its attacks."""
    of_attacks = ((kind, f"{name}: {text}") for name, what in attacks for kind, text in odd[what])
    problems = tuple(Problem(_shown(path), kind, text) for kind, text in chain(texts, of_attacks))
    return Found(path, None if facts is None else Facts(*facts), problems)


def look(file: str) -> tuple[Sequence[Any] | None, list[tuple[Kind, str]], list[tuple[str, str]]]:
    """What a file's record is of (None: it is none), all that is wrong with it alone, and its attacks."""
    path = Path(file)
    try:
        record = read_record(path)
    except BenchError as error:
        return None, [("error", str(error).split("\n")[0].replace(f"The record {path}", "it"))], []
    return Facts.of(record), list(check(path, record)), attacked_with(record)


def _contradictions(found: Sequence[Found], believed: set[Path]) -> Iterator[Problem]:
    """What cannot all be true of several records."""
    records = [(one, one.facts) for one in found if one.facts is not None]
    for identity, versions in _versions(records, lambda r: r.id, lambda r: r.digest):
        yield from _minority(versions, believed, f"another record has the id {identity}")
    for (name, split), shapes in _versions(records, lambda r: (r.dataset, r.split), lambda r: (r.total, r.classes)):
        text = f"{name} ({split}) has another number of samples or classes than in the other records"
        yield from _minority(shapes, believed, text)
    for (name, split, n), images in _versions(records, lambda r: (r.dataset, r.split, r.n), lambda r: r.fingerprint):
        text = f"has other images than the other records under {name} ({split}, the first {n})"
        yield from _minority(images, believed, text)
    trained = [pair for pair in records if pair[1].run is not None]
    for (run, _), weights in _versions(trained, lambda r: (r.run, r.checkpoint_of), lambda r: r.checkpoint):
        yield from _minority(weights, believed, f"has other weights than the other records of the run {run}")
    transferred = [pair for pair in records if pair[1].surrogate]
    for (name, setting), surrogates in _versions(transferred, lambda r: (r.dataset, r.setting), lambda r: r.surrogate):
        text = f"its transferred images were crafted on another model than the others' on {name} ({setting})"
        yield from _minority(surrogates, believed, f"{text}: evaluate with --teacher robust=FILE")


def _versions(
    records: Iterable[tuple[Found, Facts]],
    subject: Callable[[Facts], Hashable],
    version: Callable[[Facts], Hashable],
) -> Iterator[tuple[Any, Mapping[Hashable, list[Found]]]]:
    """For each thing that records speak of, the records by what they say of it."""
    said: defaultdict[Hashable, defaultdict[Hashable, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for one, record in records:
        said[subject(record)][version(record)].append(one)
    yield from said.items()


def _minority(versions: Mapping[Hashable, list[Found]], believed: set[Path], text: str) -> Iterator[Problem]:
    """An error for all records that do not say what the believed ones do, or else most (of equals: the first)."""

    def weight(members: Sequence[Found]) -> tuple[int, int]:
        return sum(one.path in believed for one in members), len(members)

    most = max(versions.values(), key=weight)
    for members in versions.values():
        if members is not most:
            yield from (one.error(text) for one in members if one.path not in believed)
