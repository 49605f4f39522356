"""Tensors kept on disk for whoever computes the same again: an evaluation that was stopped, a surrogate's images.

A file is named by what it is of and holds the digest of its content. What is damaged, or was computed under other
conditions, is never used: it counts as not there, and a message says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.system.files import DIGEST, atomic_path, tensors_file

SAVE_SECONDS = 60
"""Longest time between two saves of what is being computed; a kill loses no more."""


class Kept(NamedTuple):
    """What was kept: tensors by name, and plain values."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Slot:
    """One file of kept tensors.

    Attributes:
        path: the file; None keeps nothing.
        key: everything that decides the tensors; plain values.
        say: tells the user of a file that cannot be used.
    """

    path: Path | None
    key: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda text: None

    def within(self, name: str, **key: Any) -> Slot:
        """The slot of a part of this one's work."""
        path = self.path.with_name(f"{self.path.stem}.{name}{self.path.suffix}") if self.path else None
        return Slot(path, {**self.key, **key}, self.say)

    def load(self) -> Kept | None:
        """What was kept under this key, on the CPU; None where there is nothing to use."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as stream:
                header = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            intact = header.get(DIGEST) == _digest(tensors, header["key"], header["facts"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            self.say(f"{self.path} cannot be read ({type(error).__name__}); what it kept is computed again.")
            return None
        if not intact:
            self.say(f"{self.path} is damaged; what it kept is computed again.")
            return None
        if header["key"] != _text(self.key):
            self.say(f"{self.path} was computed under other conditions; what it kept is computed again.")
            return None
        return Kept(tensors, json.loads(header["facts"]))

    def save(self, tensors: Mapping[str, Tensor], **facts: Any) -> None:
        """Keep tensors and plain values in place of what was kept before."""
        if self.path is None:
            return
        content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        header = {"key": _text(self.key), "facts": json.dumps(facts, default=str)}  # in their order, which can matter
        header[DIGEST] = _digest(content, header["key"], header["facts"])
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(tensors_file(content, header))

    def forget(self) -> None:
        """Remove the file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)


def _digest(tensors: Mapping[str, Tensor], key: str, facts: str) -> str:
    digest = hashlib.sha256(f"{key}\n{facts}".encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
