"""`bench power`: how much evidence a difference takes, by how networks vary that are here, or as published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Literal

import numpy as np

from bench.analysis.compare import Side, check_attacks, scores_of, shared_keys, sides_of
from bench.errors import BenchError
from bench.records.networks import Condition, Key, Network
from bench.stats import LEVEL, Test, compare, detectable
from bench.stats.planning import (
    DISCORDANCE,
    PUBLISHED_IMAGES,
    PUBLISHED_SPREAD,
    Variation,
    images_needed,
    smallest_by_mcnemar,
    spread_interval,
)
from bench.stats.power import POWER, smallest
from bench.system.text import defense_label, one_line
from bench.threat import Threat

Source = Literal["given", "records", "default"]
Spreads = tuple[float, ...]
"""The lowest and the highest that is published or given; or, of seeds here, the one found between its 95 % bounds."""
SEEDS = (3, 5, 10)
IMAGES = (1_000, 10_000)


@dataclass(frozen=True)
class Asked:
    """What is to be found, and with what; numbers in [0, 1].

    Attributes:
        images: none for those of the records, or `IMAGES`.
        spread, between, within: as of `Taken`; None for what records tell, or the default.
        rivals: how many differences share the level; None for the pairs of sides, or 1.
    """

    differences: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    images: tuple[int, ...] = ()
    spread: tuple[float, float] | None = None
    between: float | None = None
    within: float | None = None
    level: float = LEVEL
    power: float = POWER
    rivals: int | None = None


@dataclass(frozen=True)
class Taken:
    """What the answers hang on.

    Attributes:
        spread: standard deviations of an accuracy over seeds, on as many `images`.
        seeds: of each side that it was found from.
        between: share of images on which two networks of two defenses differ; within: of two seeds of one.
    """

    spread: Spreads
    spread_from: Source
    images: int
    seeds: tuple[int, ...]
    between: float
    between_from: Source
    within: float
    within_from: Source

    def each(self) -> list[Variation]:
        """By spread."""
        return [Variation(spread, self.images, self.between, self.within) for spread in self.spread]


@dataclass(frozen=True)
class Needed:
    """What a difference takes, by spread; None where it takes more than can be had.

    Attributes:
        seeds: a side, to find it for other seeds on the same images; seeds_others: on other images, too.
        images_others: with however many seeds, to find it on other images.
        images_one_network: to find it between one network each.
    """

    difference: float
    images: int
    seeds: tuple[int | None, ...]
    seeds_others: tuple[int | None, ...]
    images_others: tuple[int, ...]
    images_one_network: int | None


@dataclass(frozen=True)
class Reach:
    """The smallest difference that so many seeds a side find on so many images, by spread.

    Attributes:
        seeds: 1 is one network each, by McNemar's test; None is any number.
        same: for other seeds on the same images; none where it is no question.
        others: on other images, too.
    """

    seeds: int | None
    images: int
    same: tuple[float, ...]
    others: tuple[float, ...]


@dataclass(frozen=True)
class Number:
    """What a plan is for: an accuracy that is recorded, or any.

    Attributes:
        sides: of a comparison; one for the seeds of one defense, none without records.
        detectable, test: the smallest difference that the networks here could have been found to have, and by what.
    """

    sides: tuple[str, ...]
    condition: Condition | None
    attack: str | None
    taken: Taken
    detectable: float | None
    test: Test | None


@dataclass(frozen=True)
class Plan:
    """All answers for one number; `reach` only where it is the only one."""

    number: Number
    needed: tuple[Needed, ...]
    reach: tuple[Reach, ...]


@dataclass(frozen=True)
class Plans:
    """Plans at a level that as many `rivals` share, each found with a power."""

    level: float
    rivals: int
    power: float
    plans: tuple[Plan, ...]


def plan(
    asked: Asked, networks: Sequence[Network] = (), attacks: Sequence[str] = (), threat: Threat | None = None
) -> Plans:
    """What the differences asked for take, and which ones some seeds and images find.

    Args:
        networks: seeds of one defense, or of several, of which every pair is planned for; none: by what is published.
        attacks, threat: of records, as of `compare_networks`.

    Raises:
        BenchError: of one network there is no spread; or there is nothing that all were measured with.
    """
    if not networks:
        taken = _taken(asked, (), 0)
        rivals = asked.rivals or 1
        found = [_plan(asked, Number((), None, None, taken, None, None), asked.level / rivals, True)]
        return Plans(asked.level, rivals, asked.power, tuple(found))
    pairs = _pairs([network.only_under(threat).with_worst() for network in networks], attacks)
    rivals = asked.rivals or len(pairs)
    numbers = [_number(asked, rivals, pair, key) for pair in pairs for key in _keys(pair, attacks)]
    found = [_plan(asked, number, asked.level / rivals, len(numbers) == 1) for number in numbers]
    return Plans(asked.level, rivals, asked.power, tuple(found))


def _pairs(networks: Sequence[Network], attacks: Sequence[str]) -> list[tuple[Side, ...]]:
    """Every two sides; the seeds of one defense are one side alone."""
    check_attacks(networks, attacks)
    if len(networks) < 2:
        raise BenchError(
            "One network has no spread over seeds, and none to differ from.\n"
            "Name a second seed or defense (`bench status` lists them), or leave RUN away and give --spread."
        )
    if len({network.identity for network in networks}) == 1:
        subject = networks[0].subject
        return [(Side(defense_label(subject.label, subject.overrides), tuple(networks)),)]
    return list(combinations(sides_of(networks), 2))


def _keys(pair: tuple[Side, ...], attacks: Sequence[str]) -> list[Key]:
    keys, reasons = shared_keys(pair[0], pair[-1], attacks)
    if not keys:
        raise BenchError(
            f"{one_line(' and '.join(side.name for side in pair))} have nothing in common on the same samples. "
            f"{one_line('; '.join(reasons)) or 'Each was measured with others'}.\n"
            "Evaluate all with one suite, protocol and --limit: bench eval --suite whitebox."
        )
    return keys


def _number(asked: Asked, rivals: int, pair: tuple[Side, ...], key: Key) -> Number:
    condition, attack = key
    sides = [scores_of(side, condition, attack, "clean" if attack == "clean" else "robust") for side in pair]
    taken, names = _taken(asked, sides, condition.n), tuple(side.name for side in pair)
    if len(sides) < 2:
        return Number(names, condition, attack, taken, None, None)
    found = detectable(sides[0], sides[1], asked.level / rivals, asked.power)
    return Number(names, condition, attack, taken, found, compare(sides[0], sides[1])[1])


def _plan(asked: Asked, number: Number, level: float, whole: bool) -> Plan:
    images = asked.images or (IMAGES if number.condition is None else (number.condition.n,))
    needed = [_needed(each, max(images), number.taken, level, asked.power) for each in asked.differences]
    seeds = (1, *(asked.seeds or SEEDS), None) if whole else ()
    reach = [_reach(k, n, number.taken, level, asked.power) for k in seeds for n in images]
    return Plan(number, tuple(needed), tuple(reach))


def _needed(difference: float, images: int, taken: Taken, level: float, power: float) -> Needed:
    each = taken.each()
    return Needed(
        difference,
        images,
        tuple(one.seeds_needed(difference, images, False, level, power) for one in each),
        tuple(one.seeds_needed(difference, images, True, level, power) for one in each),
        tuple(one.images_needed_at_least(difference, level, power) for one in each),
        images_needed(taken.between, difference, level, power),
    )


def _reach(seeds: int | None, images: int, taken: Taken, level: float, power: float) -> Reach:
    each = taken.each()
    if seeds is None:
        return Reach(None, images, (), tuple(one.with_any_seeds(images, level, power) for one in each))
    if seeds == 1:
        return Reach(1, images, (), (smallest_by_mcnemar(taken.between, images, level, power),))
    same, others = (
        tuple(smallest(one.power(seeds, images, both, level), power) for one in each) for both in (False, True)
    )
    return Reach(seeds, images, same, others)


def _taken(asked: Asked, sides: Sequence[Sequence[np.ndarray]], n: int) -> Taken:
    """What was given, else what the outcomes of some sides' networks on n images tell, else the default."""
    several = [np.array(side) for side in sides if len(side) > 1]
    between, within = asked.between, asked.within
    if between is None and len(sides) == 2:
        one, other = (np.mean(side, axis=0) for side in sides)
        between = float(np.mean(one * (1 - other) + other * (1 - one)))
    if within is None and several:
        within = float(np.mean([_within(side) for side in several]))
    ratio = DISCORDANCE[1] / DISCORDANCE[0]
    if between is None:
        between = DISCORDANCE[0] if within is None else min(1.0, within / ratio)
    if within is None:
        within = between * ratio
    return Taken(
        *_spread(asked, several, n),
        between,
        _origin(asked.between, len(sides) == 2),
        within,
        _origin(asked.within, bool(several)),
    )


def _origin(given: float | None, here: bool) -> Source:
    return "given" if given is not None else "records" if here else "default"


def _within(outcomes: np.ndarray) -> float:
    """On which share of images two seeds of a defense differ; outcomes of k seeds, shape (k, n)."""
    k, right = len(outcomes), outcomes.mean(axis=0)
    return float(2 * np.mean(right * (1 - right)) * k / (k - 1))


def _spread(asked: Asked, several: Sequence[np.ndarray], n: int) -> tuple[Spreads, Source, int, tuple[int, ...]]:
    """The spreads, where they are from, on how many images, and from how many seeds of each side."""
    if asked.spread is not None:
        return tuple(dict.fromkeys(asked.spread)), "given", n or max(asked.images, default=PUBLISHED_IMAGES), ()
    freedom = sum(len(side) - 1 for side in several)
    square = sum(float(np.var(side.mean(axis=1))) * len(side) for side in several) / max(1, freedom)
    if square > 0:
        low, high = spread_interval(sqrt(square), freedom)
        return (low, sqrt(square), high), "records", n, tuple(map(len, several))
    return PUBLISHED_SPREAD, "default", PUBLISHED_IMAGES, ()
