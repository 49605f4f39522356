"""`bench run`."""

from __future__ import annotations

import click

from bench.cli import completing
from bench.cli.options import device_option, home_option, logger_option, session, speed_options
from bench.system.home import Home


@click.command("run")
@click.option(
    "--method", required=True, help="The defense: `bench list methods`.", shell_complete=completing.plugins("methods")
)
@click.option(
    "--student",
    required=True,
    help="The student's architecture: `bench list models`.",
    shell_complete=completing.plugins("models"),
)
@click.option(
    "--dataset",
    default="cifar10",
    show_default=True,
    help="`bench list datasets`; parquet:DIR.",
    shell_complete=completing.plugins("datasets"),
)
@click.option(
    "--recipe",
    default="official",
    show_default=True,
    help="The schedule: `bench list recipes`.",
    shell_complete=completing.recipes,
)
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--seed", type=click.IntRange(min=0, max=2**31), default=0, show_default=True)
@device_option
@speed_options
@click.option("--precision", type=click.Choice(["32", "bf16"]), default="32", show_default=True)
@click.option("--limit-train", type=click.IntRange(min=10), help="Train on the first N images only.")
@click.option("--teacher", "teachers", multiple=True, metavar="ROLE=[MODEL:]FILE", help="A checkpoint as a teacher.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A hyper-parameter of the method.")
@click.option(
    "--step-timeout",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="With torchrun: end when no process makes a step for this long.",
)
@click.option(
    "--sync-bn", is_flag=True, help="With torchrun: batch statistics over all processes, not each one's part."
)
@logger_option
@click.option("--restart", is_flag=True, help="Delete the run and train it again.")
@home_option
@click.pass_obj
def command(
    home: Home,
    method: str,
    student: str,
    dataset: str,
    recipe: str,
    epochs: int | None,
    batch_size: int | None,
    seed: int,
    device: str,
    off: tuple[str, ...],
    deterministic: bool,
    precision: str,
    limit_train: int | None,
    teachers: tuple[str, ...],
    settings: tuple[str, ...],
    step_timeout: int,
    sync_bn: bool,
    loggers: tuple[str, ...],
    restart: bool,
) -> None:
    """Train a student by a defense; called again after an interruption it continues.

    Teachers are found by role: a file named with --teacher, one trained before, or one trained now. Started by
    torchrun (`torchrun --nproc-per-node N -m bench run ...`), all its processes train one run, on parts of each batch.
    """
    from bench.compute.ranks import joined
    from bench.jobs import train
    from bench.jobs.teachers import gather
    from bench.system.console import Reporter

    request = train.Request(
        method=method,
        student=student,
        dataset=dataset,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        precision="bf16" if precision == "bf16" else "32",
        limit_train=limit_train,
        teachers=train.parse_teachers(teachers),
        settings=settings,
    )
    train.check(request)
    opened = session(home, device, off, deterministic, loggers=loggers)
    with opened as active, joined(active.device, sync_bn, step_timeout, active.stop) as processes:
        if not processes.first:
            active.reporter = Reporter.silent()
        folder = train.train(active, request, gather(active, request), restart)
        if not processes.first:
            return
        summary = folder.summary()
        if summary is not None and summary.accuracy is not None:
            found = ", ".join(f"{kind} {value:.1%}" for kind, value in summary.accuracy.items())
            active.reporter.say(f"Selected epoch {summary.selected_epoch} on {summary.selected_on}: {found}.")
        click.echo(folder.path)
