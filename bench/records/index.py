"""All records of a home, fast: what was read and checked before is not checked again, and what is wrong is left out.

An index names each record that was found right, with its file's size, times and inode, a checksum of its bytes, and the
little that is asked of a record that is not read. A record that is read counts as checked only where all of these are
as they were: the first change with every change of the file and in every copy, the checksum also where a disk returns
other bytes than were written. The index belongs to one version of the checks, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from bench.errors import BenchError
from bench.records.files import checked_record, known_record, read_bytes
from bench.records.record import Record
from bench.system.files import atomic_path
from bench.system.garbage import no_collection
from bench.system.home import Home
from bench.system.left_out import name_left_out
from bench.system.naming import network_id
from bench.system.second_process import Helper, share
from bench.vocabulary import Checkpoint

INCOMING = ".incoming"
"""Where records that are being taken in wait beside the others."""
_SETTLED_NS = 2 * 10**9
"""Age of a file below which a further change might leave its times as they are."""
_WORTH_KEEPING = 50
"""Newly checked records from which on the index is written; fewer take no time to check again."""
_VERSION = 2
"""Of the checks and of the index's own form: a greater one after every change by which a record could be wrong that was
right before, or could be found by something else."""

Stamp = list[int]
"""Size, time of change, time of the inode's change (both in ns, the latter the system's alone to set), inode."""


class Facts(NamedTuple):
    """What records are found and held against each other by."""

    id: str
    digest: str
    run: str | None
    checkpoint: str
    checkpoint_of: str
    setting: str
    dataset: str
    split: str
    n: int
    total: int
    classes: int
    fingerprint: str
    surrogate: str

    @property
    def network(self) -> str:
        """The id of what was attacked."""
        return network_id(self.run, self.id)

    @classmethod
    def of(cls, record: Record) -> Facts:
        """A record's; `surrogate`: what transferred attacks were crafted on, empty without any."""
        subject, data = record.subject, record.data
        surrogate = next((result.surrogate for result in record.results.values() if result.surrogate), "")
        return cls(
            id=record.id,
            digest=record.digest,
            run=subject.run,
            checkpoint=subject.checkpoint,
            checkpoint_of=subject.checkpoint_of,
            setting=subject.setting,
            dataset=data.name,
            split=data.split,
            n=data.n,
            total=data.total,
            classes=data.classes,
            fingerprint=data.fingerprint,
            surrogate=surrogate,
        )


class Known(NamedTuple):
    """A record that was found right: its file as it then was, the checksum of its bytes, what it is of."""

    stamp: Stamp
    checksum: str
    facts: Facts


def home_records(home: Home, of: Checkpoint | None = "best") -> list[Record]:
    """All records of a home that are right, in the order of their names; the others are named and left out.

    Args:
        of: which network of its run a record is to be of (`Subject.stands_for`); None: any.
    """
    with _Reader(home.records) as reader:
        return [record for record in reader.records() if of is None or record.subject.stands_for(of)]


def records_of(home: Home, wanted: Callable[[str], bool], of: Checkpoint = "best") -> tuple[list[Record], set[str]]:
    """The records of some networks, by their ids (`bench.system.naming`), and the ids of all that have a record.

    What is known of the records of other networks is enough: they are not read.
    """
    with _Reader(home.records) as reader:
        found = [record for record in reader.records(wanted) if record.subject.stands_for(of)]
        return found, {known.facts.network for known in reader.current.values()}


def folder_facts(folder: Path) -> dict[str, Facts]:
    """What a folder's records that are right are of, by file name; the others are named and left out."""
    with _Reader(folder) as reader:
        for _ in reader.records(lambda _: False):
            pass  # only what is not known is read
        return {name: known.facts for name, known in reader.current.items()}


