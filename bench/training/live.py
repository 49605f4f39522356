"""The live view of a training run: where it is, how fast, its loss terms, how student and teachers stand."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.system.text import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_SPEED_STEPS = 50
"""Steps whose time gives the speed that is shown."""


@dataclass
class LiveView:
    """What is shown of a run; drawn by `Reporter.live`, on terminals alone.

    Attributes:
        title: of the run. epochs: of the run. steps: in an epoch.
        done: steps done so far, over all sittings.
        seconds_left: gives the time to the end; None before there is an estimate.
    """

    title: str
    epochs: int
    steps: int
    done: int
    seconds_left: Callable[[], float | None]
    _steps: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SPEED_STEPS + 1))
    _terms: Mapping[str, float] = field(default_factory=dict)
    _accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    _looked: int = 0

    def step(self, images: int) -> None:
        """A step is done, on so many images."""
        self.done += 1
        self._steps.append((time.monotonic(), images))

    def line(self, line: Mapping[str, Any]) -> None:
        """A line was added to metrics.jsonl."""
        self._terms = line["terms"]
        if line.get("accuracy") is not None:
            self._accuracy, self._looked = line["accuracy"], line["epoch"]

    @property
    def speed(self) -> float | None:
        """Images a second over the last steps; None before there are two."""
        (first, _), *others = list(self._steps) or [(0.0, 0)]
        if not others or others[-1][0] == first:
            return None
        return sum(images for _, images in others) / (others[-1][0] - first)

    def where(self) -> str:
        """`epoch 3 of 12, step 7 of 20, 1,240 images/s, 4 min left`."""
        epoch, step = divmod(max(self.done - 1, 0), self.steps)
        words = [f"epoch {epoch + 1} of {self.epochs}", f"step {min(step + 1, self.done)} of {self.steps}"]
        speed, left = self.speed, self.seconds_left()
        words += [f"{speed:,.0f} images/s"] if speed is not None else []
        words += [f"{duration(left)} left"] if left is not None else []
        return ", ".join(words)

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self.epochs * self.steps, completed=self.done, width=30)
        head.add_row(Text(self.title, style="bold"), bar, Text(self.where()))
        terms = Text("  ".join(f"{name} {value:.4g}" for name, value in self._terms.items()))
        return Group(head, *([terms] if self._terms else []), *([self._accuracies()] if self._accuracy else []))

    def _accuracies(self) -> Table:
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), title=f"accuracy, epoch {self._looked}", title_justify="left")
        for column in ("", *next(iter(self._accuracy.values()))):
            table.add_column(column, justify="right" if column else "left")
        for network, found in self._accuracy.items():
            table.add_row(network, *(f"{value:.1%}" for value in found.values()))
        return table
