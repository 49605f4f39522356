"""`bench sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing, options
from bench.cli.help import Command
from bench.cli.options import session
from bench.cli.printing import show_json
from bench.errors import BenchError
from bench.system.home import Home

if TYPE_CHECKING:
    from bench.jobs.session import Session
    from bench.sweep.plan import Plan
    from bench.sweep.spec import SweepSpec


@click.command("sweep", cls=Command, examples=["bench sweep table7 --plan", "bench sweep mine.yaml --workers 2"])
@click.argument("spec", metavar="SPEC", shell_complete=completing.sweeps)
@click.option("--dataset", metavar="SPEC", help="Instead of the spec's datasets: cifar10, parquet:DIR, ...")
@click.option("--recipe", help="Instead of the spec's: `bench list recipes`; FILE.", shell_complete=completing.recipes)
@options.threat_options("Instead of the spec's threats, in training and evaluation: linf:8/255, l2:0.5, l1:12.")
@click.option("--limit-train", type=click.IntRange(min=10), help="Training images of every run.")
@click.option("--limit", type=click.IntRange(min=1), help="Test images of every evaluation, at most.")
@click.option(
    "--checkpoint-of",
    type=click.Choice(["best", "last", "both"]),
    help="Which weights of each run its evaluations attack (default: the spec's, the best).",
)
@click.option("--plan", "only_plan", is_flag=True, help="Show the tasks, their order and what they take; do nothing.")
@options.json_option("With --plan: as JSON.")
@click.option("--hardware", metavar="NAME", help="With --plan: estimate for this device (default: this machine's).")
@click.option("--workers", type=click.IntRange(min=1), help="Number of tasks at a time, each in a process of its own.")
@click.option("--address", metavar="HOST:PORT", help="On a Ray cluster that runs; `auto`; `local`: a Ray of its own.")
@click.option("--gpus-per-task", type=click.FloatRange(min=0), help="On Ray: a share of a GPU, 0.25 (default: 1).")
@click.option("--target", type=click.Choice(["slurm"]), help="Write scripts for a batch system instead.")
@options.out_option("With --target: the scripts' folder.")
@click.option("--sbatch", multiple=True, metavar="OPTION", help='With --target slurm: "--partition=gpu --gres=gpu:1".')
@options.device_option
@options.home_option
@click.pass_obj
def command(
    home: Home,
    spec: str,
    only_plan: bool,
    as_json: bool,
    hardware: str | None,
    workers: int | None,
    address: str | None,
    gpus_per_task: float | None,
    target: str | None,
    out: Path | None,
    sbatch: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train and evaluate all that SPEC names: a built-in sweep (`bench list sweeps`) or a YAML file.

    What is done already is skipped; after an interruption the same command continues.
    """
    from bench.sweep.spec import Changes, load_sweep, located

    at_a_time = workers is not None or address is not None
    _check_options(only_plan, as_json or hardware is not None, at_a_time, target, out, sbatch)
    if gpus_per_task is not None and address is None:
        raise BenchError("--gpus-per-task is for Ray.\nAdd --address HOST:PORT, auto or local.")
    sweep = located(Changes(**changes).of(load_sweep(spec)), home.recipes)
    if only_plan:
        _show_plan(home, sweep, hardware, as_json)
    elif target is not None and out is not None:
        _write_scripts(home, sweep, out, sbatch)
    else:
        _execute(home, sweep, workers, address, gpus_per_task)


def _check_options(
    only_plan: bool,
    of_plan: bool,
    at_a_time: bool,
    target: str | None,
    out: Path | None,
    sbatch: tuple[str, ...],
) -> None:
    """Refuse options that would have no effect."""
    if of_plan and not only_plan:
        raise BenchError("--json and --hardware belong to --plan.\nAdd --plan, or leave them away.")
    if (target is None) != (out is None):
        raise BenchError("--target and --out go together.\nWrite --target slurm --out DIR.")
    if sbatch and target is None:
        raise BenchError("--sbatch belongs to --target slurm.\nAdd --target slurm --out DIR, or leave out --sbatch.")
    if only_plan + at_a_time + (target is not None) > 1:
        raise BenchError("--plan, --target and --workers or --address exclude each other.\nGive one of them.")


def _planned(active: Session, sweep: SweepSpec) -> Plan:
    """The plan of a sweep; images are read only where a dataset's name is not known otherwise."""
    from bench.sweep.done import Known
    from bench.sweep.plan import dataset_name, expand

    known = Known(active.home)

    def name(spec: str) -> str:
        return known.name(spec) or active.dataset(spec).name

    return expand(sweep, dataset_name(name, active.home.data))


def _execute(
    home: Home, sweep: SweepSpec, workers: int | None, address: str | None, gpus_per_task: float | None
) -> None:
    from bench.sweep import run_here, run_in_processes, run_on_ray
    from bench.sweep.done import account

    with session(home) as active:
        ledger = account(active, _planned(active, sweep))
        if address is not None:
            gpus = float(active.device.type == "cuda") if gpus_per_task is None else gpus_per_task
            cluster = run_on_ray.Cluster(workers, address, gpus, options.chosen()["device"])
            if ledger.ready():
                run_on_ray.execute(active, ledger, cluster)
        elif workers is not None:
            run_in_processes.execute(active, ledger, workers)
        else:
            run_here.execute(active, ledger)
        ledger.close()


def _write_scripts(home: Home, sweep: SweepSpec, out: Path, sbatch: tuple[str, ...]) -> None:
    from bench.sweep.done import Known, Standing
    from bench.sweep.write_slurm import write_scripts

    with session(home) as active:
        plan = _planned(active, sweep)
        done = Standing(home, plan, Known(home)).done()
    if len(done) == len(plan):
        active.reporter.say(f"All {len(plan)} tasks are done; there is nothing to write.")
        return
    for path in write_scripts(plan, done, home, out, sbatch):
        click.echo(path)
    active.reporter.say(f"Submit them all: bash {out / 'submit.sh'}")


def _show_plan(home: Home, sweep: SweepSpec, hardware: str | None, as_json: bool) -> None:
    from bench.sweep.done import Known, Standing
    from bench.sweep.estimate import Estimator
    from bench.system import provenance

    with session(home) as active:
        plan = _planned(active, sweep)
        done = Standing(home, plan, Known(home)).done()
        estimator = Estimator(home, hardware or provenance.hardware(active.device))
        if hardware is not None:
            estimator.check_hardware()
        estimates = {task.number: estimator.estimate(task) for task in plan}
    if as_json:
        show_json([_as_json(task, done, estimates[task.number]) for task in plan])
        return
    from bench.sweep.text import lines

    for line in lines(plan, done, estimates, estimator.hardware):
        click.echo(line)


def _as_json(task: Any, done: set[int], estimate: Any) -> dict[str, Any]:
    return {
        "number": task.number,
        "kind": task.kind,
        "command": task.command,
        "needs": list(task.needs),
        "done": task.number in done,
        "hours": None if estimate.seconds is None else estimate.seconds / 3600,
        "memory_bytes": estimate.memory,
        "basis": estimate.basis,
    }
