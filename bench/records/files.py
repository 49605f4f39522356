"""Records as files: written once, read with every check."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from bench.errors import BenchError
from bench.records.record import SCHEMA_VERSION, Record, content_digest, digest_of
from bench.system.files import write_text_atomically
from bench.system.text import first_mistake, newer_schema, one_line

_MOST_BYTES = 100_000_000
"""A record of a million samples under ten attacks has a few megabytes."""


def write_record(record: Record, folder: Path) -> Path:
    """Write a record, with its digest, to `folder/ID.json`; refuse to change one that is there."""
    path = folder / f"{record.id}.json"
    if path.exists():
        raise BenchError(
            f"The record {path} exists already and records are never changed.\nDelete it to measure again."
        )
    sealed = record.model_copy(update={"digest": content_digest(record.model_dump_json())})
    write_text_atomically(path, sealed.model_dump_json(indent=1) + "\n")
    return path


def read_record(path: Path) -> Record:
    """Read and check one record.

    Raises:
        BenchError: the file is unreadable, or does not add up (the message names the first thing wrong).
    """
    return checked_record(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The content of a record's file; nothing but a regular file of some megabytes is opened.

    Raises:
        BenchError: it cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            reason = "is no regular file"
        elif status.st_size > _MOST_BYTES:
            reason = f"is larger than {_MOST_BYTES // 10**6} MB, which no record is"
        else:
            return path.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    raise BenchError(f"The record {path} {reason}.\nRestore it, or delete it and evaluate again.")


def checked_record(path: Path, content: bytes) -> Record:
    """The record that a file's content holds; parsed once.

    Raises:
        BenchError: as `read_record`.
    """
    try:
        values = _parsed(content)
        newer = newer_schema(values, SCHEMA_VERSION)
        if newer is not None:
            raise BenchError(f"The record {path} was {newer}.\nWithout that, move it to another folder.")
        record = Record.model_validate(values, context={"file": path})
    except (ValueError, ArithmeticError, RecursionError) as error:
        reason = first_mistake(error) if isinstance(error, ValidationError) else one_line(str(error))
        raise BenchError(
            f"The record {path} is not valid: {reason}.\n"
            "Records are never edited: restore it, or delete it and run `bench eval` again."
        ) from error
    if record.digest != digest_of(values):
        raise BenchError(
            f"The record {path} was changed after it was written: its digest does not match its content.\n"
            "Records are never edited: restore it, or delete it and run `bench eval` again."
        )
    return record


def known_record(content: bytes, shared: dict[str, Any] | None = None) -> Record:
    """The record in a file's content that was found right before: its parts are not held against each other again.

    Args:
        shared: environments and parameters, of which records that hold the same then have one copy together.
    """
    return Record.model_validate_json(content, context={"shared": {} if shared is None else shared})


def _parsed(content: bytes) -> Any:
    """A record's JSON, with tuples where records have them; a ValueError says what is wrong with it."""
    try:
        values = from_json(content)
    except ValueError as error:
        raise ValueError(f"Invalid JSON: {error}") from error
    results = values.get("results") if isinstance(values, dict) else None
    for result in results.values() if isinstance(results, dict) else ():
        if isinstance(result, dict) and isinstance(result.get("interval"), list):
            result["interval"] = tuple(result["interval"])
    return values


def read_records(folder: Path) -> Iterator[Record]:
    """All records of a folder, in the order of their names."""
    for path in sorted(folder.glob("*.json")):
        yield read_record(path)
