"""What is shown of a training run: where it is, how fast, its loss terms, how student and teachers stand.

On a terminal that is a live view; in a log it is a line an epoch.
"""

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
_WARM_UP = 2
"""Steps of a sitting in which libraries load and choose their kernels: the expected time is by those after them."""
_TIMED_STEPS, _TIMED_SECONDS = 5, 60
"""Steps, or seconds, after which the expected time is worth saying, if it is longer than `_WORTH_SAYING` seconds."""
_WORTH_SAYING = 30


@dataclass
class LiveView:
    """What is shown of a run: drawn by `Reporter.live` on terminals, as lines by `Reporter.log` elsewhere.

    Attributes:
        title: of the run. epochs: of the run. steps: in an epoch.
        done: steps done so far, over all sittings.
        wait: waits until the device has done what it was given.
    """

    title: str
    epochs: int
    steps: int
    done: int
    wait: Callable[[], None] = lambda: None
    _steps: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SPEED_STEPS + 1))
    _terms: Mapping[str, float] = field(default_factory=dict)
    _accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    _looked: int = 0
    _epoch_began: float = 0.0
    _epoch_images: int = 0
    _epoch_speed: float = 0.0

    def __post_init__(self) -> None:
        self._first = self._began_at = self.done
        self._began = time.monotonic()
        self._said = False

    def begin_epoch(self) -> None:
        """The steps of an epoch begin, or go on."""
        self._epoch_began, self._epoch_images, self._terms = time.monotonic(), 0, {}

    def step(self, images: int) -> None:
        """A step is done, on so many images."""
        self.done += 1
        if self.done - self._first in (_WARM_UP, _WARM_UP + _TIMED_STEPS):
            self.wait()  # else it would be the time to give orders in
        self._epoch_images += images
        self._steps.append((time.monotonic(), images))
        if self.done - self._first == _WARM_UP:
            self._began, self._began_at = time.monotonic(), self.done

    def end_epoch(self) -> None:
        """The steps of the epoch are done, and the device has nothing of them left to do."""
        self._epoch_speed = self._epoch_images / max(time.monotonic() - self._epoch_began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Expected time to the end by this sitting's speed; None where no step tells."""
        timed = self.done - self._began_at
        if not timed:
            return None
        return (time.monotonic() - self._began) / timed * (self.epochs * self.steps - self.done)

    def expected(self) -> str | None:
        """How long the run will take, once a sitting: as soon as a few steps tell, and where that is long."""
        timed, left = self.done - self._first - _WARM_UP, self.seconds_left
        if self._said or timed < 1 or left is None:
            return None
        if timed < _TIMED_STEPS and time.monotonic() - self._began < _TIMED_SECONDS:
            return None
        self._said = True
        if left <= _WORTH_SAYING:
            return None
        return f"{self.title}: {self.epochs} epochs of {self.steps} steps, about {duration(left)} to go."

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
        return ", ".join([*words, *self._pace(self.speed)])

    def epoch_line(self, line: Mapping[str, Any]) -> str:
        """`epoch 3/12: loss 1.234, clean 45.2%, robust 31.0%, 1,240 images/s, 4 min left`, by an epoch's line."""
        found = (line["accuracy"] or {}).get("student", {})
        words = [*self._loss(line["terms"]), *(f"{kind} {value:.1%}" for kind, value in found.items())]
        return f"epoch {line['epoch']}/{self.epochs}: " + ", ".join([*words, *self._pace(self._epoch_speed or None)])

    def step_line(self) -> str:
        """`epoch 3/12, step 50/391: loss 1.234, 1,240 images/s, 4 min left`, amid an epoch."""
        epoch, step = divmod(max(self.done - 1, 0), self.steps)
        words = [*self._loss(self._terms), *self._pace(self.speed)]
        return f"epoch {epoch + 1}/{self.epochs}, step {step + 1}/{self.steps}: " + ", ".join(words)

    def _loss(self, terms: Mapping[str, float]) -> list[str]:
        return [f"loss {terms['loss']:.4g}"] if "loss" in terms else []

    def _pace(self, speed: float | None) -> list[str]:
        left = self.seconds_left
        words = [f"{speed:,.0f} images/s"] if speed is not None else []
        return [*words, *([f"{duration(left)} left"] if left else [])]

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
