"""A plan as text: a line a task, then what all that is left takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from bench.sweep.estimate import Estimate
from bench.sweep.plan import Plan, Task
from bench.system.text import duration


def lines(plan: Plan, done: Collection[int], estimates: Mapping[int, Estimate], hardware: str) -> Iterator[str]:
    """The plan, in the order in which one process would do it."""
    for task in plan:
        needs = f"  after {', '.join(map(str, task.needs))}" if task.needs else ""
        yield f"{task.number:4}  {task.line}{needs}"
        yield f"      {'done' if task.number in done else _estimated(estimates[task.number])}"
    yield ""
    yield from _totals([task for task in plan if task.number not in done], len(plan), estimates, hardware)


def _estimated(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return estimate.basis
    memory = "" if estimate.memory is None else f", {estimate.memory / 1e9:.1f} GB"
    return f"about {duration(estimate.seconds)}{memory} ({estimate.basis})"


def _totals(left: list[Task], whole: int, estimates: Mapping[int, Estimate], hardware: str) -> Iterator[str]:
    kinds = ", ".join(
        f"{count} {kind}{'s' if count > 1 else ''}"
        for kind in ("teacher", "student", "evaluation")
        if (count := sum(task.kind == kind for task in left))
    )
    yield f"{whole} tasks, {whole - len(left)} done" + (f"; left: {kinds}." if left else ".")
    known = [seconds for task in left if (seconds := estimates[task.number].seconds) is not None]
    if known:
        yield f"About {duration(sum(known))} one after the other on {hardware}; a profile counts training steps alone."
    if unknown := len(left) - len(known):
        yield f"Nothing is known yet of {unknown} tasks on {hardware}; no sum has them in it."
    memory = [estimates[task.number].memory or 0 for task in left]
    if any(memory):
        yield f"At most {max(memory) / 1e9:.1f} GB of memory a task, of those that were profiled."
