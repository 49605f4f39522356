"""`bench profile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing, options
from bench.cli.help import Command
from bench.cli.printing import show, show_json
from bench.errors import BenchError, unknown_name
from bench.system.home import Home
from bench.threat import Threat

if TYPE_CHECKING:
    from bench.cost.profile import Profile


@click.command("profile", cls=Command, examples=["bench profile --methods sat,ciard --student resnet18 --device cuda"])
@click.option(
    "--methods",
    default="all",
    help="Names with commas between them, or all.",
    shell_complete=completing.separated(completing.plugins("methods"), "all"),
)
@options.named("--student", "models", "The student's architecture.", default="resnet18")
@options.dataset_option("cifar10, cifar100 or tiny-imagenet; no images.")
@options.recipe_option("Whose variants, teachers and batch size.")
@click.option("--variant", help="Of the methods, instead of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Instead of the recipe's.")
@options.threat_options("What is trained against: linf:8/255, l2:0.5, l1:12.")
@options.precision_option
@click.option("--steps", type=click.IntRange(min=1), default=5, help="Timed steps a method.")
@click.option("--off", multiple=True, metavar="NAME", help="Do without a speed-up: `bench list speedups`.")
@click.option("--worth", is_flag=True, help="Also without each speed-up in turn, and without all of them.")
@options.json_option()
@options.device_option
@options.home_option
@click.pass_obj
def command(
    home: Home,
    methods: str,
    dataset: str,
    steps: int,
    off: tuple[str, ...],
    worth: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Measure training steps on random images and weights: time, where it goes, operations, memory.

    The profiles are kept (`results/profiles`), and the cost table of all that are there is written to
    `results/tables/costs.md`, `.tex` and `.csv`; those without some speed-up stay out of it.
    """
    from bench.compute.speedups import SPEEDUPS, has_effect
    from bench.cost.measure import profile as measured
    from bench.cost.meters import matmul_peak
    from bench.cost.profile import write_profile
    from bench.cost.workload import IMAGES, Workload

    if dataset not in IMAGES:
        raise unknown_name("dataset to profile", dataset, IMAGES)
    threat = asked["threat"]
    asked["threat"] = threat if isinstance(threat, Threat) else Threat() if threat is None else Threat().at(threat)
    chosen, asked = _methods(methods, asked["variant"], asked["threat"]), options.with_recipe(home, asked)
    with options.session(home, off=off) as active, active.stop.at_once():
        kind = asked["precision"]
        choices = [off]
        if worth:
            felt = [name for name in SPEEDUPS if name not in off and has_effect(name, active.device, kind)]
            choices += [(*off, name) for name in felt] + [tuple(SPEEDUPS)]
        peak = matmul_peak(active.device, kind)
        found: list[Profile] = []
        for method in chosen:
            for without in choices:
                said = f" without {', '.join(without)}" if without else ""
                active.reporter.say(f"{method}{said}: {steps} steps.")
                workload = Workload(method, images=IMAGES[dataset], off=without, **asked)
                for profile in measured(workload, active.device, steps, peak):
                    write_profile(home, profile)
                    found.append(profile)
    if as_json:
        show_json([profile.model_dump(mode="json") for profile in found])
    else:
        _show(found)
    _write_costs(home, active.reporter)


def _methods(text: str, variant: str | None, threat: Threat) -> list[str]:
    """The methods asked for: names with commas between them, or all that have the variant and know the norm."""
    from bench import registry
    from bench.recipes.hyperparameters import check_norm, method_class

    if text != "all":
        names = options.separated(text)
        for name in names:
            check_norm(name, threat)
        return names
    return [
        name
        for name, found in registry.load_all("methods", method_class)
        if not isinstance(found, BenchError)
        and (variant is None or variant in found.variants)
        and threat.norm in found.norms
    ]


def _show(found: list[Profile]) -> None:
    """The cost tables of this call; with several sets of speed-ups, what each is worth."""
    from bench.cost.table import cost_tables

    for table in cost_tables(profile for profile in found if profile.off == found[0].off):
        click.echo(table.title)
        show([dict(zip(table.headers, row, strict=True)) for row in table.rows], False)
        for note in table.notes:
            click.echo(f"- {note}")
        click.echo()
    rows = []
    for profile in found:
        base = next((p for p in found if (p.method, p.phase) == (profile.method, profile.phase)), profile)
        if profile is not base:
            without = set(profile.off) - set(base.off)
            rows.append(
                {
                    "method": f"{profile.method} {profile.phase}".strip(),
                    "without": ", ".join(sorted(without)),
                    "ms/step": f"{1000 * profile.seconds_per_step:.4g}",
                    "times as long": f"{profile.seconds_per_step / base.seconds_per_step:.2f}",
                }
            )
    if rows:
        show(rows, False)


def _write_costs(home: Home, reporter: Any) -> None:
    from bench.cost.profile import load_profiles
    from bench.cost.table import cost_tables
    from bench.system.files import write_text_atomically
    from bench.tables.plain import plain_to_csv
    from bench.tables.render import plain_to_latex, plain_to_markdown

    tables = cost_tables(profile for profile in load_profiles(home) if not profile.off)
    for ending, text in (
        ("md", plain_to_markdown(tables)),
        ("tex", plain_to_latex(tables)),
        ("csv", plain_to_csv(tables)),
    ):
        write_text_atomically(home.tables / f"costs.{ending}", text)
    reporter.say(f"The cost table of all profiles: {home.tables / 'costs.md'}.")
