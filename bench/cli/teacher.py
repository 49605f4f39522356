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
@options.threat_options("What to train and evaluate against: linf:8/255, l2:0.5, l1:12 (default: the data set's).")
@options.precision_option
@options.limit_train_option
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**31), default=0, help="Of students' with --teacher-seeds: theirs."
)
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

    request = Request(method=method or "", student="", teacher_seeds=True, **options.with_recipe(home, asked))
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
    """Show the teachers that were trained here, are in training or were named in a run, and what they are right in."""
    from bench.cli.printing import show_json, show_measured
    from bench.cli.status import show_standings
    from bench.jobs.status import standings
    from bench.records.index import home_records
    from bench.system.naming import short_names

    found = standings(home, home_records(home))
    short = short_names(one.id for one in found)
    teachers = [one for one in found if one.kind == "teacher"]
    if as_json:
        show_json([one.content(short) for one in teachers])
        return
    if not teachers:
        click.echo("No teacher was trained here yet: bench teacher train --dataset NAME.")
        return
    show_standings(teachers, short)
    click.echo()
    show_measured([one.measured for one in teachers if one.measured is not None], short)