class _Reader:
    """Reads the records of a folder, keeps their index beside it, and names what is wrong at the end.

    Attributes:
        current: what is known of the records read or passed over so far, by file name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._index = folder, folder.parent / "kept" / "checked-records.json"
        self.current: dict[str, Known] = {}
        self._skipped: list[BenchError] = []
        self._shared: dict[str, Any] = {}
        self._found = 0

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._found >= _WORTH_KEEPING:
            _save(self._index, self.current)
        name_left_out("record", self._skipped)

    def records(self, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[Record]:
        """The records of some networks, by their ids; what is not known is read and checked whosever it is."""
        if (self.folder / INCOMING).is_dir():
            from bench.records.intake import settle

            settle(self.folder)
        stamps = _stamps(self.folder)
        known = _load(self._index) if stamps else {}
        known = {name: known[name] for name, stamp in stamps if name in known and known[name].stamp == stamp}
        new = [f"{self.folder}/{name}" for name, _ in stamps if name not in known]
        with no_collection(), Helper("bench.records.index:look", new[len(new) - share(new) :]) as helper:
            helped: dict[str, Any] | None = None
            theirs = set(helper.items)
            for name, stamp in stamps:
                path = f"{self.folder}/{name}"
                if path in theirs:
                    helped = helper.results() if helped is None else helped
                    known |= {name: Known(stamp, *_looked(helped[path]))} if helped.get(path) else {}
                entry = known.get(name)
                if entry is not None and not wanted(entry.facts.network):
                    self.current[name] = entry
                    self._found += path in theirs
                    continue
                record = self._read(name, stamp, entry)
                self._found += path in theirs
                if record is not None and wanted(network_id(record.subject.run, record.id)):
                    yield record

    def _read(self, name: str, stamp: Stamp, known: Known | None) -> Record | None:
        """One record; None where there is none that is right."""
        path = self.folder / name
        try:
            content = read_bytes(path)
            if known is not None and known.checksum == _checksum(content):
                self.current[name] = known
                return known_record(content, self._shared)
            record = checked_record(path, content)
        except BenchError as error:
            if path.exists() or path.is_symlink():  # else someone removed it meanwhile
                self._skipped.append(error)
            return None
        self.current[name] = Known(stamp, _checksum(content), Facts.of(record))
        self._found += 1
        return record


def look(path: str) -> tuple[str, Facts] | None:
    """The checksum of a record's file and what it is of; None where it is not right."""
    try:
        content = read_bytes(Path(path))
        return _checksum(content), Facts.of(checked_record(Path(path), content))
    except BenchError:
        return None


def _looked(answer: list[Any]) -> tuple[str, Facts]:
    return str(answer[0]), Facts(*answer[1])


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _stamps(folder: Path) -> list[tuple[str, Stamp]]:
    """Every record's file with its stamp, by name; one that cannot be looked at has an empty stamp."""
    found: list[tuple[str, Stamp]] = []
    if not folder.is_dir():
        return found
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json") and not entry.name.startswith("."):
                try:
                    stat = entry.stat()
                except OSError:
                    found.append((entry.name, []))
                else:
                    found.append((entry.name, [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]))
    return sorted(found)


def _load(index: Path) -> dict[str, Known]:
    """What was found right before; nothing where the index is missing, damaged, or of another version."""
    try:
        head, _, body = index.read_bytes().partition(b"\n")
        if from_json(head) != {"version": _VERSION, "checksum": _checksum(body)}:
            return {}
        entries = from_json(body).items()
        return {name: Known(stamp, checksum, Facts(*facts)) for name, (stamp, checksum, facts) in entries}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _save(index: Path, found: dict[str, Known]) -> None:
    now = time.time_ns()
    settled = {name: known for name, known in found.items() if now - max(known.stamp[1:3], default=now) > _SETTLED_NS}
    body = json.dumps(settled).encode()
    head = json.dumps({"version": _VERSION, "checksum": _checksum(body)}).encode()
    try:
        with atomic_path(index) as temporary:
            temporary.write_bytes(head + b"\n" + body)
    except BenchError:
        return  # a home that cannot be written is read more slowly
