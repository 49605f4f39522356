"""How a group of comparable results is called: above its columns and in the notes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bench.records.wording import is_own_parameter, protocol_text
from bench.tables.cell import Group
from bench.tables.spec import ANY, TableSpec
from bench.threat import Entry, Threat, label_in
from bench.vocabulary import usual_eps

_MOST_NAMED = 4


def attack_label(result: str, spec: TableSpec) -> str:
    """An attack's name for readers of a table."""
    return next(attack.label for attack in spec.attacks if attack.result == result)


def under_threats(spec: TableSpec, measured: Iterable[tuple[str, Threat]]) -> TableSpec:
    """The spec with attacks' labels that name no norm (`CW` for `CW∞`) but the one they were run in.

    Args:
        measured: results by name, each with what its record is under.
    """
    bare = {attack.result: label_in(attack.label, None) for attack in spec.attacks}
    named = {attack.result for attack in spec.attacks if attack.label != bare[attack.result]}
    wrong = {name for name, own in measured if name in named and Entry.of(name).under(own).norm != "linf"}
    attacks = [
        attack.model_copy(update={"label": bare[attack.result]}) if attack.result in wrong else attack
        for attack in spec.attacks
    ]
    return spec.model_copy(update={"attacks": attacks})


def dataset_label(name: str, spec: TableSpec) -> str:
    """A dataset's name for readers."""
    return spec.datasets.get(name, name)


def students(spec: TableSpec, groups: Iterable[Group]) -> str:
    """The students of a table for readers, without results those that it is meant for; empty of teachers."""
    models = {group.model for group in groups} - {""} or {spec.models.get("default", ANY)} - {ANY}
    named = sorted(spec.student if spec.student and each == spec.models["default"] else each for each in models)
    more = len(named) - _MOST_NAMED
    return ", ".join(named[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def detail(group: Group, spec: TableSpec, rivals: Collection[Group]) -> str:
    """A group's setting and number of samples, and whatever else tells it from the dataset's other groups.

    The student is named where the table has several. Empty for a dataset without results.

    Args:
        rivals: all groups of the table.
    """
    if not group.n:
        return ""
    parts = [group.setting, f"n = {group.n:,}"]
    if group.model and len({rival.model for rival in rivals}) > 1:
        parts.append(f"student {group.model}")
    if _differ("protocol", group, rivals) or any(map(is_own_parameter, group.protocol.split(", "))):
        parts.append(protocol_text(group.protocol))
    if _differ("threat", group, rivals) or group.threat != Threat(eps=usual_eps(group.dataset)):
        parts.append(group.threat.text)
    if _differ("total", group, rivals):
        parts.append(f"of {group.total:,}")
    if _differ("fingerprint", group, [rival for rival in rivals if rival.n == group.n]):
        parts.append(f"images {group.fingerprint[:8]}")
    return ", ".join(part for part in parts if part)


def _differ(attribute: str, group: Group, rivals: Collection[Group]) -> bool:
    return len({getattr(rival, attribute) for rival in rivals if rival.dataset == group.dataset}) > 1
