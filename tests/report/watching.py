"""A page in a browser, and what must not happen on it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass
class Watched:
    """A page, and what must not happen on it.

    Attributes:
        errors: of the console. requested: every address that is no file, and no data within one.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def open(self, path: Path) -> None:
        self.page.goto(path.resolve().as_uri(), wait_until="load")


class Watch(Protocol):
    """watch(width=390): a page of a browser that reaches files alone; further options are its context's."""

    def __call__(self, width: int = 1280, **options: Any) -> AbstractContextManager[Watched]: ...
