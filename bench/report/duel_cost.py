"""What the sides of a duel took to train and to attack: by their records, and by profiles where there are any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.compare import Comparison
from bench.cost.profile import Profile, load_profiles
from bench.records.index import home_records
from bench.records.networks import Network
from bench.records.record import Record
from bench.system.home import Home
from bench.system.text import duration
from bench.tables.cell import DASH
from bench.tables.plain import PlainTable
from bench.vocabulary import Selected

Found = Mapping[Selected, Comparison]
"""What the networks of each kind that every run keeps came to."""


@dataclass(frozen=True)
class Cost:
    """What a side took, a network on average.

    Attributes:
        training: by device, seconds a network, without teachers; empty where the records do not say.
        attacks: by device, seconds a network.
        passes: images that the attacks passed through the network; None where a record did not count them.
        flops: of training, for an image of one step, by `bench profile`; None where there is no profile of it.
    """

    training: Mapping[str, float]
    attacks: Mapping[str, float]
    passes: float | None
    flops: float | None


@dataclass(frozen=True)
class Costs:
    """What the sides took, by name; and in seconds the training of each teacher that was trained here."""

    sides: Mapping[str, Cost]
    teachers: Mapping[str, float]


def records_of(networks: Iterable[Network]) -> list[Record]:
    """The records that networks' numbers are from; of weights that are a run's best and its last only one of each."""
    found: dict[tuple[object, ...], Record] = {}
    for network in networks:
        for each in network.measured.values():
            record, data = each.record, each.record.data
            weights = (record.subject.run, record.subject.checkpoint)
            what = (*weights, record.suite, record.conduct, data.name, data.n, str(data.threat))
            found.setdefault(what, record)
    return list(found.values())


def networks_of(found: Found) -> dict[str, list[Network]]:
    """The networks of each side, the best and the last, with what was compared of them."""
    names = [side.name for side in next(iter(found.values())).sides]
    networks: dict[str, list[Network]] = {name: [] for name in names}
    for comparison in found.values():
        compared = {(each.condition, each.attack) for each in comparison.contrasts}
        for name, side in zip(names, comparison.sides, strict=True):
            for network in side.networks:
                measured = {key: each for key, each in network.measured.items() if key in compared}
                networks[name].append(replace(network, measured=measured))
    return networks


def _cost(networks: Sequence[Network], profiles: Sequence[Profile]) -> Cost:
    records = records_of(networks)
    trained = {record.subject.run: record.subject.training for record in records if record.subject.training}
    runs = len({record.subject.run for record in records})
    training, attacks = (defaultdict[str, float](float) for _ in range(2))
    for training_cost in trained.values():
        training[training_cost.device] += training_cost.seconds / len(trained)
    for record in records:
        attacks[str(record.environment.get("hardware", "a device of no name"))] += record.seconds / runs
    counts = [record.checks.attack_passes if record.checks else None for record in records]
    passes = [count for count in counts if count is not None]
    whole = sum(passes) / runs if len(passes) == len(counts) else None
    return Cost(training, attacks, whole, _flops(networks[0], profiles))


def _flops(network: Network, profiles: Sequence[Profile]) -> float | None:
    """Floating-point operations of training, for an image of one step, on average over a run's phases."""
    subject, datasets = network.subject, {condition.dataset for condition in network.conditions}
    own = {
        (each.phase, each.phase_share): each.flops_per_image
        for each in profiles
        if (each.method, each.student) == (subject.method, subject.model) and each.dataset in datasets
    }
    if subject.overrides or abs(sum(share for _, share in own) - 1) > 1e-6:
        return None
    return sum(share * flops for (_, share), flops in own.items())


def costs_of(home: Home, found: Found) -> Costs:
    """What the sides of a duel took, and their teachers.

    Raises:
        BenchError: a profile is damaged.
    """
    profiles = [each for each in load_profiles(home) if not each.off]
    sides = {name: _cost(networks, profiles) for name, networks in networks_of(found).items()}
    return Costs(sides, _teachers(home, [network for own in networks_of(found).values() for network in own]))


def _teachers(home: Home, networks: Sequence[Network]) -> dict[str, float]:
    """Seconds that the training of each teacher took, by what it is called; of files none is known."""
    weights = {checkpoint for network in networks for checkpoint in network.subject.teachers.values()}
    records = [record for record in home_records(home) if record.subject.checkpoint in weights] if weights else []
    return {
        f"{subject.label} {subject.model}, {subject.role} teacher, seed {subject.seed}": subject.training.seconds
        for subject in (record.subject for record in records)
        if subject.kind == "teacher" and subject.training is not None
    }


def cost_table(costs: Costs) -> PlainTable:
    """What each side took, then the teachers."""
    counted = any(cost.flops is not None for cost in costs.sides.values())
    lines = [
        (
            name,
            _times(cost.training),
            *([DASH if cost.flops is None else f"{cost.flops / 1e9:.3g}"] if counted else []),
            _times(cost.attacks),
            DASH if cost.passes is None else f"{cost.passes:,.0f}",
            " and ".join(dict.fromkeys((*cost.training, *cost.attacks))) or DASH,
        )
        for name, cost in costs.sides.items()
    ]
    headers = ("Defense", "Training", *["GFLOP/image"] * counted, "Attacks", "Attack passes", "Device")
    remarks = [
        "Training: of a network on average, all sittings together, without its teachers. Attacks: the records of a "
        "network that were compared, with the checks of the evaluation. Attack passes: images that the attacks passed "
        "through it. Tasks that ran beside each other took longer than alone."
    ]
    if counted:
        remarks.append("GFLOP/image: of a training step, as `bench profile` counted; a multiply-add is two.")
    if costs.teachers:
        taught = ", ".join(f"{who} {duration(seconds)}" for who, seconds in costs.teachers.items())
        remarks.append(f"Teachers, each trained once: {taught}.")
    return PlainTable("What it cost", headers, tuple(lines), tuple(remarks))


def _times(by_device: Mapping[str, float]) -> str:
    return " + ".join(map(duration, by_device.values())) or DASH
