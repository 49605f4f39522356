"""Common corruptions (Hendrycks and Dietterich 2019): made by a package, or read from the published arrays."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.attack import Attack, Model, Outcome
from bench.errors import BenchError, unknown_name
from bench.vocabulary import CORRUPTIONS, FURTHER_CORRUPTIONS, LEAST_CORRUPTED, SEVERITIES

_KINDS = (*CORRUPTIONS, *FURTHER_CORRUPTIONS)
_SEEDS = 2**31


@dataclass(frozen=True, kw_only=True)
class Corruption(Attack):
    """One kind of corruption at one severity, the same images for every model.

    They are made by imagecorruptions, each from a seed that belongs to its sample. Its severities are ImageNet-C's, on
    small images too: harder than those of the published CIFAR-10-C (`PublishedCorruption`).

    Attributes:
        kind: which corruption, as the authors name it.
        severity: 1 to 5.
    """

    kind: str = "gaussian_noise"
    severity: int = 3

    label: ClassVar[str] = "Corruption"
    source: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261; imagecorruptions-imaug"
    in_ball: ClassVar[bool] = False
    sees_model: ClassVar[bool] = False
    white_box: ClassVar[bool] = False

    @classmethod
    def named(cls, name: str) -> type[Attack]:
        """The attack that a name like `corruption-fog-3` stands for; `corruption-*` for any of them."""
        if "*" in name:
            return cls
        kind, _, severity = name.removeprefix("published-").removeprefix("corruption-").rpartition("-")
        if kind not in _KINDS or severity not in map(str, SEVERITIES):
            known = [f"{name[: name.index('corruption-')]}corruption-{each}-3" for each in _KINDS]
            raise unknown_name("corruption (with a severity, 1 to 5)", name, known)
        return _of_kind(cls, kind, int(severity))  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise unknown_name("corruption", self.kind, _KINDS)
        if self.severity not in SEVERITIES:
            raise BenchError(f"A corruption has severity = {self.severity}.\nThere are {SEVERITIES}.")

    def start_noise(
        self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None
    ) -> Tensor | None:
        """A seed for each sample, (n,), int64."""
        return torch.randint(_SEEDS, (shape[0],), generator=generator)

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
        """Corrupt a batch of images; the model is not looked at. See `Attack.run`.

        Raises:
            BenchError: imagecorruptions is not installed, or the images are not what it takes.
        """
        seeds = self.start_noise(x.shape, x, generator) if noise is None else noise
        assert seeds is not None
        images = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        made = np.stack([self.corrupted(image, int(seed)) for image, seed in zip(images, seeds, strict=True)])
        return Outcome(torch.from_numpy(made).permute(0, 3, 1, 2).to(x) / 255)

    def corrupted(self, image: np.ndarray, seed: int) -> np.ndarray:
        """One image, (H, W, 3), uint8, as the package corrupts it from a seed; NumPy's random state is left alone."""
        if image.shape[2] != 3 or min(image.shape[:2]) < LEAST_CORRUPTED:
            raise BenchError(
                f"Corruptions take images of 3 channels and at least {LEAST_CORRUPTED} x {LEAST_CORRUPTED} pixels; "
                f"these are {image.shape[2]} x {image.shape[0]} x {image.shape[1]}.\nEvaluate without them."
            )
        package = _package()
        takes = inspect.signature(package.corruption_dict[self.kind]).parameters
        seeded = {"seed": seed} if "seed" in takes else {}
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            made = package.corrupt(image, severity=self.severity, corruption_name=self.kind, **seeded)
        finally:
            np.random.set_state(before)
        return np.asarray(made, dtype=np.uint8)


@cache
def _of_kind(base: type[Corruption], kind: str, severity: int) -> type[Corruption]:
    """The class whose defaults are one kind at one severity."""
    label = f"{base.label}: {kind.replace('_', ' ')}, severity {severity}"
    content = {"__annotations__": {"kind": "str", "severity": "int"}, "kind": kind, "severity": severity}
    made = type(base.__name__, (base,), content | {"label": label, "__module__": base.__module__})
    return dataclass(frozen=True, kw_only=True)(made)


def _package() -> Any:
    try:
        import imagecorruptions
    except ImportError as error:
        raise BenchError(
            "Corruptions need the package imagecorruptions-imaug.\nInstall it: pip install 'ard-bench[unseen]'."
        ) from error
    return imagecorruptions


@dataclass(frozen=True, kw_only=True)
class PublishedCorruption(Corruption):
    """The same from the authors' arrays, CIFAR-10-C or CIFAR-100-C: KIND.npy and labels.npy.

    Attributes:
        folder: where they lie. Each is 5n x H x W x C bytes, one severity after the other.
    """

    folder: str = ""

    label: ClassVar[str] = "Published corruption"
    source: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261"
    whole_set: ClassVar[bool] = True

    def parameters(self) -> dict[str, Any]:
        """What decides the images: not where the arrays lie, but what they hold."""
        kept = {name: value for name, value in super().parameters().items() if name != "folder"}
        return kept | {"arrays": _digest(self._path(self.kind))} if self.folder else kept

    def start_noise(
        self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None
    ) -> Tensor | None:
        return None

    def run(self, model: Model, x: Tensor, y: Tensor, **options: Any) -> Outcome:
        """The corrupted images of the first test samples; x and y are these, in their order.

        Raises:
            BenchError: a file is not there, or not of the form; or the samples are others.
        """
        own, arrays, n = _array(self._path("labels")), _array(self._path(self.kind)), len(y)
        whole, rest = divmod(len(own), len(SEVERITIES))
        shape = tuple(x.permute(0, 2, 3, 1).shape[1:])
        if own.ndim != 1 or arrays.dtype != np.uint8 or arrays.shape != (len(own), *shape) or rest:
            raise BenchError(
                f"{self._path(self.kind)} holds {arrays.dtype} {arrays.shape} for {own.shape} labels, and images are "
                f"{shape}.\nIt has to be bytes, one severity after the other, as published for this data set."
            )
        first = (self.severity - 1) * whole
        if n > whole or not np.array_equal(own[first : first + n], y.cpu().numpy()):
            raise BenchError(
                f"{self._path('labels')} has other labels than the data set: these arrays are of other images.\n"
                "Give the folder of this data set's own: cifar10-c:DIR, cifar100-c:DIR."
            )
        made = torch.from_numpy(np.array(arrays[first : first + n]))
        return Outcome(made.permute(0, 3, 1, 2).to(x) / 255)

    def _path(self, name: str) -> Path:
        return Path(self.folder) / f"{name}.npy"


@cache
def _array(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{path} cannot be read: {error}.\nGive the folder that holds the published KIND.npy and labels.npy."
        ) from error
    return found


@cache
def _digest(path: Path) -> str:
    """SHA-256 of what an array holds."""
    return hashlib.sha256(np.ascontiguousarray(_array(path)).data).hexdigest()
