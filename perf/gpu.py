"""Is a GPU right, and how close is it to its limits: `python -m perf.gpu --model FILE --dataset parquet:DIR`.

Every defense's step is compared with the CPU's in float64, where only a mistake can differ; the outcomes of attacks
with the CPU's in float32. Then how many images a second a pass of an attack takes, beside the best matrix product.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from bench import evaluate, registry
from bench.compute.device import choose_device, prepare
from bench.compute.speedups import SPEEDUPS, Fast, View
from bench.cost.meters import matmul_peak
from bench.data import load_dataset
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.models import build_model
from bench.models.checkpoints import load_model
from bench.recipes.hyperparameters import make, method_class
from bench.records.measurement import differing
from bench.records.record import Record
from bench.system import provenance
from bench.training.step import TrainingStep
from bench.vocabulary import Precision

GFLOP = 2 * 0.5558
"""Operations of one pass of a resnet18 forward on an image of 32x32; back to the image takes as many again."""
_STUDENT = "resnet20"
_BATCH = {"bf16": 128, "32": 1000}
"""Images at once in training, and in an evaluation."""
_FELT = ("graphs", "channels-last", "folding")
_SECONDS = 0.5
"""How long a pass is repeated."""


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="A checkpoint, robust if possible.")
@click.option("--dataset", help="What it was trained for: parquet:DIR.")
@click.option(
    "--images", type=click.IntRange(min=10), default=200, show_default=True, help="Whose outcomes to compare."
)
@click.option("--eps", type=float, help="What they are attacked with, of 255 (default: the data set's own).")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="cpu rehearses.")
def main(model: Path | None, dataset: str | None, images: int, eps: float | None, device: str) -> None:
    """Steps and outcomes on a GPU and on the CPU; ceilings and passes of the GPU."""
    try:
        place = choose_device(device)
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    about = provenance.describe(place)
    click.echo(f"{about['hardware']}, {about['packages']}, commit {about['git']}\n")
    click.echo("| three steps in float64 | loss, largest relative difference | weights |\n|---|---:|---:|")
    for text in steps(place):
        click.echo(text)
    if model is not None and dataset is not None:
        data = load_dataset(dataset, Path("data"))
        network, _ = load_model(model, None, data.num_classes, data.in_channels)
        click.echo(f"\n| white-box suite on {images} images | outcomes unlike the CPU's | s |\n|---|---|---:|")
        for what, counts, seconds in outcomes(network, data, images, None if eps is None else eps / 255, place):
            click.echo(f"| {what} | {counts} | {seconds:.1f} |")
    if device == "cuda":
        click.echo("\n| resnet18, forward and input gradient | batch | images/s | TFLOP/s | of the best product |")
        click.echo("|---|---:|---:|---:|---:|")
        for text in passes(place):
            click.echo(text)


def steps(device: torch.device) -> Iterator[str]:
    """Three steps of every variant of every defense: on the CPU without any speed-up, on the device with all."""
    prepare(device)
    for method in registry.names("methods"):
        for variant in method_class(method).variants:
            plain, weights = taken(method, variant, torch.device("cpu"), ())
            fast, theirs = taken(method, variant, device, SPEEDUPS)
            loss = max(abs(a - b) / abs(a) for a, b in zip(plain, fast, strict=True))
            moved = ((weights - theirs).norm() / weights.norm()).item()
            yield f"| {method_class(method).label} ({variant}) | {loss:.1e} | {moved:.1e} |"


def taken(
    method: str, variant: str, device: torch.device, speedups: Collection[str], n: int = 4, side: int = 16
) -> tuple[list[float], Tensor]:
    """The losses of three steps, from the same weights, images and start noise, and the student's weights then."""
    torch.manual_seed(0)
    cls = method_class(method)
    own = [name for name, each in make(method, {}).companions().items() if each.learns]
    networks = [build_model(_STUDENT, 10, 3).double() for _ in range(1 + len(cls.roles) + len(own))]
    x, noise = torch.rand(2, 3, n, 3, side, side, dtype=torch.float64)
    y = torch.arange(n).to(device) % 10
    student, *others = (Fast(network.to(device), "32", speedups) for network in networks)
    step = TrainingStep.from_recipe(
        method,
        student,
        dict(zip(cls.roles, others, strict=False)),
        companions=dict(zip(own, others[len(cls.roles) :], strict=True)),
        variant=variant,
        settings={} if method == "natural" else {"steps": 2},
        fused="fused" in speedups,
    )
    losses, last = [], max(first for first, _ in step.phase_shares().values())
    for i in range(3):
        start = (2 * noise[i] - 1).to(device)
        loss = step(x[i].to(device), y, epoch=last, step=i, steps=3, noise=start, generator=_drawn(device))
        losses.append(loss.total.item())
    return losses, torch.cat([parameter.detach().cpu().flatten() for parameter in student.parameters()])


