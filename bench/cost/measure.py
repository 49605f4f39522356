"""Measures what a training step of a method costs: time and where it goes, operations, memory."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.compute.device import prepare
from bench.compute.parts import listening
from bench.compute.seeding import generator
from bench.compute.speedups import Fast, enabled
from bench.cost.meters import Clock, Operations, PeakMemory
from bench.cost.profile import Profile
from bench.cost.workload import Workload
from bench.recipes import recipe
from bench.system import provenance
from bench.system.text import now
from bench.training.step import TrainingStep

_WARM_UP = 2
_TIMED_TOGETHER = {"cpu": 1, "cuda": 10}
"""Steps between two readings of the clock: to wait for a GPU after each would add the wait to the step."""
_FEW = 3
"""Steps that are timed where it is to be quick."""
_SMALL_BATCH = 8
"""Images of a step by which a CPU's time for a large batch is told, which grows with the number of images."""
_COUNTED_IMAGES = 2
"""Batch in which operations are counted; their number an image does not depend on it."""
_counted: dict[tuple[str, int], float] = {}
"""Operations by workload and epoch, of this process."""


def profile(workload: Workload, device: torch.device, steps: int, peak_flops: float) -> list[Profile]:
    """Measure a workload, once for each phase of its method.

    Args:
        steps: timed steps, after a few that are not.
        peak_flops: see `meters.matmul_peak`.
    """
    workload = workload.resolved()
    assert workload.batch_size is not None
    prepare(device, autotune="autotune" in enabled(workload.off))
    found = []
    for name, share, runner in runners(workload, device):
        memory = PeakMemory(device)
        seconds = runner.seconds(steps)
        quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
        found.append(
            Profile(
                method=workload.method,
                variant=workload.variant or "",
                student=workload.student,
                teachers=workload.teachers,
                dataset=workload.images.name,
                train_images=workload.images.train,
                image_shape=workload.images.shape,
                classes=workload.images.classes,
                batch_size=workload.batch_size,
                recipe=recipe.load(workload.recipe).name,
                epochs=runner.step.epochs,
                precision=workload.precision,
                norm=workload.threat.norm,
                phase=name,
                phase_share=share,
                off=tuple(sorted(workload.off)),
                device=provenance.hardware(device),
                device_type=device.type,
                threads=torch.get_num_threads(),
                steps=steps,
                seconds_per_step=statistics.median(seconds),
                seconds_spread=(quartiles[2] - quartiles[0]) / 2,
                flops_per_image=flops_per_image(workload, runner.epoch),
                shares=runner.shares(),
                peak_memory=memory.read(),
                peak_flops=peak_flops,
                environment=provenance.describe(device),
                created=now(),
            )
        )
        del runner
    gc.collect()
    return found


def runners(workload: Workload, device: torch.device) -> Iterator[tuple[str, float, Runner]]:
    """For each phase of a workload's method its name, its share of the run, and what repeats its step."""
    workload = workload.resolved()
    assert workload.batch_size is not None
    speedups = enabled(workload.off)
    step = workload.step(workload.networks(device, lambda network: Fast(network, workload.precision, speedups)))
    images = torch.rand(workload.batch_size, *workload.images.shape, device=device)
    if "channels-last" in speedups:
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(workload.batch_size, device=device) % workload.images.classes
    for name, (epoch, share) in step.phase_shares().items():
        yield name, share, Runner(step, images, labels, epoch, device)


@dataclass
class Runner:
    """Repeats one training step on the same batch."""

    step: TrainingStep
    x: Tensor
    y: Tensor
    epoch: int
    device: torch.device
    done: int = 0

    def run(self, steps: int) -> None:
        """Make this number of steps."""
        for _ in range(steps):
            noise = generator(0, "attack", self.epoch, self.done, device=self.device)
            self.step(self.x, self.y, epoch=self.epoch, generator=noise)
            self.done += 1

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, steps: int) -> list[float]:
        """Seconds a step, of several steps or groups of steps."""
        together = min(_TIMED_TOGETHER[self.device.type], steps)
        self.run(_WARM_UP)
        found = []
        for _ in range(steps // together):
            self.wait()
            began = time.perf_counter()
            self.run(together)
            self.wait()
            found.append((time.perf_counter() - began) / together)
        return found

    def few(self, patience: float) -> tuple[float, str]:
        """About how many seconds a step takes, and by which steps: the few that some seconds of patience allow.

        On a CPU whole batches are timed only where a small part of one shows that they are quick.
        """
        small = min(_SMALL_BATCH, len(self.x))
        times = len(self.x) / small
        if self.device.type == "cpu" and times > 1:
            self._part(_SMALL_BATCH // 4).run(1)  # it loads libraries
            seconds = self._part(small)._few(patience / 2, least=1)
            if seconds * times * (_WARM_UP + _FEW) > patience:
                return seconds * times, f"timed steps of {small} images"
        return self._few(patience, least=2), "a few timed steps"

    def _part(self, images: int) -> Runner:
        return replace(self, x=self.x[:images], y=self.y[:images])

    def _few(self, patience: float, least: int) -> float:
        found: list[float] = []
        until = time.perf_counter() + patience
        while len(found) < least or (len(found) < _WARM_UP + _FEW and time.perf_counter() < until):
            self.wait()
            began = time.perf_counter()
            self.run(1)
            self.wait()
            found.append(time.perf_counter() - began)
        return statistics.median(found[_WARM_UP:] or found[-1:])

    def shares(self) -> dict[str, float]:
        """Where a step's time goes, in a step of its own: every part waits for the device, which is not free."""
        clock = Clock(self.wait)
        hooks = []
        models = self.step.models
        for network in (*models.teachers.values(), *models.companions.values()):
            hooks.append(network.register_forward_pre_hook(lambda *_: clock.enter("teachers")))
            hooks.append(network.register_forward_hook(lambda *_: clock.leave()))
        with listening(clock.part), clock.part("update"):
            self.run(1)
        for hook in hooks:
            hook.remove()
        whole = sum(clock.seconds.values())
        return {name: clock.seconds.get(name, 0.0) / whole for name in ("attack", "teachers", "update")}


def flops_per_image(workload: Workload, epoch: int) -> float:
    """Floating-point operations an image of one step of the definition, a multiply-add counted as two.

    Counted by PyTorch on the plain networks, on the CPU: matrix products and convolutions; the rest is not counted.
    Counted once for all speed-ups and precisions, which change nothing in it.
    """
    workload = replace(workload.resolved(), off=(), precision="32")
    known = repr(workload), epoch
    if known not in _counted:
        _counted[known] = _count(workload, epoch)
    return _counted[known]


def _count(workload: Workload, epoch: int) -> float:
    step = workload.step(workload.networks(torch.device("cpu"), lambda network: network))
    x = torch.rand(_COUNTED_IMAGES, *workload.images.shape)
    with Operations() as counter:
        step(x, torch.zeros(len(x), dtype=torch.int64), epoch=epoch)
    return counter.total / len(x)
