"""`bench teacher train` and `bench teacher list`."""

from __future__ import annotations

import click

from bench.cli import completing
from bench.cli.options import device_option, home_option, logger_option, session, speed_options
from bench.system.home import Home


@click.group("teacher")
def command() -> None:
    """Train or list teachers."""


@command.command("train")
@click.option(
    "--role",
    type=click.Choice(["clean", "robust", "both"]),
    default="both",
    show_default=True,
    help="Which teacher.",
)
@click.option(
    "--dataset",
    default="cifar10",
    show_default=True,
    help="`bench list datasets`.",
    shell_complete=completing.plugins("datasets"),
)
@click.option(
    "--recipe",
    default="official",
    show_default=True,
    help="Names the architectures and the schedule.",
    shell_complete=completing.recipes,
)
@click.option(
    "--method",
    default="",
    help="The student's method, for those with a teacher of their own (DARD).",
    shell_complete=completing.plugins("methods"),
)
@click.option("--precision", type=click.Choice(["32", "bf16"]), default="32", show_default=True)
@click.option("--limit-train", type=click.IntRange(min=10), help="Train on the first N images only.")
@logger_option
@click.option("--restart", is_flag=True, help="Delete the teacher and train it anew.")
@device_option
@speed_options
@home_option
@click.pass_obj
def train(
    home: Home,
    role: str,
    dataset: str,
    recipe: str,
    method: str,
    precision: str,
    limit_train: int | None,
    loggers: tuple[str, ...],
    restart: bool,
    device: str,
    off: tuple[str, ...],
    deterministic: bool,
) -> None:
    """Train the teachers that students of a recipe will find, and evaluate each once."""
    from bench import registry
    from bench.jobs import teachers
    from bench.jobs.train import Request, limited
    from bench.vocabulary import Role

    request = Request(
        method=method,
        student="",
        dataset=dataset,
        recipe=recipe,
        precision="bf16" if precision == "bf16" else "32",
        limit_train=limit_train,
    )
    if method:
        registry.find("methods", method)
    roles: list[Role] = ["clean", "robust"] if role == "both" else ["clean" if role == "clean" else "robust"]
    with session(home, device, off, deterministic, loggers=loggers) as active:
        for each in roles:
            asked = teachers.teacher_request(request, each, limited(active, request).name)
            click.echo(teachers.prepare(active, asked, restart).path)


@command.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_teachers(home: Home, as_json: bool) -> None:
    """Show the teachers that were trained here or named in a run, with their accuracies as in Table 2."""
    from bench.cli.printing import show
    from bench.records.index import home_records

    rows = []
    for record in home_records(home):
        if record.subject.kind == "teacher":
            accuracies = {name: f"{result.accuracy:.2%}" for name, result in record.results.items()}
            rows.append(
                {
                    "role": record.subject.role,
                    "model": record.subject.model,
                    "dataset": record.data.name,
                    "trained": record.subject.run or record.subject.label,
                    "setting": record.subject.setting,
                    "n": record.data.n,
                    **accuracies,
                }
            )
    show(rows, as_json, "No teacher was trained here yet: bench teacher train --dataset NAME.")
