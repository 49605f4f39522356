"""What can be wrong with one record, beyond what reading it checks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal

from bench import registry
from bench.errors import BenchError
from bench.records.outcomes import unpack
from bench.records.parameters import changed, parameters_of
from bench.records.record import AttackResult, Record
from bench.system.text import is_visible
from bench.threat import Entry, Threat

Kind = Literal["error", "warning"]

_ROUNDING = 1e-9
_to_json = json.JSONEncoder(sort_keys=True).encode
_NUMBERS: Any = {"data": {"class_counts"}, "results": {"__all__": {"class_accuracy", "final", "worst"}}}
"""Long parts of a record that hold numbers alone."""
_CLOCK = timedelta(hours=1)
"""How far another machine's clock may be ahead."""


def check(path: Path, record: Record) -> Iterator[tuple[Kind, str]]:
    """What is wrong with a record, or odd about it, in words."""
    texts = record.model_dump(mode="json", exclude=_NUMBERS)
    for text in chain(_misnamed(path, record), _unlikely(record), _hidden(texts, "it")):
        yield "error", text
    if not (record.environment.get("git") or record.environment.get("release")):
        yield "warning", "its environment names no commit and no release of the harness"
    for name, result in record.results.items():
        for text in _contradictions(result, record):
            yield "error", f"{name}: {text}"
        clean = record.results.get("clean")
        if clean is not None and name != "clean" and result.accuracy > clean.accuracy + _ROUNDING:
            yield "warning", f"{name}: robust accuracy is above the clean one"


def _misnamed(path: Path, record: Record) -> Iterator[str]:
    if path.name != f"{record.id}.json":
        yield f"the file should be called {record.id}.json, by the record's id"
    if re.fullmatch(r"[A-Za-z0-9._-]+", record.id) is None:
        yield "its id holds other letters than A-Z, a-z, 0-9, '.', '_' and '-'"
    data = record.data
    if data.n < data.total and not record.id.endswith(f"-n{data.n}"):
        yield f"only the first {data.n} of {data.total} samples were attacked, and its id does not end in -n{data.n}"


def _unlikely(record: Record) -> Iterator[str]:
    if datetime.fromisoformat(record.created.replace("Z", "+00:00")) > datetime.now(timezone.utc) + _CLOCK:
        yield f"it was created in the future: {record.created}"
    environment = record.environment
    packages = environment.get("packages")
    if not isinstance(packages, dict) or not packages.get("torch"):
        yield "its environment names no version of torch"
    if not environment.get("device"):
        yield "its environment names no device"
    if "clean" not in record.results:
        yield "it has no clean accuracy"
    surrogates = {result.surrogate for name, result in record.results.items() if Entry.of(name).transfer}
    if len(surrogates) > 1:
        yield "its transferred attacks were crafted on different surrogates"


def _hidden(content: Any, place: str) -> Iterator[str]:
    """Texts that hold what no reader sees: control codes would reach the terminal of whoever lists the record."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _hidden(key, f"a name in {place}")
            yield from _hidden(value, key if place == "it" else f"{place}.{key}")
    elif isinstance(content, list):
        for value in content:
            yield from _hidden(value, place)
    elif isinstance(content, str) and not content.isprintable() and not all(map(is_visible, content)):
        yield f"{place} holds control characters or invisible ones"


def _contradictions(result: AttackResult, record: Record) -> Iterator[str]:
    n, clean = record.data.n, record.results.get("clean")
    # However many samples a class has, their mean lies between the classes' own.
    known = [value for value in result.class_accuracy if value is not None]
    if known and not min(known) - _ROUNDING <= result.accuracy <= max(known) + _ROUNDING:
        yield "the accuracy is outside the range of the classes' accuracies"
    if result.components:
        values = list(result.components.values())
        if any(later > earlier + _ROUNDING for earlier, later in pairwise(values)):
            yield "robust accuracy rises from one component to the next"
        if abs(values[-1] - result.accuracy) > 0.5 / n:
            yield "the last component's robust accuracy is not the attack's"
        if clean is not None and abs(result.components.get("clean", clean.accuracy) - clean.accuracy) > 0.5 / n:
            yield "the clean accuracy among its components is not the record's"
    if result.worst is not None and clean is not None:
        worst = unpack(result.worst, n)
        if result.parameters.get("start") == "none" and (worst & ~unpack(clean.final, n)).any():
            yield "right on every iterate of an attack that starts at the image, yet wrong on the image"


def attacked_with(record: Record) -> list[tuple[str, str]]:
    """Each result's name and what it was attacked with, for `foreign`; thousands of records have the same few."""
    return [
        (name, _to_json([entry.attack, record.protocol, threat.norm, threat.eps, record.attack_set, result.parameters]))
        for name, result in record.results.items()
        for entry in [Entry.of(name)]
        for threat in [entry.under(record.data.threat)]
        if name != "clean"
    ]


def foreign(what: str) -> tuple[tuple[Kind, str], ...]:
    """What of an attack, its protocol, threat and parameters is not as this installation would have it."""
    name, protocol, norm, eps, own, given = json.loads(what)
    try:
        registry.find("attacks", name)
    except BenchError:
        return (("warning", "no attack of that name is installed here, so its parameters cannot be checked"),)
    try:
        expected = parameters_of(name, protocol, Threat(norm, eps), own)
    except (BenchError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        return (("warning", f"its parameters cannot be checked here: {reason}"),)
    found: list[tuple[Kind, str]] = []
    wrong = changed(given, expected)
    if wrong:
        text = ", ".join(f"{key} = {given[key]!r} instead of {expected[key]!r}" for key in wrong)
        found.append(("error", f"parameters are not the {protocol} protocol's: {text}"))
    unknown = sorted(expected.keys() ^ given.keys())
    if unknown:
        found.append(("warning", f"parameters that only one version of the attack has: {', '.join(unknown)}"))
    return tuple(found)
