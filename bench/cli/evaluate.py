"""`bench eval`."""

from __future__ import annotations

from itertools import chain
from typing import Any

import click

from bench.cli import completing, options
from bench.cli.help import Command
from bench.cli.options import named, session
from bench.cli.printing import show_json, show_measured
from bench.errors import BenchError
from bench.system.home import Home
from bench.system.naming import short_names_in


@click.command(
    "eval",
    cls=Command,
    examples=[
        "bench eval --suite whitebox --dataset cifar10",
        "bench eval --suite pgd-20 --limit 1000 --checkpoint my.pt --student resnet18",
        "bench eval --suite fgsm,pgd-sat --threat l2:0.5",
        "bench eval --suite pgd-sat --attack-set steps=100 --attack-set restarts=5",
    ],
)
@click.option(
    "--suite",
    required=True,
    metavar="A[,B]",
    help="Suites or attacks: `bench list suites`, `bench list attacks`.",
    shell_complete=completing.separated(completing.suites),
)
@click.option(
    "--run",
    "run_ids",
    multiple=True,
    metavar="RUN",
    help="Only this run, by its id, the beginning of it or of its hash (may be repeated).",
    shell_complete=completing.runs,
)
@click.option(
    "--checkpoint", metavar="[MODEL:]FILE", help="A checkpoint instead of a run; robustbench:NAME, hf:ORG/REPO/FILE."
)
@named("--student", "models", "The checkpoint's architecture, NAME or NAME@NORMALISATION (default: by its layers).")
@named(
    "--dataset",
    "datasets",
    "Only runs on this dataset; for a checkpoint: what to attack it on (default: cifar10).",
)
@click.option("--limit", type=click.IntRange(min=1), help="Attack only the first N test images (said in every table).")
@options.threat_options("What to attack under: linf:8/255, l2:0.5, l1:12 (default: what a run was trained against).")
@click.option("--protocol", type=click.Choice(["official", "paper"]), default="official")
@click.option(
    "--attack-set",
    "attack_set",
    multiple=True,
    metavar="[ATTACK.]KEY=VALUE",
    help="A parameter of the attacks in place of the protocol's: steps=100; said in every table. May be repeated.",
)
@click.option("--seed", type=click.IntRange(min=0, max=2**31), default=0, help="Of the attacks' start noise.")
@click.option("--worst-case", is_flag=True, help="Leave a sample alone once an iterate fools the model; faster.")
@click.option(
    "--precision",
    type=click.Choice(["32", "tf32"]),
    default="32",
    help="GPU only: tf32 is faster; outcomes that differ from a float32 record's are counted.",
)
@click.option(
    "--checkpoint-of",
    type=click.Choice(["best", "last", "both"]),
    default="both",
    help="Which weights of each run: the selected ones, the last ones, or both (default).",
)
@click.option("--last", is_flag=True, hidden=True)  # of earlier versions, which attacked the best alone by default
@click.option("--no-checks", "checks", flag_value=False, default=True, help="Leave out what notices weak attacks.")
@click.option("--teacher", metavar="robust=[MODEL:]FILE", help="Surrogate of transfer attacks (default: the recipe's).")
@options.json_option("What was measured as JSON, without the names of the records' files.")
@options.device_option
@options.off_option
@options.deterministic_option
@options.home_option
@click.pass_obj
def command(
    home: Home,
    suite: str,
    run_ids: tuple[str, ...],
    checkpoint: str | None,
    student: str | None,
    dataset: str | None,
    teacher: str | None,
    last: bool,
    as_json: bool,
    **conduct: Any,
) -> None:
    """Attack every finished run that lacks the suite, or a checkpoint of your own; write one record for each.

    Of a run the best and the last weights are attacked; where these are the same, once. Prints the new records' files,
    and a table of all that was asked for, also of what was measured before.
    """
    from bench.evaluation.suites import suites_named
    from bench.jobs.evaluate import Evaluation, finished_runs
    from bench.jobs.results import rows_of
    from bench.jobs.session import absolute_spec
    from bench.jobs.train import parse_teachers
    from bench.records.networks import networks_of

    surrogate = None
    if teacher is not None:
        parsed = parse_teachers([teacher])
        if "robust" not in parsed:
            raise BenchError(f"--teacher {teacher!r}: a surrogate is the robust teacher.\nWrite --teacher robust=FILE.")
        surrogate = parsed["robust"]
    if checkpoint is None and student is not None:
        raise BenchError("--student goes with --checkpoint.\nWrite --checkpoint FILE --student NAME.")
    if checkpoint is not None and run_ids:
        raise BenchError("--checkpoint and --run exclude each other.\nEvaluate them in two commands.")
    if last:
        conduct["checkpoint_of"] = "both"
    wanted = suites_named(options.separated(suite) or [suite])
    if dataset is not None:
        dataset = absolute_spec(dataset)
    with session(home, tf32=conduct["precision"] == "tf32") as active:
        evaluation = Evaluation(active, wanted, surrogate_file=surrogate, **conduct)
        if checkpoint is not None:
            written = [evaluation.file(checkpoint, student, dataset or "cifar10")]
        else:
            folders = finished_runs(active, run_ids, dataset)
            # A run that is named itself is an error where it cannot be used; of all, it is left out.
            written = [*chain(*map(evaluation.run, folders))] if run_ids else evaluation.run_all(folders)
            networks = {(record.subject.run, record.subject.checkpoint) for record in evaluation.records}
            before = len(networks) - evaluation.attacked
            active.reporter.say(f"{evaluation.attacked} evaluated, {before} had the suite already.")
    short = short_names_in(home)
    if as_json:
        show_json([row.content(short) for row in rows_of(networks_of(evaluation.records))])
        return
    for path in written:
        click.echo(path)
    # Weights that are the best and the last are shown once.
    each = {(record.subject.run, record.subject.checkpoint): record for record in reversed(evaluation.records)}
    rows = rows_of(networks_of([*each.values()][::-1]))
    if rows:
        click.echo()
        show_measured(rows, short)
