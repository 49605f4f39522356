"""What `bench profile` measured, kept as files, so that a plan can say how long it takes."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import BenchError
from bench.system.files import write_text_atomically
from bench.system.home import Home
from bench.vocabulary import Norm


class Profile(BaseModel):
    """The cost of one training step of a method, as measured on one machine.

    Attributes:
        teachers: architectures, by role.
        train_images: in the dataset. image_shape: (C, H, W).
        recipe: whose batch size and length. epochs: of a whole run.
        norm: that the attack of the step is in.
        phase: the part of the run it was measured in, where a method's cost changes ("frozen", "learning"); else "".
        phase_share: that part's share of the run's epochs, 0 to 1; the shares of all phases add up to 1.
        off: speed-ups that were switched off.
        device: its name. device_type: "cpu" or "cuda". threads: of the CPU.
        seconds_per_step: median. seconds_spread: half the distance between the quartiles.
        flops_per_image: of the definition's passes, counted by PyTorch; a multiply-add is two.
        shares: of the step's time, by part: "attack", "teachers", "update"; they add up to 1.
        peak_memory: bytes; on a CPU the process's own, on a GPU what PyTorch had allocated at most.
        peak_flops: floating-point operations a second of the best matrix multiplication measured in this precision.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    variant: str
    student: str
    teachers: dict[str, str]
    dataset: str
    train_images: int
    image_shape: tuple[int, int, int]
    classes: int
    batch_size: int
    recipe: str
    epochs: int
    precision: str
    norm: Norm = "linf"
    phase: str = ""
    phase_share: float = 1.0
    off: tuple[str, ...] = ()
    device: str
    device_type: str
    threads: int
    steps: int
    seconds_per_step: float
    seconds_spread: float
    flops_per_image: float
    shares: dict[str, float]
    peak_memory: int
    peak_flops: float
    environment: dict[str, object]
    created: str

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.seconds_per_step

    @property
    def seconds_of_phase(self) -> float:
        """Training time of this phase in a whole run of the recipe."""
        return self.epochs * self.phase_share * math.ceil(self.train_images / self.batch_size) * self.seconds_per_step

    @property
    def fraction_of_peak(self) -> float:
        """Share of the measured matrix-multiply peak that the step's useful operations reach, 0 to 1."""
        return self.flops_per_image * self.images_per_second / self.peak_flops

    @property
    def key(self) -> str:
        """Names the file: what was measured, where; a newer measurement of the same replaces the older."""
        what = self.model_dump(
            mode="json",
            include={
                *("method", "variant", "student", "teachers", "dataset", "image_shape", "classes", "batch_size"),
                *("precision", "phase", "off", "device", "threads"),
                *["norm"] * (self.norm != "linf"),
            },
        )
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]
        return "_".join(part for part in (self.method, self.student, self.phase, digest) if part).replace(":", "-")


def write_profile(home: Home, profile: Profile) -> Path:
    """Keep a profile in a home."""
    path = home.profiles / f"{profile.key}.json"
    write_text_atomically(path, profile.model_dump_json(indent=1) + "\n")
    return path


def load_profiles(home: Home) -> list[Profile]:
    """All profiles of a home, by file name.

    Raises:
        BenchError: a file that is none.
    """
    if not home.profiles.is_dir():
        return []
    return [_read(path) for path in sorted(home.profiles.glob("*.json"))]


def _read(path: Path) -> Profile:
    try:
        return Profile.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise BenchError(
            f"{path} is no profile ({str(error).splitlines()[0]}).\nDelete it and measure again: bench profile."
        ) from error
