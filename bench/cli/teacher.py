"""`bench teacher train` and `bench teacher list`."""

from __future__ import annotations

from typing import Any

import click

from bench.cli import options
from bench.cli.help import Group
from bench.cli.options import named, session
from bench.system.home import Home


@click.group("teacher", cls=Group)
def command() -> None:
    """Train or list teachers."""


@command.command("train", examples=["bench teacher train --role robust --dataset cifar10 --recipe short"])
@click.option("--role", type=click.Choice(["clean", "robust", "both"]), default="both", help="Which teacher.")
@options.dataset_option("`bench list datasets`.")
@options.recipe_option("Names the architectures and the schedule.")
@named("--method", "methods", "The student's method, for those with a teacher of their own (DARD).")
@options.precision_option
@options.limit_train_option
@options.logger_option
@click.option("--restart", is_flag=True, help="Delete the teacher and train it again.")
@options.device_option
@options.off_option
@options.deterministic_option
@options.home_option
@click.pass_obj
def train(home: Home, role: str, method: str | None, restart: bool, **asked: Any) -> None:
    """Train the teachers that students of a recipe will find, and evaluate each once."""
    from bench import registry
    from bench.jobs import teachers
    from bench.jobs.train import Request, limited
    from bench.vocabulary import Role

    request = Request(method=method or "", student="", **options.with_recipe(home, asked))
    if method:
        registry.find("methods", method)
    roles: dict[str, tuple[Role, ...]] = {"clean": ("clean",), "robust": ("robust",), "both": ("clean", "robust")}
    with session(home) as active:
        for each in roles[role]:
            wanted = teachers.teacher_request(request, each, limited(active, request).name)
            click.echo(teachers.prepare(active, wanted, restart).path)


@command.command("list", examples=["bench teacher list --json"])
@options.home_option
@options.json_option()
@click.pass_obj
def list_teachers(home: Home, as_json: bool) -> None:
    """Show the teachers that were trained here or named in a run, with their accuracies as in Table 2."""
    from bench.cli.printing import show
    from bench.records.index import home_records

    rows = [
        {
            "role": record.subject.role,
            "model": record.subject.model,
            "dataset": record.data.name,
            "trained": record.subject.run or record.subject.label,
            "setting": record.subject.setting,
            "n": record.data.n,
            **{name: f"{result.accuracy:.2%}" for name, result in record.results.items()},
        }
        for record in home_records(home)
        if record.subject.kind == "teacher"
    ]
    show(rows, as_json, "No teacher was trained here yet: bench teacher train --dataset NAME.")
