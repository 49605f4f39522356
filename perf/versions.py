"""An epoch of training by this version beside one by another: `python -m perf.versions CHECKOUT`.

Each trains in a process of its own, and they take turns, epoch by epoch. What is counted is the processor's time, which
other work on the machine changes less than the clock's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

_EPOCHS = """
import sys, time
from bench.cli.main import main
from bench.training.trainer import Trainer
real = Trainer._train_epoch
def in_turn(self):
    sys.stdin.readline()
    began = time.process_time()
    real(self)
    print((time.process_time() - began) / self.steps, flush=True)
Trainer._train_epoch = in_turn
main()
"""


@click.command()
@click.argument("checkout", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--method", default="sat", show_default=True)
@click.option("--student", default="digits-cnn", show_default=True)
@click.option("--turns", type=click.IntRange(min=2), default=20, show_default=True, help="Epochs of the digits, each.")
def main(checkout: Path, method: str, student: str, turns: int) -> None:
    """How long a step takes here, as a share of what it takes in another checkout of this repository."""
    with tempfile.TemporaryDirectory() as homes:
        processes: list[Any] = []
        for number, folder in enumerate((checkout, Path(__file__).parents[1])):
            command = [
                "bench",
                "run",
                "--method",
                method,
                "--student",
                student,
                "--dataset",
                "digits",
                "--recipe",
                "demo",
            ]
            command += ["--epochs", str(turns + 1), "--home", f"{homes}/{number}"]
            code = f"import sys; sys.argv = {command}\n{_EPOCHS}"
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            processes.append(subprocess.Popen([sys.executable, "-c", code], cwd=folder, text=True, **pipes))
        ratios: list[float] = []
        steps: list[tuple[float, float]] = []
        for turn in range(turns + 1):
            seconds = []
            for process in processes if turn % 2 else processes[::-1]:
                process.stdin.write("go\n")
                process.stdin.flush()
                seconds.append(float(process.stdout.readline()))
            other, ours = seconds if turn % 2 else seconds[::-1]
            if turn:  # the first warms up
                ratios.append(ours / other)
                steps.append((other, ours))
        for process in processes:
            process.communicate()
    low, middle, high = statistics.quantiles(ratios, n=4)
    before, now = (1000 * statistics.median(each) for each in zip(*steps, strict=True))
    click.echo(f"{method}, {student}: {before:.2f} ms a step there, {now:.2f} here")
    click.echo(f"here / there: {middle:.3f} (quartiles {low:.3f} to {high:.3f}; {turns} turns of an epoch each)")


if __name__ == "__main__":
    main()
