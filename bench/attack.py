"""The contract of an attack: what the harness, the defenses and a stranger's plug-in rely on.

An attack knows tensors and a callable model, nothing of training, datasets or files.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bench.compute.parts import part
from bench.errors import BenchError
from bench.threat import NORM_TEXT, Threat
from bench.vocabulary import Norm
from bench.vocabulary import Protocol as Protocol

_ROUNDING = 1e-6
"""By how much float32 arithmetic may leave a ball, or [0, 1]."""
_RELATIVE = 1e-5
"""The same as a share of the radius: L1 and L2 sum over thousands of pixels."""
_ORDER: Mapping[Norm, float] = {"linf": math.inf, "l2": 2, "l1": 1}

Model = Callable[[Tensor], Tensor]
"""Maps images in [0, 1], shape (B, C, H, W), to logits, shape (B, classes)."""

Start = Literal["none", "uniform", "gaussian", "uniform-unclamped", "gaussian-clamped"]
"""Where an attack starts: x itself, x + U(-eps, eps) clamped to [0, 1], or x + 0.001 * N(0, 1) as it is.

The other two are what some released code does: the uniform start not clamped (ARD), the gaussian one clamped (SCORE).
"""


class Keep(typing.Protocol):
    """Where a long attack keeps its state, so that it can go on after an interruption."""

    def load(self) -> Any:
        """What was saved last (`tensors` and `facts`, both by name), or None."""

    def save(self, tensors: Mapping[str, Tensor], **facts: Any) -> None:
        """Keep tensors and plain values in place of what was kept before."""


@dataclass(frozen=True)
class Outcome:
    """What one run of an attack gives.

    Attributes:
        x_adv: adversarial images in [0, 1], shape (B, C, H, W): the last iterate.
        always_right: bool, shape (B,): whether the prediction was right on the start and on every iterate before the
            last, each as it would be saved, clamped to [0, 1]; None where the attack does not tell.
        components: for an ensemble, the share of the batch still right after each of its attacks.
        witnesses: what `always_right` is believed by: for each sample that is not right on all iterates, the iterate
            that showed it first, as it would be saved; of the others anything in the ball. Shaped as x_adv.
        radii: of an attack that looks for the nearest image that fools the model: how far that is, (B,), in the
            attack's norm; 0 where no attack is needed, infinite where it found none. Who is right then follows from
            them and `eps`, and `x_adv` are the images that they are the distances of.
    """

    x_adv: Tensor
    always_right: Tensor | None = None
    components: Mapping[str, float] | None = None
    witnesses: Tensor | None = None
    radii: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Attack:
    """An attack within a ball around an image; its fields are its parameters.

    Attributes:
        eps: radius of the ball around x, for images in [0, 1].
        norm: that the radius is measured in.
        label: the attack's name as papers write it.
        source: the paper that defines it.
        protocols: parameters that differ from the defaults, by evaluation protocol.
        norms: those it knows how to attack in; the first is that of its defaults, and it is never run in another one.
        under: parameters that differ from the defaults in a norm, lengths stated for that norm's `eps` there.
        lengths: fields that are lengths in pixel space and scale with a dataset's eps, as `eps` itself then does; with
            none of them, (), the attack keeps its own radius on every dataset.
        in_ball: whether its images have to lie in the ball; an attack of another kind (a rotation, say) has no use for
            eps and norm, which then are none of its parameters, and runs under every threat.
        at_the_boundary: whether its images lie so near to where the prediction changes that a cheaper way to compute
            the model, which rounds elsewhere, will not do.
        sees_model: whether its images depend on the model at all; else they are made once for all.
        couples_batch: whether a sample's result depends on the others in its batch.
        whole_set: whether the attack wants all samples at once and makes batches of its own.
        needs_module: whether the model has to be an nn.Module, as libraries want it; else any callable does.
        white_box: whether it looks into the model; an evaluation with such an attack is probed for masked gradients.
    """

    eps: float = 8 / 255
    norm: Norm = "linf"

    label: ClassVar[str]
    source: ClassVar[str]
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    under: ClassVar[Mapping[Norm, Mapping[str, Any]]] = {}
    lengths: ClassVar[tuple[str, ...]] = ("eps",)
    in_ball: ClassVar[bool] = True
    at_the_boundary: ClassVar[bool] = False
    sees_model: ClassVar[bool] = True
    couples_batch: ClassVar[bool] = False
    whole_set: ClassVar[bool] = False
    needs_module: ClassVar[bool] = False
    white_box: ClassVar[bool] = True

    @classmethod
    def named(cls, name: str) -> type[Attack]:
        """The class that a registered name stands for; one that serves many (`corruption-*`) has one for each."""
        return cls

    def run(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        track: bool = False,
    ) -> Outcome:
        """Attack a batch.

        Args:
            model: maps images in [0, 1] to logits; its mode (train or eval) is the caller's choice.
            x: clean images in [0, 1], shape (B, C, H, W).
            y: labels, shape (B,), int64.
            noise: the start noise before scaling, as `start_noise` draws it: uniform in the norm's unit ball (in
                L-infinity U(-1, 1)) for a uniform start, N(0, 1) for a gaussian one; drawn from `generator` where
                absent.
            generator: source of the start noise; torch's global one where absent.
            track: whether to fill the outcome's `always_right`.
        """
        raise NotImplementedError

    def survivors(
        self, model: Model, x: Tensor, y: Tensor, *, noise: Tensor | None = None, batch_size: int = 250
    ) -> Outcome | None:
        """Which samples are right on every iterate, the last included, and what fools the others; n is any number.

        In `always_right`, as `run`'s outcomes tell it, but a sample that is fooled costs nothing from then on; `x_adv`
        is the image that fooled the model, or the last iterate. None where the attack has no iterates, or couples its
        samples, so that none can be left out.
        """
        return None

    def start_noise(
        self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None
    ) -> Tensor | None:
        """The noise `run` takes, drawn for a batch of this shape; None for an attack that starts without."""
        return None

    def __call__(self, model: Model, x: Tensor, y: Tensor, **options: Any) -> Tensor:
        """The adversarial batch alone; arguments as for `run`."""
        with part("attack"):
            return self.run(model, x, y, **options).x_adv

    def parameters(self) -> dict[str, Any]:
        """All parameters by name, as a record stores them; the norm where it is not L-infinity, or none."""
        values = asdict(self)
        if not self.in_ball:
            del values["eps"], values["norm"]
            values["in_ball"] = False
        return {name: value for name, value in values.items() if (name, value) != ("norm", "linf")}

    def scaled_to(self, eps: float) -> Attack:
        """The same attack at another radius: the radius and every length that it declares; with none, itself."""
        if not self.lengths:
            return self
        known = {field.name for field in fields(self)}
        lengths = {name: getattr(self, name) * eps / self.eps for name in self.lengths if name in known}
        return replace(self, **(lengths | {"eps": eps}))

    @classmethod
    def for_protocol(cls, protocol: Protocol, threat: Threat | float) -> Attack:
        """The attack as a protocol defines it, for a threat; of a number the L-infinity ball of that radius.

        Raises:
            BenchError: the attack does not know the threat's norm, or its own radius is none.
        """
        threat = Threat.of(threat)
        if not cls.in_ball:
            return cls(**cls.protocols.get(protocol, {}))
        if threat.norm not in cls.norms:
            known = " and ".join(NORM_TEXT[norm] for norm in cls.norms)
            raise BenchError(
                f"The attack {cls.label} knows {known} alone, and was to be run under {threat}.\n"
                f"Give it a threat of its own: --threat {cls.norms[0]}:EPS."
            )
        attack = cls(**cls.protocols.get(protocol, {}))
        # What a protocol says of lengths it says of the norm that the defaults are of.
        attack = attack if threat.norm == cls.norms[0] else attack.in_norm(threat.norm)
        if not 0 < attack.eps <= (1 if attack.norm == "linf" else math.inf):
            raise BenchError(
                f"The attack {cls.label} has eps = {attack.eps}.\nIts author has to make it above 0, up to 1."
            )
        return attack if threat.eps == attack.eps else attack.scaled_to(threat.eps)

    def in_norm(self, norm: Norm) -> Attack:
        """The same attack in another norm that it knows, at the radius that its defaults are for there."""
        return replace(self, norm=norm, **self.under.get(norm, {}))

    @property
    def threat(self) -> Threat | None:
        """The ball that its images lie in; None where they lie in none."""
        return Threat(self.norm, self.eps) if self.in_ball else None


def distance(x_adv: Tensor, x: Tensor, norm: Norm = "linf") -> Tensor:
    """How far images are from their originals in a norm, (B,)."""
    difference = (x_adv - x).flatten(1)
    return torch.linalg.vector_norm(difference, ord=_ORDER[norm], dim=1)


def check_images(name: str, threat: Threat | float | None, x_adv: Tensor, x: Tensor) -> None:
    """A BenchError that names the attack where what it made of x are no images, or none within the threat's ball.

    Args:
        threat: of a number the L-infinity ball of that radius; None: any image will do.
    """
    threat = None if threat is None else Threat.of(threat)
    if not isinstance(x_adv, Tensor) or (x_adv.shape, x_adv.dtype) != (x.shape, x.dtype):
        given = f"{x_adv.dtype} {tuple(x_adv.shape)}" if isinstance(x_adv, Tensor) else type(x_adv).__name__
        problem = f"of kind {given} for originals of kind {x.dtype} {tuple(x.shape)}"
    elif not x_adv.isfinite().all():
        problem = "with NaN or infinite pixels"
    elif (low := float(x_adv.amin())) < -_ROUNDING or float(x_adv.amax()) > 1 + _ROUNDING:
        problem = f"outside [0, 1]: pixels from {low:.6g} to {float(x_adv.amax()):.6g}"
    elif threat is None:
        return
    elif (furthest := float(distance(x_adv, x, threat.norm).amax())) > threat.eps * (1 + _RELATIVE) + _ROUNDING:
        bound = "eps" if threat.norm == "linf" else f"{NORM_TEXT[threat.norm]} eps"
        problem = f"{furthest:.6g} away from their originals, beyond its {bound} = {threat.eps:.6g}"
    else:
        return
    raise BenchError(
        f"The attack {name} made images {problem}.\nNothing is recorded: its author has to keep them within eps and "
        "[0, 1]."
    )


class ResumableAttack(Attack):
    """An attack of hours, which keeps its state so that it can go on after an interruption.

    Attributes:
        begins_as: registered name of an attack whose outcomes are those of this one's first part, where both have the
            same parameters; an evaluation that has them does only the rest.
    """

    begins_as: ClassVar[str | None] = None

    def state_after(self, x: Tensor, right: Tensor, components: Mapping[str, float]) -> tuple[dict[str, Tensor], Any]:
        """Tensors and facts as `keep` would hold them after the attack that this one begins as.

        Args:
            x: clean images. right: who was right after it, bool, (n,): of the others the image of now is not told.
            components: its.
        """
        raise NotImplementedError

    def run_in_sittings(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        keep: Keep | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Attack all samples, or go on where `keep` says; model, x and y as for `run`.

        Args:
            keep: where the state is kept; None keeps nothing.
            check_stop: to be called now and then; what it raises ends the attack, its state kept.
        """
        raise NotImplementedError

    def run(self, model: Model, x: Tensor, y: Tensor, **options: Any) -> Outcome:
        return self.run_in_sittings(model, x, y)


def input_gradient(value: Tensor, x: Tensor) -> Tensor:
    """The gradient of a scalar with respect to images alone; 0 where the model gives none (a quantiser, say).

    Not the weights' too: they would cost half a backward pass more and be thrown away.
    """
    gradient = torch.autograd.grad(value, x, allow_unused=True)[0] if value.requires_grad else None
    return torch.zeros_like(x) if gradient is None else gradient
