"""How readers are told the conditions of a record."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby


def protocol_text(conduct: str) -> str:
    """A record's conduct for readers: `official protocol, worst case`."""
    protocol, *rest = conduct.split(", ")
    return ", ".join([f"{protocol} protocol", *rest])


def attack_text(name: str, labels: dict[str, str]) -> str:
    """A result's attack for readers, by the labels of attacks: `PGD-SAT`, `CW∞, transferred`."""
    own = name.removeprefix("transfer:")
    return labels.get(own, own) + (", transferred" if own != name else "")


def seeds_text(seeds: Iterable[int]) -> str:
    """How many training seeds, then which: `1 (0)`, `3 (0-2)`, `4 (0-2, 7)`; empty where none is known."""
    known = sorted(set(seeds))
    # Of consecutive seeds each has the same distance from its place among all.
    together = [[seed for _, seed in run] for _, run in groupby(enumerate(known), lambda placed: placed[1] - placed[0])]
    which = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in together]
    return f"{len(known)} ({', '.join(which)})" if known else ""
