"""How readers are told the conditions of a record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from bench.threat import Entry, Threat, label_in

CORRUPTED: Final = re.compile(r"^((?:published-)?corruption)-([a-z_]+)-([1-5])$")
"""The name of a corruption's result: where its images are from, its kind and its severity."""


def protocol_text(conduct: str) -> str:
    """A record's conduct for readers: `official protocol, worst case`, `official protocol but steps = 100`."""
    protocol, *rest = conduct.split(", ")
    words = ", ".join([f"{protocol} protocol", *(word for word in rest if not is_own_parameter(word))])
    own = ", ".join(filter(is_own_parameter, rest))
    return f"{words} but {own}" if own else words


def is_own_parameter(word: str) -> bool:
    """Whether a word of a record's conduct is a parameter that was set in place of the protocol's."""
    return " = " in word


def attack_text(name: str, labels: dict[str, str], own: Threat) -> str:
    """A result's attack for readers, by the labels of attacks: `PGD-SAT`, `CW∞, transferred`, `APGD, l2:0.5`.

    Args:
        own: what its record is under; a norm that a label names (`CW∞`) belongs to L-infinity alone.
    """
    entry = Entry.of(name)
    label = label_in(labels[entry.attack], entry.under(own).norm) if entry.attack in labels else entry.attack
    stated = f", {entry.threat}" if entry.threat else ""
    return label + stated + (", transferred" if entry.transfer else "")


def seeds_text(seeds: Iterable[int]) -> str:
    """How many training seeds, then which: `1 (0)`, `3 (0-2)`, `4 (0-2, 7)`; empty where none is known."""
    known = sorted(set(seeds))
    # Of consecutive seeds each has the same distance from its place among all.
    together = [[seed for _, seed in run] for _, run in groupby(enumerate(known), lambda placed: placed[1] - placed[0])]
    which = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in together]
    return f"{len(known)} ({', '.join(which)})" if known else ""
