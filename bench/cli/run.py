"""`bench run`."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing, options
from bench.cli.help import Command
from bench.cli.options import named, session
from bench.cli.printing import show, show_json
from bench.errors import BenchError
from bench.system.home import Home

if TYPE_CHECKING:
    from bench.jobs.train import Request


@click.command(
    "run",
    cls=Command,
    examples=[
        "bench run --method ciard --student resnet18 --plan",
        "bench run --method ciard --student resnet18 --set push=false --seed 1",
        "bench run --method ard --student resnet20 --teacher robust=wrn-34-10:robust.pt",
        "bench run --method rslad --student resnet18 --teacher robust=robustbench:NAME",
    ],
)
@named("--method", "methods", "The defense: `bench list methods`.", required=True)
@named("--student", "models", "The student's architecture: `bench list models`.", required=True)
@options.dataset_option("`bench list datasets`; npz:FILE, parquet:DIR.")
@options.recipe_option("The schedule: `bench list recipes`.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--seed", type=click.IntRange(min=0, max=2**31), default=0)
@options.device_option
@options.off_option
@options.deterministic_option
@options.precision_option
@options.limit_train_option
@options.threat_options("What to train and evaluate against: linf:8/255, l2:0.5, l1:12 (default: the data set's).")
@click.option("--extra", metavar="npz:FILE", help="Additional training images: arrays image and label, or x and y.")
@click.option("--extra-share", type=float, metavar="SHARE", help="Their share of every batch, 0 to 1.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="ROLE=[MODEL:]FILE",
    help="A checkpoint as a teacher; also ROLE=robustbench:NAME, ROLE=hf:ORG/REPO/FILE.",
)
@options.teacher_seeds_option
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A hyper-parameter of the method (`bench explain METHOD`), or of the recipe: training.optimizer.lr=0.05.",
    shell_complete=completing.settings,
)
@click.option(
    "--step-timeout",
    type=click.IntRange(min=1),
    default=600,
    metavar="SECONDS",
    help="With torchrun: end when no process makes a step for this long.",
)
@click.option(
    "--sync-bn", is_flag=True, help="With torchrun: batch statistics over all processes, not each one's part."
)
@options.logger_option
@click.option("--restart", is_flag=True, help="Delete the run and train it again.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be trained, and for how long; do nothing.")
@options.json_option("With --plan: as JSON.")
@options.home_option
@click.pass_obj
def command(
    home: Home,
    teachers: tuple[str, ...],
    step_timeout: int,
    sync_bn: bool,
    restart: bool,
    only_plan: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Train a student by a defense; called again after an interruption it continues.

    Teachers are found by role: a file named with --teacher, one trained before, or one trained now. Started by
    torchrun (`torchrun --nproc-per-node N -m bench run ...`), all its processes train one run, on parts of each batch.
    """
    from bench.compute.ranks import joined
    from bench.data import find
    from bench.jobs import train
    from bench.jobs.teachers import gather
    from bench.system.console import Reporter

    request = train.Request(teachers=train.parse_teachers(teachers), **options.with_recipe(home, asked))
    train.check(request)
    find(request.dataset, home.data)
    if as_json and not only_plan:
        raise BenchError("--json belongs to --plan.\nAdd --plan, or leave it away.")
    if only_plan:
        _show_plan(home, request, restart, as_json)
        return
    with session(home) as active, joined(active.device, sync_bn, step_timeout, active.stop) as processes:
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


def _show_plan(home: Home, request: Request, restart: bool, as_json: bool) -> None:
    from bench.sweep import preview

    if restart or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BenchError("--plan is of a run as it stands, in one process.\nLeave --restart and torchrun away.")
    how = options.chosen()
    with session(home) as active:
        plan = preview.plan_run(active, request, usual=not (how["off"] or how["deterministic"]))
    if as_json:
        show_json(asdict(plan))
        return
    click.echo(f"On {plan.dataset}, {plan.recipe} recipe, precision {plan.precision}, {plan.device}:\n")
    show([preview.row(part) for part in plan.parts], as_json=False)
    click.echo()
    for line in preview.lines(plan):
        click.echo(line)
