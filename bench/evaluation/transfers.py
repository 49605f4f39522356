"""Images that are made once and shown to every student, also by later commands: a surrogate's, or corrupted ones."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.attack import Attack
from bench.evaluation.cache import SAVE_SECONDS, Slot


@dataclass(frozen=True)
class Surrogate:
    """The model that transfer attacks are crafted on.

    Attributes:
        checkpoint: SHA-256 of its weights.
        model: its architecture with the normalisation in front, which the weights do not tell.
        function: a digest of what it computes, where neither tells that.
    """

    network: nn.Module
    checkpoint: str
    model: str
    function: str | None = None


@dataclass
class Transfers:
    """Images by surrogate (none for those that depend on no model), attack, samples and seed.

    Attributes:
        folder: where they are kept; None: in memory alone.
        say: tells the user of kept images that cannot be used.
    """

    folder: Path | None
    say: Callable[[str], None]
    _known: dict[str, Tensor] = field(default_factory=dict)

    def images(
        self,
        name: str,
        attack: Attack,
        surrogate: Surrogate | None,
        samples: dict[str, Any],
        batches: list[tuple[int, int]],
        craft: Callable[[int, int], Tensor],
    ) -> Tensor:
        """The images of all samples, (n, C, H, W), float32, or bytes where `craft` gives bytes, on the CPU.

        Args:
            name: registered name of the attack.
            samples: what identifies the images and their start noise.
            batches: first and last + 1 of each batch to craft.
            craft: makes the images of one batch; may raise to stop, what is crafted by then is kept.
        """
        key: dict[str, Any] = {"attack": name, "parameters": attack.parameters(), **samples}
        if surrogate is not None:
            key |= {"surrogate": surrogate.checkpoint, "model": surrogate.model}
            if surrogate.function is not None:
                key["function"] = surrogate.function
        if attack.couples_batch:
            key["batches"] = batches
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
        if digest not in self._known:
            of = "" if surrogate is None else f"{surrogate.checkpoint[:8]}-"
            path = self.folder / f"{name}-{of}{digest}.safetensors" if self.folder else None
            made = self._loaded_or_crafted(Slot(path, key, self.say), batches, craft)
            if surrogate is None and path is not None:
                return made  # there are many of them: they need not all be in memory
            self._known[digest] = made
        return self._known[digest]

    def _loaded_or_crafted(
        self, slot: Slot, batches: list[tuple[int, int]], craft: Callable[[int, int], Tensor]
    ) -> Tensor:
        kept = slot.load()
        if kept is not None:
            return kept.tensors["x_adv"]
        partial = slot.within("part")
        begun = partial.load()
        parts = [begun.tensors["x_adv"]] if begun else []
        done, saved = sum(map(len, parts)), time.monotonic()
        try:
            for first, end in batches:
                if first < done:
                    continue
                images = craft(first, end).detach()
                parts.append((images if images.dtype == torch.uint8 else images.float()).cpu())
                if time.monotonic() - saved > SAVE_SECONDS:
                    partial.save({"x_adv": torch.cat(parts)})
                    saved = time.monotonic()
        except BaseException:
            if parts:
                partial.save({"x_adv": torch.cat(parts)})
            raise
        x_adv = torch.cat(parts)
        slot.save({"x_adv": x_adv})
        partial.forget()
        return x_adv
