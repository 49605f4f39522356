"""`bench duel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing, options
from bench.cli.help import Command
from bench.cli.options import named, session
from bench.cli.tasks import How, carry_out, how_options, planned
from bench.system.home import Home

if TYPE_CHECKING:
    from bench.jobs.session import Session
    from bench.sweep.duel import Duel
    from bench.sweep.plan import Plan


@click.command(
    "duel",
    cls=Command,
    examples=[
        "bench duel ciard rslad --student resnet18 --plan",
        "bench duel ciard rslad sat --student resnet18 --seeds 3",
        "bench duel ciard ciard:push=false --student resnet18 --limit 1000",
    ],
)
@click.argument(
    "contenders", metavar="A B [C ...]", nargs=-1, required=True, shell_complete=completing.plugins("methods")
)
@named("--student", "models", "The students' architecture: `bench list models`.", required=True)
@options.dataset_option("`bench list datasets`; npz:FILE, parquet:DIR.")
@options.recipe_option("The schedule: `bench list recipes`.")
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=5, help="How many students of each, with seeds from 0 on."
)
@click.option(
    "--suite",
    default="whitebox,autoattack",
    metavar="A[,B]",
    help="Suites or attacks: `bench list suites`, `bench list attacks`.",
    shell_complete=completing.separated(completing.suites),
)
@options.threat_options("What to train and attack under: linf:8/255, l2:0.5, l1:12 (default: the data set's).")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Instead of the recipe's.")
@options.limit_train_option
@click.option("--limit", type=click.IntRange(min=1), help="Attack only the first N test images.")
@options.precision_option
@click.option(
    "--checkpoint-of",
    type=click.Choice(["best", "last", "both"]),
    default="best",
    help="Which weights of each run are attacked and compared.",
)
@click.option(
    "--teacher", "teachers", multiple=True, metavar="ROLE=[MODEL:]FILE", help="A checkpoint as their teacher."
)
@options.teacher_seeds_option
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="For all of them, as `bench run --set`.")
@how_options
@options.home_option
@click.pass_obj
def command(home: Home, contenders: tuple[str, ...], suite: str, how: How, **asked: Any) -> None:
    """Train, attack and test: which of A, B, ... is better, by how much, and how sure is that?

    Each is a method (`bench list methods`), as it is or with settings: ciard:push=false. What is done already is not
    done again; after an interruption the same command continues. It ends with a verdict and a page.
    """
    from bench.jobs.session import absolute_spec
    from bench.jobs.train import parse_teachers
    from bench.sweep.done import Known, Standing
    from bench.sweep.duel import Contender, Duel

    asked = {**options.with_recipe(home, asked), "teachers": parse_teachers(asked["teachers"])}
    suites = tuple(dict.fromkeys(options.separated(suite) or [suite]))
    duel = Duel(tuple(map(Contender.parse, contenders)), suites=suites, **asked)
    with session(home) as active:
        plan = planned(active, duel.spec)
        duel.check(plan)
        standing = Standing(home, plan, Known(home))
        if not how.here or not all(map(standing.is_done, plan)):
            _warn(active, duel)
            if how.here:
                active.dataset(absolute_spec(duel.dataset))  # images that are missing, every task would miss
            carry_out(active, plan, how)
    if how.here:
        _tell(home, duel, plan)


def _warn(active: Session, duel: Duel) -> None:
    """Say what so few seeds cannot tell, before they are trained."""
    from bench.stats import LEAST_SEEDS

    if duel.seeds < LEAST_SEEDS:
        active.reporter.say(
            f"Warning: with {duel.seeds} seed{'s' if duel.seeds > 1 else ''} of each the verdict will be about these "
            f"networks alone; a claim about the defenses takes {LEAST_SEEDS} or more (--seeds {LEAST_SEEDS})."
        )


def _tell(home: Home, duel: Duel, plan: Plan) -> None:
    """Compare what is there, and write the page."""
    from bench.analysis.compare import compare_networks, find_networks
    from bench.report.duel import write_duel
    from bench.report.duel_cost import costs_of
    from bench.report.duel_text import verdict
    from bench.sweep.done import Known, Standing

    runs = duel.runs(plan, Standing(home, plan, Known(home)))
    found = {which: compare_networks(find_networks(runs, home, checkpoint_of=which)) for which in duel.kept}
    page = home.duels / f"{duel.name(plan[0].dataset)}.html"
    costs = costs_of(home, found)
    write_duel(page, found, costs, duel.command)
    for text in verdict(found, costs):
        click.echo(f"{text}\n")
    click.echo(page)
