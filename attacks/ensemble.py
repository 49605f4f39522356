"""APGD, FAB and Square one after the other, each on what the ones before left standing, by pyautoattack.

`AutoAttack`, its version for random networks and the first half of it alone are lists of the same components.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from attacks.frugal import Frugal, in_parts
from attacks.norms import GEOMETRY
from attacks.square import check_size
from bench.attack import Keep, Model, Outcome, ResumableAttack
from bench.errors import BenchError
from bench.vocabulary import Norm

_NAMES: dict[Norm, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
"""The norms as the library calls them."""
_LEAST_CLASSES = {"apgd-t": 4, "apgd-dlr": 3}
"""The DLR losses divide by a difference of the largest logit to the third, or to the third and fourth."""
_SAVE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Ensemble(ResumableAttack):
    """Attacks of pyautoattack's, each on what the ones before left standing.

    With fewer than four classes APGD-T is left out: its loss is not defined there. The library seeds every call, so
    the batches, which are cut here, can be attacked in several sittings with the same result. It computes in float32,
    also for a float64 model. What it asks a network is answered by `attacks.frugal`, which costs less and changes no
    verdict.

    Attributes:
        seed: of the library's random draws.
        batch_size: samples the library attacks at once.
        version: the library's. components: those of the version's attacks that are run, in its order.
    """

    seed: int = 0
    batch_size: int = 500

    version: ClassVar[str] = "standard"
    components: ClassVar[tuple[str, ...]]
    couples_batch = True
    needs_module = True
    whole_set = True
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    under: ClassVar[Mapping[Norm, Mapping[str, Any]]] = {norm: {"eps": GEOMETRY[norm].eps} for norm in ("l2", "l1")}

    def run_in_sittings(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        keep: Keep | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Attack all samples; arguments as in `ResumableAttack`; `check_stop` is called before every batch.

        Raises:
            BenchError: the model is in train mode, on another device than the images, or without a gradient: the
                result would mean nothing, or come from the wrong place.
            TypeError: the model is no module.
        """
        _check(self.label, model, x)
        assert isinstance(model, nn.Module)
        if "square" in self.components:
            check_size(self.norm, x)
        state = _State.of(keep, x)
        with torch.random.fork_rng():
            if state.right is None:
                state.begin(model, x, y, self.batch_size)
            state.count_classes(model, x)
            asked = Frugal(_Float32(model) if x.dtype == torch.float64 else model, self._may_leave_out)
            library = self._library(asked, x, state.classes)
            for name in list(library.attacks_to_run):
                if name not in state.components:
                    library.attacks_to_run = [name]
                    self._run_one(name, library, x, y, state, check_stop)
        return Outcome(state.x_adv, components=state.components)

    @property
    def _may_leave_out(self) -> bool:
        """Whether a sample that one iterate of an APGD has fooled is fooled for good.

        Not in L1, where it runs in larger balls first, nor where a network answers otherwise the next time.
        """
        return self.norm != "l1" and self.version != "rand"

    def state_after(self, x: Tensor, right: Tensor, components: Mapping[str, float]) -> tuple[dict[str, Tensor], Any]:
        standing = right.nonzero().squeeze(1)
        tensors = {"x_adv": x.clone(), "right": right.clone(), "standing": standing}
        return tensors, {"batches": 0, "classes": 0, "components": dict(components)}

    def _run_one(
        self, name: str, library: Any, x: Tensor, y: Tensor, state: _State, check_stop: Callable[[], None]
    ) -> None:
        """One attack of the ensemble on all that stood when it began."""
        assert state.right is not None
        assert state.standing is not None
        parts = state.standing.split(self.batch_size) if len(state.standing) else ()
        for part in parts[state.batches :]:
            try:
                check_stop()
                moved, predictions = library.run_standard_evaluation(x[part].float(), y[part], batch_size=len(part))
            except BaseException:
                state.save()
                raise
            broken = predictions != y[part]
            state.x_adv[part[broken]] = moved[broken].to(x.dtype)
            state.right[part] = ~broken
            state.batches += 1
            state.save_now_and_then()
        state.finish(name)

    def _library(self, model: nn.Module, x: Tensor, classes: int) -> Any:
        import pyautoattack

        # Its debug lines repeat what `components` holds; its warnings (a model with randomness, say) still appear.
        logging.getLogger("auto-attack").setLevel(logging.WARNING)
        library = pyautoattack.AutoAttack(
            model, norm=_NAMES[self.norm], eps=self.eps, device=x.device, seed=self.seed, version=self.version
        )
        # It targets nine classes (APGD in L1 five), more than a dataset of fewer than ten classes has.
        for targeted in (library.apgd_targeted, library.fab):
            targeted.n_target_classes = min(targeted.n_target_classes, classes - 1)
        library.attacks_to_run = [
            name
            for name in library.attacks_to_run
            if name in self.components and classes >= _LEAST_CLASSES.get(name, 0)
        ]
        in_parts(library)
        return library


