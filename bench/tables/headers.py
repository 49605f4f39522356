"""How a group of comparable results is called: above its columns and in the notes."""

from __future__ import annotations

from collections.abc import Collection

from bench.records.wording import eps_text, protocol_text
from bench.tables.spec import TableSpec
from bench.tables.table import Group


def attack_label(result: str, spec: TableSpec) -> str:
    """An attack's name for readers of a table."""
    return next(attack.label for attack in spec.attacks if attack.result == result)


def dataset_label(name: str, spec: TableSpec) -> str:
    """A dataset's name for readers."""
    return spec.datasets.get(name, name)


def detail(group: Group, spec: TableSpec, rivals: Collection[Group]) -> str:
    """A group's setting and number of samples, and whatever else tells it from the dataset's other groups.

    A student other than the table's usual one is named. Empty for a dataset without results.
    """
    if not group.n:
        return ""
    parts = [group.setting, f"n = {group.n:,}"]
    model = spec.model_for(group.dataset)
    if model != spec.models.get("default"):
        parts.append(f"student {model}")
    if _differ("protocol", group, rivals):
        parts.append(protocol_text(group.protocol))
    if _differ("eps", group, rivals):
        parts.append(f"eps = {eps_text(group.eps)}")
    if _differ("total", group, rivals):
        parts.append(f"of {group.total:,}")
    if _differ("fingerprint", group, rivals):
        parts.append(f"images {group.fingerprint[:8]}")
    return ", ".join(part for part in parts if part)


def _differ(attribute: str, group: Group, rivals: Collection[Group]) -> bool:
    return len({getattr(rival, attribute) for rival in rivals if rival.dataset == group.dataset}) > 1