def _drawn(device: torch.device) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(0)


def outcomes(
    network: nn.Module, data: Dataset, n: int, eps: float | None, device: torch.device
) -> Iterator[tuple[str, str, float]]:
    """(what, how many outcomes differ of each attack, seconds): the CPU's, the GPU's, the GPU's with TF32."""

    def measured(place: torch.device, tf32: bool) -> tuple[Record, float]:
        prepare(place, tf32=tf32)
        began = time.perf_counter()
        there = copy.deepcopy(network).to(place)
        found = evaluate(there, data, "whitebox", limit=n, threat=eps, name="resnet", checks=False, device=place)
        return found, time.perf_counter() - began

    exact, seconds = measured(torch.device("cpu"), tf32=False)
    shown = ", ".join(f"{name} {result.accuracy:.1%}" for name, result in exact.results.items())
    yield f"CPU, float32: {shown}", "", seconds
    for tf32 in (False, True) if device.type == "cuda" else (False,):
        found, seconds = measured(device, tf32)
        counts = ", ".join(f"{name} {count}" for name, count in differing(found, exact).items())
        yield f"{device.type}, {'TF32' if tf32 else 'float32'}", counts, seconds
    prepare(device)


def passes(device: torch.device) -> Iterator[str]:
    """What an attack's passes take by precision, batch and layout, replayed as a graph and not."""
    kinds: tuple[tuple[Precision, bool], ...] = (("bf16", False), ("32", True), ("32", False))
    for precision, tf32 in kinds:
        prepare(device, tf32=tf32)
        peak = matmul_peak(device, precision)
        for batch, off in [(128, ()), (1000, ()), *((_BATCH[precision], (name,)) for name in _FELT)]:
            rate = images_a_second(precision, batch, off, device)
            what = f"{'TF32' if tf32 else precision}{''.join(f', without {name}' for name in off)}"
            done = 2e9 * GFLOP * rate
            yield f"| {what} | {batch} | {rate:.0f} | {done / 1e12:.1f} | {done / peak:.0%} |"
    prepare(device)


def images_a_second(precision: Precision, batch: int, off: Collection[str], device: torch.device) -> float:
    """Of a resnet18, forward and back to the images."""
    network = build_model("resnet18", 10, 3).to(device).eval()
    view = View(network, precision, set(SPEEDUPS) - set(off), training=False)
    x = torch.rand(batch, 3, 32, 32, device=device)
    if "channels-last" not in off:
        view.turn_channels_last()
        x = x.contiguous(memory_format=torch.channels_last)
    view.refresh()
    x.requires_grad_()

    def repeated(times: int) -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            torch.autograd.grad(view(x).sum(), x)
        torch.cuda.synchronize()
        return time.perf_counter() - began

    repeated(3)
    times = max(3, int(_SECONDS / (repeated(3) / 3)))
    return batch * times / repeated(times)


if __name__ == "__main__":
    main()
