"""Which networks are meant by the names a user gives: runs, defenses, records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import registry
from bench.errors import BenchError
from bench.records.files import read_record
from bench.records.index import home_records, records_of
from bench.records.networks import Network, networks_of
from bench.records.record import Record
from bench.system.home import Home
from bench.system.naming import chosen, listed, network_id, short_names, stands_for
from bench.system.text import defense_label, one_line
from bench.vocabulary import Selected


@dataclass(frozen=True)
class Narrowed:
    """What networks have to be of; None for any."""

    student: str | None = None
    dataset: str | None = None

    def holds(self, network: Network) -> bool:
        datasets = {condition.dataset for condition in network.conditions}
        return self.student in (None, network.subject.model) and (self.dataset is None or self.dataset in datasets)

    def __str__(self) -> str:
        asked = {"--student": self.student, "--dataset": self.dataset}
        return "".join(f" with {option} {value}" for option, value in asked.items() if value is not None)


def find_networks(
    names: Sequence[str],
    home: Home,
    all_seeds: bool = False,
    narrowed: Narrowed = Narrowed(),
    say: Callable[[str], None] = lambda _: None,
    checkpoint_of: Selected = "best",
) -> list[Network]:
    """The networks a user names.

    Args:
        names: ids of runs or beginnings of them (`bench.system.naming`), methods, which stand for all of their seeds,
            or record files; of a file only that record counts.
        home: of all records; those that are not right are named and left out.
        all_seeds: with every other run in the home that differs from a named one in the training seed alone.
        narrowed: which networks a method or the beginning of an id can mean.
        say: is told what such a name stands for.
        checkpoint_of: which network of a run a name stands for; a record's file is of what it is of.

    Raises:
        BenchError: no record is of a run of that name, several are that differ in more than the seed, a file that is
            named is not right, or a network comes twice.
    """
    files = {name for name in names if name.endswith(".json") or Path(name).is_file()}
    known = _known(set(names) - files, home, all_seeds, checkpoint_of)
    networks: list[Network] = []
    for name in names:
        found = [_in_file(Path(name))] if name in files else _named(name, known, narrowed)
        if name not in files and name not in known:
            say(one_line(f"{name}: {', '.join(network.name for network in found)}"))
        networks += found
    if all_seeds:
        wanted, there = {network.identity for network in networks}, {network.name for network in networks}
        others = {network.name: network for network in known.values() if network.name not in there}
        networks += [network for network in others.values() if network.identity in wanted]
    for network in networks:
        which = network.subject.checkpoint_of
        if sum((other.name, other.subject.checkpoint_of) == (network.name, which) for other in networks) > 1:
            raise BenchError(f"{network.name} is named twice.\nName each run once, with all its records or with one.")
    return networks


def _in_file(path: Path) -> Network:
    """What one record tells of its network; a file from elsewhere may be named by several of its records."""
    record = read_record(path)
    network = Network.of([record])
    return network if record.subject.run is not None else replace(network, name=record.id)


def _known(names: set[str], home: Home, everything: bool, of: Selected) -> dict[str, Network]:
    """By their ids the networks that have a record; where names are of a few runs, no others are read."""
    if not names and not everything:
        return {}
    records: list[Record]
    if everything or names & set(registry.names("methods")):
        records = home_records(home, of)
    else:
        records, there = records_of(home, lambda one: any(stands_for(name, one) for name in names), of)
        if not all(any(stands_for(name, one) for one in there) for name in names):
            records = home_records(home, of)  # a name may be the method of a file from elsewhere
    return {
        network_id(network.subject.run, each.record.id): network
        for network in networks_of(records)
        for each in network.measured.values()
    }


def _named(name: str, known: Mapping[str, Network], narrowed: Narrowed) -> list[Network]:
    """What a name that is no file stands for: a run, all seeds of a method, or the run whose id begins so."""
    if name in known:
        return [known[name]]
    students = {network.name: network for network in known.values() if network.subject.kind != "teacher"}
    of_method = [network for network in students.values() if network.subject.method == name]
    if of_method:
        return _seeds(name, of_method, narrowed, short_names(known))
    possible = [identity for identity, network in known.items() if narrowed.holds(network)]
    methods = {network.subject.method for network in students.values()}
    return [known[chosen(f"run (none of its records are here{narrowed})", name, possible, methods)]]


def _seeds(name: str, networks: Sequence[Network], narrowed: Narrowed, short: Mapping[str, str]) -> list[Network]:
    """Those of a method's networks that are meant, which differ in the training seed alone."""
    found = [network for network in networks if narrowed.holds(network)]
    # A method's name alone means the defense as its recipe has it; what was set otherwise has another label.
    found = [network for network in found if not network.subject.overrides] or found
    if len({network.identity for network in found}) == 1:
        return sorted(found, key=lambda network: network.subject.seed or 0)
    kinds = defaultdict[str, list[str]](list)
    for network in found or networks:
        subject, datasets = network.subject, sorted({where.dataset for where in network.conditions})
        label = defense_label(f"{subject.model} on {' and '.join(datasets)}, {subject.setting}", subject.overrides)
        kinds[label].append(short[network.name])
    there = listed([f"{words}: {listed(names)}" for words, names in sorted(kinds.items())], "; ")
    what = "stands for runs that differ in more than the seed" if found else f"has no record{narrowed}; there is"
    raise BenchError(
        f"{one_line(f'{name!r} {what}: {there}')}.\nSay which with --student and --dataset, or by the names of runs."
    )
