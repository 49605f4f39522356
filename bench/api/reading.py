"""`bench.load_records` and `bench.compare`: what was measured, and whether networks differ. Neither imports PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, get_args

from bench.analysis.compare import Comparison, compare_networks
from bench.analysis.find import find_networks
from bench.api import arguments
from bench.errors import BenchError, unknown_name
from bench.records.index import home_records
from bench.records.networks import Network, measured_under, networks_of
from bench.records.record import Record
from bench.system.home import Home
from bench.threat import Threat
from bench.vocabulary import Selected


class _HasId(Protocol):
    """What `bench.train` returns."""

    id: str
    home: Home


Side = Record | Iterable[Record] | str | Path | _HasId
"""What is compared: records, or what the command line takes, the name of a run or of a method, or a record's file."""


def load_records(
    home: Path | str | None = None,
    *,
    dataset: str | None = None,
    student: str | None = None,
    method: str | None = None,
    attack: str | None = None,
    threat: Threat | str | None = None,
    checkpoint_of: Selected = "best",
) -> list[Record]:
    """The records of a home, the oldest first; a record that is not right is named and left out.

    Args:
        home: folder of `results/`; None: what BENCH_HOME names, or the current folder.
        dataset: only what was measured on this.
        student: only networks of this architecture, also teachers; of a model from Python it is its class.
        method: only what this method trained; of a model from elsewhere it is its name.
        attack: only records with a result of this; `transfer:NAME` was crafted on a surrogate.
        threat: only what was measured under this: "l2:0.5".
        checkpoint_of: of each run its `best` or its `last` weights.

    Raises:
        BenchError: nothing was measured of one of these names; a home without records has none to tell.
    """
    place = arguments.home_at(home)
    if home is not None and not place.root.is_dir():
        raise BenchError(f"home={str(home)!r}: there is no such folder.\nGive the folder that has results/ in it.")
    arguments.one_of("checkpoint_of", checkpoint_of, get_args(Selected))
    records = sorted(home_records(place, checkpoint_of), key=lambda record: (record.created, record.id))
    asked = {"dataset": dataset, "student": student, "method": method, "attack": attack}
    wanted = {kind: name for kind, name in asked.items() if arguments.text(kind, name) is not None}
    for kind, name in wanted.items():
        known = {each for record in records for each in _names(record, kind)}
        if known and name not in known:
            raise unknown_name(f"{kind} (nothing was measured here of that name)", str(name), known)
    found = measured_under(records, threat_named(threat))
    return [record for record in found if all(name in _names(record, kind) for kind, name in wanted.items())]


def threat_named(threat: Threat | str | None) -> Threat | None:
    """A threat that records are to be of; a `BenchError` where it is none."""
    wanted = Threat.wanted(threat)
    if isinstance(wanted, float):
        raise BenchError(f"threat={threat!r} names no norm.\nGive NORM:EPS, as in 'linf:8/255' or 'l2:0.5'.")
    return wanted


def _names(record: Record, kind: str) -> set[str]:
    """What a record can be asked for by."""
    model = record.subject.model
    return {
        "dataset": {record.data.name},
        "student": {model, model.partition("@")[0]},
        "method": {record.subject.method},
        "attack": set(record.results),
    }[kind]


def compare(
    *sides: Side,
    attacks: str | Sequence[str] = (),
    threat: Threat | str | None = None,
    across_threats: bool = False,
    all_seeds: bool = False,
    checkpoint_of: Selected = "best",
    home: Path | str | None = None,
) -> Comparison:
    """Test whether networks differ, sample by sample or, with three seeds and more, seed by seed, as `bench compare`.

    Args:
        sides: records, lists of records, runs as `bench.train` returns them, or their names: an id or the beginning of
            it, a method, a record's file. Networks that differ in the training seed alone are one side.
        attacks: only these, as records name them; none for all.
        threat: only what was measured under this: "l2:0.5".
        across_threats: whether each network's accuracy under its own threat is held against the others' under theirs.
        all_seeds: with every run of the home that differs from a named one in the seed alone.
        checkpoint_of: whether a named run stands for its `best` or its `last` weights; a record is of what it is of.
        home: where named runs have their records; None: what BENCH_HOME names, or the current folder.

    Returns:
        All contrasts, with the difference, its interval, its p-value and a verdict of each; a notebook shows them.
        From three seeds a side on each has `two_level`, the interval over other seeds and other images.

    Raises:
        BenchError: fewer than two networks, nothing they were both measured with, a name that has no record.
    """
    place = arguments.home_at(home)
    only = arguments.names_in("attacks", attacks, "['fgsm', 'pgd-sat']", or_none=True)
    arguments.one_of("checkpoint_of", checkpoint_of, get_args(Selected))
    everywhere = arguments.yes_or_no("all_seeds", all_seeds)
    records: list[Record] = []
    names: dict[Home, list[str]] = {}
    for side in sides:
        if isinstance(side, Record):
            records.append(side)
        elif isinstance(side, (str, os.PathLike)):
            names.setdefault(place, []).append(os.fspath(side))
        elif isinstance(getattr(side, "home", None), Home):
            names.setdefault(side.home, []).append(side.id)  # type: ignore[union-attr]
        else:
            records += _records_in(side)
    networks: list[Network] = networks_of(records)
    for where, own in names.items():
        networks += find_networks(own, where, everywhere, checkpoint_of=checkpoint_of)
    across = arguments.yes_or_no("across_threats", across_threats)
    return compare_networks(networks, only, threat_named(threat), across)


def _records_in(side: object) -> list[Record]:
    found: list[Record] = []
    for each in side if isinstance(side, Iterable) else [side]:
        if not isinstance(each, Record):
            raise BenchError(
                f"compare() takes no {type(each).__name__}.\n"
                "Give records (bench.evaluate, bench.load_records), lists of them, or names of runs."
            )
        found.append(each)
    return found
