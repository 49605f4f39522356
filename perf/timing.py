"""Times two ways of doing the same by turns, so that what else the machine does hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.system import provenance

_WARM = 5.0
"""Seconds after which a call is warm."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: what is done. baseline: by whom else. ours: by which part of the harness.
        baseline_seconds, our_seconds: of each repetition, in turns.
        target: the ratio that is aimed at; 0: none.
    """

    what: str
    baseline: str
    ours: str
    baseline_seconds: tuple[float, ...]
    our_seconds: tuple[float, ...]
    target: float = 0.0

    @property
    def ratios(self) -> list[float]:
        """How many times as fast, turn by turn."""
        return [theirs / ours for theirs, ours in zip(self.baseline_seconds, self.our_seconds, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def by_turns(
    baseline: Callable[[], object], ours: Callable[[], object], repeats: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of each call, baseline and ours in turns.

    The first turn counts where it took so long that nothing of it was a warm-up.
    """
    found: tuple[list[float], list[float]] = ([], [])
    while len(found[1]) < repeats + 1:
        for side, call in zip(found, (baseline, ours), strict=True):
            began = time.perf_counter()
            call()
            side.append(time.perf_counter() - began)
        if len(found[1]) == repeats and min(found[0][0], found[1][0]) > _WARM:
            return tuple(found[0]), tuple(found[1])
    return tuple(found[0][1:]), tuple(found[1][1:])


def to_markdown(rows: list[Row]) -> str:
    """The rows as a table, with what they were measured on."""
    about = provenance.describe(torch.device("cpu"))
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [
        "| what | baseline | ours | baseline s | ours s | times as fast (range) | target |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        low, high = min(row.ratios), max(row.ratios)
        lines.append(
            f"| {row.what} | {row.baseline} | {row.ours} | {statistics.median(row.baseline_seconds):.3g} "
            f"| {statistics.median(row.our_seconds):.3g} | **{row.ratio:.2f}** ({low:.2f} to {high:.2f}; "
            f"{len(row.ratios)} turns) | {row.target or ''} |"
        )
    lines += ["", f"{about['hardware']}, threads: {about['threads']}, Python {about['python']}, {versions},"]
    lines.append(f"commit {about['git']}. Medians; both sides in turns in one process.")
    return "\n".join(lines)
