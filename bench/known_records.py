"""All records of a home, fast: what was read and checked before is not checked again.

An index names each record that was found right, with its file's size, times and inode: those change with every change
of the file, and differ in every copy. It belongs to one version of the checks, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json

from bench import records as checks
from bench.errors import BenchError
from bench.files import write_text_atomically
from bench.garbage import no_collection
from bench.home import Home
from bench.records import AttackResult, Data, Record, Subject, TrainingCost, read_record

_SETTLED_NS = 2 * 10**9
"""Age of a file below which a further change might leave its times as they are."""
_WORTH_KEEPING = 50
"""Newly checked records from which on the index is written; fewer take no time to check again."""

Stamp = list[int]
"""Size, time of change, time of the inode's change (both in ns, the latter the system's alone to set), inode."""


def home_records(home: Home) -> list[Record]:
    """All records of a home, in the order of their names; the same as `read_records` gives.

    Raises:
        BenchError: one cannot be read or is not right.
    """
    if not home.records.is_dir():
        return []
    index = home.kept / "checked-records.json"
    known, checked = _load(index), dict[str, Stamp]()
    try:
        with no_collection():
            return list(_read(home.records, known, checked))
    finally:
        if len(checked) >= _WORTH_KEEPING:
            _save(index, known | checked)


def _read(folder: Path, known: dict[str, Stamp], checked: dict[str, Stamp]) -> Iterator[Record]:
    """All records of a folder; the stamps of those that are right are added to `checked`."""
    now = time.time_ns()
    for name, stamp in _stamps(folder):
        path = f"{folder}/{name}"
        if known.get(name) == stamp:
            with open(path, "rb") as stream:
                yield _rebuilt(stream.read())
            continue
        record = read_record(Path(path))
        if now - max(stamp[1:3]) > _SETTLED_NS and repr(_rebuilt(Path(path).read_bytes())) == repr(record):
            checked[name] = stamp
        yield record


def _stamps(folder: Path) -> list[tuple[str, Stamp]]:
    """Every record's file with its stamp, by name."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json"):
                stat = entry.stat()
                found.append((entry.name, [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]))
    return sorted(found)


def _version() -> str:
    """Of the checks: their source."""
    source = Path(checks.__file__).read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(source).hexdigest()


def _load(index: Path) -> dict[str, Stamp]:
    """What was found right before; nothing where the index is missing, damaged, or of another version."""
    try:
        content = json.loads(index.read_bytes())
        return dict(content["records"]) if content["version"] == _version() else {}
    except (OSError, ValueError, TypeError, LookupError):
        return {}


def _save(index: Path, found: dict[str, Stamp]) -> None:
    try:
        write_text_atomically(index, json.dumps({"version": _version(), "records": found}))
    except BenchError:
        return  # a home that cannot be written is read more slowly


def _rebuilt(text: bytes) -> Record:
    """A record that is known to be right, without the checks; ValueError or LookupError for what is no record."""
    values = from_json(text)
    subject = values["subject"]
    if subject.get("training") is not None:
        subject["training"] = _made(TrainingCost, subject["training"])
    values["subject"], values["data"] = _made(Subject, subject), _made(Data, values["data"])
    for name, result in values["results"].items():
        result["interval"] = tuple(result["interval"])
        values["results"][name] = _made(AttackResult, result)
    return _made(Record, values)


def _made(model: type[Any], values: dict[str, Any]) -> Any:
    """A model of these values as they are; a field that is missing has its default."""
    fields = model.__pydantic_fields__
    given = set(values)
    if len(values) < len(fields):
        values = {
            name: values[name] if name in given else field.get_default(call_default_factory=True)
            for name, field in fields.items()
        }
    made = BaseModel.__new__(model)
    for name, content in (
        ("__dict__", values),
        ("__pydantic_fields_set__", given),
        ("__pydantic_extra__", None),
        ("__pydantic_private__", None),
    ):
        object.__setattr__(made, name, content)
    return made
