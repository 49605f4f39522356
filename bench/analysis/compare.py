"""`bench compare`: whether one defense is better than another, from the per-sample outcomes of their records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from bench.analysis.find import find_networks as find_networks
from bench.errors import BenchError, unknown_name
from bench.records.measurement import Measurement, PublishedQuantity
from bench.records.networks import WORST, Condition, Key, Network
from bench.stats import LEVEL, Difference, Test, compare, detectable, holm, two_level_interval
from bench.system.text import defense_label, one_line
from bench.threat import Threat


@dataclass(frozen=True)
class Side:
    """A defense: one network, or several that differ in the training seed alone."""

    name: str
    networks: tuple[Network, ...]

    @property
    def threats(self) -> list[str]:
        """What it was attacked under."""
        return sorted({str(each.record.data.threat) for network in self.networks for each in network.measured.values()})


@dataclass(frozen=True)
class Accuracy:
    """A side's number, in [0, 1]: of one network with its 95 % interval, or the mean over seeds with their spread."""

    value: float
    interval: tuple[float, float] | None
    std: float | None
    seeds: int


@dataclass(frozen=True)
class Contrast:
    """One number of two sides, and whether they differ.

    Attributes:
        difference: first minus second, in [-1, 1], with its interval and its own p-value, both uncorrected.
        p_holm: after Holm's correction over the same number of all pairs of sides, as a table's over a column's rivals.
        family: how many these are.
        detectable: of one that was not found, the smallest true difference that the test finds in four of five cases
            at the first level of that correction; None where nothing tells.
        two_level: 95 % interval of the difference over other seeds and other images; None with fewer than three seeds
            on a side. The verdict is the test's, of these images.
    """

    condition: Condition
    attack: str
    quantity: PublishedQuantity
    sides: tuple[str, str]
    accuracies: tuple[Accuracy, Accuracy]
    difference: Difference
    test: Test
    p_holm: float = 1.0
    family: int = 1
    detectable: float | None = None
    two_level: tuple[float, float] | None = None

    def __str__(self) -> str:
        names = {"clean": "clean accuracy", "robust": "robust accuracy", "weighted": "W-R"}
        what = names[self.quantity] if self.attack == "clean" else f"{self.attack}, {names[self.quantity]}"
        one, other = (f"{100 * each.value:.2f}" for each in self.accuracies)
        value, low, high = (100 * part for part in (self.difference.value, self.difference.low, self.difference.high))
        wider = ""
        if self.two_level is not None:
            wider = f" ([{100 * self.two_level[0]:+.2f}, {100 * self.two_level[1]:+.2f}] on other images too)"
        return f"{what}: {one} against {other} %, {value:+.2f} [{low:+.2f}, {high:+.2f}]{wider}, {self.verdict}"

    @property
    def verdict(self) -> str:
        """What the test says, of this difference alone and as one of its family; the interval has no part in it."""
        if self.difference.p > LEVEL:
            return f"not significant (p > {LEVEL})"
        better = self.sides[0] if self.difference.value > 0 else self.sides[1]
        if not self.found:
            return f"{better} is better taken alone, not significant as one of {self.family}"
        return f"{better} is better"

    @property
    def found(self) -> bool:
        """Whether the difference is significant."""
        return self.p_holm <= LEVEL

    @property
    def hangs_on_images(self) -> bool:
        """Whether it is significant on these images, and other ones could change it."""
        return self.found and self.two_level is not None and self.two_level[0] <= 0 <= self.two_level[1]


@dataclass(frozen=True, repr=False)
class Comparison:
    """All contrasts of some sides, and why an attack that was run on two of them is not among them."""

    sides: tuple[Side, ...]
    contrasts: tuple[Contrast, ...]
    left_out: tuple[str, ...]

    @property
    def by_condition(self) -> dict[tuple[tuple[str, str], Condition], list[Contrast]]:
        """The contrasts of each pair of sides under each condition."""
        groups: dict[tuple[tuple[str, str], Condition], list[Contrast]] = {}
        for each in self.contrasts:
            groups.setdefault((each.sides, each.condition), []).append(each)
        return groups

    def __repr__(self) -> str:
        """What `print` and a notebook show: of each pair the answer, then a line a contrast."""
        from bench.analysis.answer import answer  # which is of contrasts

        lines = []
        for (pair, condition), contrasts in self.by_condition.items():
            lines.append(f"{pair[0]} against {pair[1]} on {condition}:")
            lines += [answer(contrasts), *(f"  {each}" for each in contrasts)]
        return "\n".join([*lines, *(f"Not compared: {reason}." for reason in self.left_out)])