@dataclass
class _State:
    """How far the ensemble is: which samples stand, and what the attack at work has done of those it began with."""

    keep: Keep | None
    x_adv: Tensor
    right: Tensor | None = None
    standing: Tensor | None = None
    batches: int = 0
    classes: int = 0
    components: dict[str, float] = field(default_factory=dict)
    saved: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, keep: Keep | None, x: Tensor) -> _State:
        """The state that was kept, or a fresh one."""
        kept = keep.load() if keep is not None else None
        if kept is None:
            return cls(keep, x.clone())
        tensors = {name: value.to(x.device) for name, value in kept.tensors.items()}
        return cls(keep, **tensors, **kept.facts)

    def count_classes(self, model: nn.Module, x: Tensor) -> None:
        """How many there are, where that is not known yet."""
        if not self.classes:
            with torch.no_grad():
                self.classes = int(model(x[:1]).shape[1])

    def begin(self, model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> None:
        """Clean predictions; only what is right needs to be attacked."""
        with torch.no_grad():
            logits = torch.cat([model(part) for part in x.split(batch_size)])
        self.right, self.classes = logits.argmax(1) == y, logits.shape[1]
        self.finish("clean")

    def finish(self, name: str) -> None:
        """An attack has had all that stood when it began; the next one begins with what stands now."""
        assert self.right is not None
        self.components[name] = self.right.double().mean().item()
        self.standing, self.batches = self.right.nonzero().squeeze(1), 0
        self.save_now_and_then()

    def save_now_and_then(self) -> None:
        if time.monotonic() - self.saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        if self.keep is not None and self.right is not None and self.standing is not None:
            tensors = {"x_adv": self.x_adv, "right": self.right, "standing": self.standing}
            self.keep.save(tensors, batches=self.batches, classes=self.classes, components=self.components)
        self.saved = time.monotonic()


class _Float32(nn.Module):
    """A float64 network to a library that computes in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x.double())
        return logits.float()


def _check(label: str, model: Model, x: Tensor) -> None:
    """Refuse what would mean nothing; the library itself would attack whatever it is given."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"{label} needs an nn.Module: whether it is in eval mode must be seen")
    if any(module.training for module in model.modules()):
        raise BenchError(
            f"{label} was given a model in train mode, or with a part in train mode.\n"
            "Its result would mean nothing: call model.eval() first."
        )
    elsewhere = {str(value.device) for value in (*model.parameters(), *model.buffers())} - {str(x.device)}
    if elsewhere:
        raise BenchError(
            f"{label} was given images on {x.device} and a model on {', '.join(sorted(elsewhere))}.\n"
            f"Move both to one device: model.to({str(x.device)!r})."
        )
    if not _has_gradient(model, x[:1]):
        raise BenchError(
            f"{label} needs a gradient, and the model's output has none with respect to its image.\n"
            "Something in it (a quantiser, say) cannot be differentiated: attack it by queries, with --suite square."
        )


def _has_gradient(model: nn.Module, image: Tensor) -> bool:
    """Whether the model's output is connected to its image for autograd; a gradient of 0 is one, too."""
    with torch.enable_grad():
        leaf = image.detach().clone().requires_grad_()
        logits = model(leaf)
        return logits.requires_grad and torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] is not None
