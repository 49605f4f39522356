"""The account of a sweep: what is done, under way, failed, and what cannot be tried because of that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.sweep.perform import Report
from bench.sweep.plan import Plan, Task
from bench.system.console import Reporter


@dataclass
class Ledger:
    """Keeps account of a plan's tasks and tells the user.

    Attributes:
        done: numbers of the tasks that are done. under_way: of those that were begun. failed: by number, why.
    """

    plan: Plan
    done: set[int]
    reporter: Reporter
    under_way: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)

    def ready(self) -> list[Task]:
        """The tasks that can be begun now, in the plan's order."""
        settled: Collection[int] = self.done | self.under_way | self.failed.keys()
        return [task for task in self.plan if task.number not in settled and self.done.issuperset(task.needs)]

    def begin(self, task: Task) -> None:
        """A task is begun."""
        self.under_way.add(task.number)
        self.reporter.say(f"[{task.number}/{len(self.plan)}] {task.line}")

    def finish(self, task: Task) -> None:
        """A task is done."""
        self.under_way.discard(task.number)
        self.done.add(task.number)

    def reopen(self, task: Task) -> None:
        """A task was stopped and is to be done yet."""
        self.under_way.discard(task.number)

    def fail(self, task: Task, reason: str) -> None:
        """A task cannot be done; what needs nothing of it goes on."""
        self.under_way.discard(task.number)
        self.failed[task.number] = reason
        self.reporter.say(f"[{task.number}/{len(self.plan)}] failed: {reason}")

    def take(self, task: Task, report: Report) -> None:
        """What another process has come to; a task that was stopped is open again."""
        for line in report.lines:
            self.reporter.say(line)
        if report.stopped:
            self.reopen(task)
        elif report.failure is not None:
            self.fail(task, report.failure)
        else:
            self.finish(task)

    def close(self) -> None:
        """Say how it ended.

        Raises:
            BenchError: not all is done; what failed and what had to be left was listed before.
        """
        left = [task for task in self.plan if task.number not in self.done | self.failed.keys()]
        if not self.failed and not left:
            self.reporter.say(f"All {len(self.plan)} tasks are done.")
            return
        for number, reason in self.failed.items():
            self.reporter.say(f"Failed: {number}. {self.plan[number - 1].command}\n  " + reason.replace("\n", "\n  "))
        for task in left:
            needed = ", ".join(str(number) for number in task.needs if number not in self.done)
            self.reporter.say(f"Not tried, for it needs {needed}: {task.number}. {task.line}")
        raise BenchError(
            f"{len(self.failed)} of {len(self.plan)} tasks failed and {len(left)} could not be tried; they are listed "
            "above.\nRepair what it names and give the same command again: what is done is skipped."
        )