def compare_networks(
    networks: Sequence[Network], attacks: Sequence[str] = (), threat: Threat | None = None, across: bool = False
) -> Comparison:
    """Compare every two sides in all that both were measured with on the same samples.

    Args:
        networks: those that differ in the training seed alone are one side; if all do, each is a side.
        attacks: only these; none for all.
        threat: only what was measured under it.
        across: whether each network's accuracy under its own threat is held against the others' under theirs.

    Raises:
        BenchError: there are not two networks, or nothing to compare; or an attack had other parameters.
    """
    networks = [network.only_under(threat) for network in networks]
    networks = [across_threats(network) for network in networks] if across else networks
    if len(networks) < 2:
        raise BenchError("There is only one network to compare.\nName two runs or more; `bench status` lists them.")
    check_attacks(networks, attacks)
    sides = sides_of([network.with_worst() for network in networks])
    contrasts: list[Contrast] = []
    left_out: list[str] = []
    for first, second in combinations(sides, 2):
        shared, reasons = shared_keys(first, second, attacks)
        left_out += reasons
        if not [attack for _, attack in shared if attack != "clean" or "clean" in attacks]:
            raise BenchError(
                f"{one_line(f'{first.name} and {second.name}')} have no attack in common on the same samples. "
                f"{one_line('; '.join(reasons)) or 'Each was measured with others'}.\n{_cure(first, second)}"
            )
        for condition, attack in shared:
            contrasts += _contrasts(first, second, condition, attack)
    return Comparison(tuple(sides), tuple(_corrected(contrasts, sides)), tuple(left_out))


def across_threats(network: Network) -> Network:
    """A network whose measurements are found without their threat, to be held against those of another one.

    Raises:
        BenchError: it was measured with one attack under several threats.
    """
    measured: dict[Key, Measurement] = {}
    for (condition, attack), each in network.measured.items():
        key = _without_threat((condition, attack))
        if key in measured and attack != "clean":
            threats = " and ".join(str(one.record.data.threat) for one in (measured[key], each))
            raise BenchError(
                f"{one_line(network.name)} was measured with {attack} under {threats}.\n"
                "Name the file of the record that is meant: results/records/ID.json."
            )
        measured[key] = each
    return replace(network, measured=measured)


def _without_threat(key: Key) -> Key:
    condition, attack = key
    return replace(condition, norm="linf", eps=0.0, across=True), attack


def _cure(first: Side, second: Side) -> str:
    """How two sides without a common measurement can be compared."""
    one, other = ([key for each in side.networks for key in each.measured] for side in (first, second))
    if set(map(_without_threat, one)) & set(map(_without_threat, other)):
        return "Their threats differ: measure both under one (bench eval --threat), or compare with --across-threats."
    return "Evaluate both with one suite, protocol and --limit: bench eval --suite whitebox."


def _corrected(contrasts: Sequence[Contrast], sides: Sequence[Side]) -> Iterator[Contrast]:
    """The contrasts, each corrected over all pairs of sides in its number, and what could have been found then."""
    named = {side.name: side for side in sides}
    families: defaultdict[tuple[Condition, str, str], list[Contrast]] = defaultdict(list)
    for each in contrasts:
        families[each.condition, each.attack, each.quantity].append(each)
    adjusted: dict[int, float] = {}
    for family in families.values():
        adjusted |= zip(map(id, family), holm([each.difference.p for each in family]), strict=True)
    for each in contrasts:
        size = len(families[each.condition, each.attack, each.quantity])
        found = replace(each, p_holm=adjusted[id(each)], family=size)
        if not found.found:
            scores = [scores_of(named[name], each.condition, each.attack, each.quantity) for name in each.sides]
            found = replace(found, detectable=detectable(scores[0], scores[1], LEVEL / size))
        yield found


def scores_of(side: Side, condition: Condition, attack: str, quantity: PublishedQuantity) -> list[np.ndarray]:
    """Of each network, every sample's part in a number."""
    measured = (network.measured[condition, attack] for network in side.networks)
    return [scores for each in measured if (scores := each.scores(quantity)) is not None]


def check_attacks(networks: Sequence[Network], attacks: Sequence[str]) -> None:
    known = {attack for network in networks for _, attack in network.measured} | {WORST}
    for attack in attacks:
        if attack not in known:
            raise unknown_name("attack (none of the runs was measured with it)", attack, known)


