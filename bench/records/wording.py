"""How readers are told the conditions of a record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from bench.threat import Entry

CORRUPTED: Final = re.compile(r"^((?:published-)?corruption)-([a-z_]+)-([1-5])$")
"""The name of a corruption's result: where its images are from, its kind and its severity."""


def protocol_text(conduct: str) -> str:
    """A record's conduct for readers: `official protocol, worst case`."""
    protocol, *rest = conduct.split(", ")
    return ", ".join([f"{protocol} protocol", *rest])


def attack_text(name: str, labels: dict[str, str]) -> str:
    """A result's attack for readers, by the labels of attacks: `PGD-SAT`, `CW∞, transferred`, `APGD, l2:0.5`."""
    entry = Entry.of(name)
    stated = f", {entry.threat}" if entry.threat else ""
    return labels.get(entry.attack, entry.attack) + stated + (", transferred" if entry.transfer else "")


def seeds_text(seeds: Iterable[int]) -> str:
    """How many training seeds, then which: `1 (0)`, `3 (0-2)`, `4 (0-2, 7)`; empty where none is known."""
    known = sorted(set(seeds))
    # Of consecutive seeds each has the same distance from its place among all.
    together = [[seed for _, seed in run] for _, run in groupby(enumerate(known), lambda placed: placed[1] - placed[0])]
    which = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in together]
    return f"{len(known)} ({', '.join(which)})" if known else ""
