"""Measures what a training step of a method costs: time and where it goes, operations, memory."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.compute.device import prepare
from bench.compute.parts import listening
from bench.compute.seeding import generator
from bench.compute.speedups import Fast, enabled
from bench.cost.meters import Clock, Operations, PeakMemory
from bench.cost.profile import Profile
from bench.cost.workload import Workload
from bench.system import provenance
from bench.system.text import now
from bench.training.step import TrainingStep

_WARM_UP = 2
_TIMED_TOGETHER = {"cpu": 1, "cuda": 10}
"""Steps between two readings of the clock: to wait for a GPU after each would add the wait to the step."""
_COUNTED_IMAGES = 2
"""Batch in which operations are counted; their number an image does not depend on it."""


def profile(workload: Workload, device: torch.device, steps: int, peak_flops: float) -> list[Profile]:
    """Measure a workload, once for each phase of its method.

    Args:
        steps: timed steps, after a few that are not.
        peak_flops: see `meters.matmul_peak`.
    """
    workload = workload.resolved()
    assert workload.batch_size is not None
    speedups = enabled(workload.off)
    prepare(device, autotune="autotune" in speedups)
    networks = workload.networks(device, lambda network: Fast(network, workload.precision, speedups))
    step = workload.step(networks)
    images = torch.rand(workload.batch_size, *workload.images.shape, device=device)
    if "channels-last" in speedups:
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(workload.batch_size, device=device) % workload.images.classes
    found = []
    for name, (epoch, share) in step.phase_shares().items():
        runner = Runner(step, images, labels, epoch, device)
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
                recipe=workload.recipe,
                epochs=step.epochs,
                precision=workload.precision,
                phase=name,
                phase_share=share,
                off=tuple(sorted(workload.off)),
                device=provenance.hardware(device),
                device_type=device.type,
                threads=torch.get_num_threads(),
                steps=steps,
                seconds_per_step=statistics.median(seconds),
                seconds_spread=(quartiles[2] - quartiles[0]) / 2,
                flops_per_image=flops_per_image(workload, epoch),
                shares=runner.shares(networks),
                peak_memory=memory.read(),
                peak_flops=peak_flops,
                environment=provenance.describe(device),
                created=now(),
            )
        )
    del step, networks
    gc.collect()
    return found


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

    def shares(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """Where a step's time goes, in a step of its own: every part waits for the device, which is not free."""
        clock = Clock(self.wait)
        hooks = []
        for role, network in networks.items():
            if role != "student":
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
    """
    workload = workload.resolved()
    step = workload.step(workload.networks(torch.device("cpu"), lambda network: network))
    x = torch.rand(_COUNTED_IMAGES, *workload.images.shape)
    with Operations() as counter:
        step(x, torch.zeros(len(x), dtype=torch.int64), epoch=epoch)
    return counter.total / len(x)