def sides_of(networks: Sequence[Network]) -> list[Side]:
    """Networks by what they are but for the seed; one that no other shares is a side of its own."""
    groups: defaultdict[str, list[Network]] = defaultdict(list)
    for network in networks:
        groups[network.identity].append(network)
    if len(groups) == 1:
        return [Side(network.name + _which(network), (network,)) for network in networks]
    for group in groups.values():
        seeds = [network.subject.seed for network in group]
        if len(set(seeds)) < len(seeds):
            raise BenchError(
                f"{', '.join(network.name for network in group)}: the same defense and seed, by what their records say."
                "\nThey are no seeds of one defense: name one of them, and leave --all-seeds away."
            )
    labels = [
        defense_label(group[0].subject.label, group[0].subject.overrides) + _which(group[0])
        for group in groups.values()
    ]
    return [
        Side(label if labels.count(label) == 1 else group[0].name + _which(group[0]), tuple(group))
        for label, group in zip(labels, groups.values(), strict=True)
    ]


def _which(network: Network) -> str:
    """Which network of its run it is, behind a name; nothing of the best."""
    which = network.subject.checkpoint_of
    return "" if which == "best" else f" ({which})"


def shared_keys(first: Side, second: Side, attacks: Sequence[str]) -> tuple[list[Key], list[str]]:
    """The measurements that all networks of two sides have, and what keeps other attacks out.

    Raises:
        BenchError: the same attack on the same samples had other parameters, or another surrogate.
    """
    networks = (*first.networks, *second.networks)
    shared = [
        key
        for key in sorted(networks[0].measured, key=lambda key: (key[0], _order(key[1])))
        if (not attacks or key[1] in attacks) and all(key in network.measured for network in networks)
    ]
    unequal = []
    for key in [key for key in shared if key[1] == WORST]:
        over = {tuple(network.measured[key].result.parameters["over"]) for network in networks}
        if len(over) > 1 or len(next(iter(over))) < 3:  # clean among them
            shared.remove(key)
        if len(over) > 1:
            unequal.append(f"{WORST}: not all were under the same attacks on {key[0]}")
    for key in shared:
        _check_same_attack(key, networks)
    reasons = []
    names = [{attack for network in side.networks for _, attack in network.measured} for side in (first, second)]
    for attack in sorted(names[0] & names[1] - {attack for _, attack in shared} - {WORST}):
        if not attacks or attack in attacks:
            reasons.append(f"{attack}: {_measured_on(first, attack)}, but {_measured_on(second, attack)}")
    return shared, reasons + unequal


def _order(attack: str) -> tuple[bool, bool, str]:
    return attack != "clean", attack == WORST, attack


def _check_same_attack(key: Key, networks: Sequence[Network]) -> None:
    condition, attack = key
    measured = [(network.name, network.measured[key]) for network in networks]
    owners: dict[str, dict[str | None, str]] = {
        "parameters": {each.parameters: name for name, each in measured},
        "surrogate": {each.result.surrogate: name for name, each in measured},
    }
    for what, found in owners.items():
        if len(found) > 1 and not (condition.across and what == "parameters"):  # lengths differ with the threat
            (value, name), (other, rival), *_ = found.items()
            raise BenchError(
                f"{one_line(f'{attack} on {condition} had other {what}: {name} {value}; {rival} {other}')}.\n"
                "Evaluate both by one version and with one surrogate, or choose other attacks with --attack."
            )


def _measured_on(side: Side, attack: str) -> str:
    """Where a side was measured with an attack; with several seeds, where any of them was."""
    conditions = {condition for network in side.networks for condition, name in network.measured if name == attack}
    having = sum(any(name == attack for _, name in network.measured) for network in side.networks)
    seeds = f" ({having} of {len(side.networks)} seeds)" if len(side.networks) > 1 else ""
    return f"{side.name}{seeds} on {' and on '.join(map(str, sorted(conditions)))}"


def _contrasts(first: Side, second: Side, condition: Condition, attack: str) -> Iterator[Contrast]:
    """One attack's contrasts: of accuracy and, where clean accuracy is known from the same records, of W-R."""
    quantities: list[PublishedQuantity] = ["clean"] if attack == "clean" else ["robust", "weighted"]
    sides = [[network.measured[condition, attack] for network in side.networks] for side in (first, second)]
    for quantity in quantities:
        one, other = (scores_of(side, condition, attack, quantity) for side in (first, second))
        if (len(one), len(other)) != (len(sides[0]), len(sides[1])):
            continue
        difference, test = compare(one, other)
        accuracies = (_accuracy(sides[0], one, quantity), _accuracy(sides[1], other, quantity))
        found = Contrast(condition, attack, quantity, (first.name, second.name), accuracies, difference, test)
        yield found if test != "welch" else replace(found, two_level=two_level_interval(one, other))


def _accuracy(measured: Sequence[Measurement], scores: Sequence[np.ndarray], quantity: PublishedQuantity) -> Accuracy:
    means = [float(each.mean()) for each in scores]
    if len(means) > 1:
        return Accuracy(float(np.mean(means)), None, float(np.std(means, ddof=1)), len(means))
    return Accuracy(means[0], measured[0].interval(quantity), None, 1)
