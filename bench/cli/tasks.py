"""How a command does many tasks, or says what they are: the options, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import options
from bench.cli.printing import show_json
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.jobs.session import Session
    from bench.sweep.estimate import Estimate
    from bench.sweep.plan import Plan, Task
    from bench.sweep.spec import SweepSpec


@dataclass(frozen=True)
class How:
    """What is to be done with the tasks of a sweep, by the options of the command."""

    only_plan: bool
    as_json: bool
    hardware: str | None
    workers: int | None
    address: str | None
    gpus_per_task: float | None
    target: str | None
    out: Path | None
    sbatch: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether the command itself does them."""
        return not self.only_plan and self.target is None

    def check(self) -> None:
        """Refuse options that would have no effect."""
        if (self.as_json or self.hardware is not None) and not self.only_plan:
            raise BenchError("--json and --hardware belong to --plan.\nAdd --plan, or leave them away.")
        if (self.target is None) != (self.out is None):
            raise BenchError("--target and --out go together.\nWrite --target slurm --out DIR.")
        if self.sbatch and self.target is None:
            raise BenchError(
                "--sbatch belongs to --target slurm.\nAdd --target slurm --out DIR, or leave out --sbatch."
            )
        at_a_time = self.workers is not None or self.address is not None
        if self.only_plan + at_a_time + (self.target is not None) > 1:
            raise BenchError("--plan, --target and --workers or --address exclude each other.\nGive one of them.")
        if self.gpus_per_task is not None and self.address is None:
            raise BenchError("--gpus-per-task is for Ray.\nAdd --address HOST:PORT, auto or local.")


def how_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of how tasks are done, together `how`."""

    @wraps(function)
    def together(*args: Any, **given: Any) -> Any:
        how = How(**{name: given.pop(name) for name in How.__dataclass_fields__})
        how.check()
        return function(*args, how=how, **given)

    for option in reversed(_OPTIONS):
        together = option(together)
    return together


_OPTIONS = (
    click.option(
        "--plan", "only_plan", is_flag=True, help="Show the tasks, their order and what they take; do nothing."
    ),
    options.json_option("With --plan: as JSON."),
    click.option("--hardware", metavar="NAME", help="With --plan: estimate for this device (default: this machine's)."),
    click.option(
        "--workers", type=click.IntRange(min=1), help="Number of tasks at a time, each in a process of its own."
    ),
    click.option(
        "--address", metavar="HOST:PORT", help="On a Ray cluster that runs; `auto`; `local`: a Ray of its own."
    ),
    click.option("--gpus-per-task", type=click.FloatRange(min=0), help="On Ray: a share of a GPU, 0.25 (default: 1)."),
    click.option("--target", type=click.Choice(["slurm"]), help="Write scripts for a batch system instead."),
    options.out_option("With --target: the scripts' folder."),
    click.option(
        "--sbatch", multiple=True, metavar="OPTION", help='With --target slurm: "--partition=gpu --gres=gpu:1".'
    ),
    options.device_option,
)


def planned(active: Session, sweep: SweepSpec) -> Plan:
    """The plan of a sweep; images are read only where a dataset's name is not known otherwise."""
    from bench.sweep.done import Known
    from bench.sweep.plan import dataset_name, expand

    known = Known(active.home)

    def name(spec: str) -> str:
        return known.name(spec) or active.dataset(spec).name

    return expand(sweep, dataset_name(name, active.home.data))


def carry_out(active: Session, plan: Plan, how: How) -> None:
    """Do all that is not done yet, or show the plan, or write its scripts.

    Raises:
        Interrupted: a signal asked to stop; all is saved.
        BenchError: not all could be done; what failed was listed.
    """
    if how.only_plan:
        _show_plan(active, plan, how)
    elif how.target is not None and how.out is not None:
        _write_scripts(active, plan, how.out, how.sbatch)
    else:
        _execute(active, plan, how)


def _execute(active: Session, plan: Plan, how: How) -> None:
    from bench.sweep import run_here, run_in_processes, run_on_ray
    from bench.sweep.done import account

    ledger = account(active, plan)
    if how.address is not None:
        gpus = float(active.device.type == "cuda") if how.gpus_per_task is None else how.gpus_per_task
        cluster = run_on_ray.Cluster(how.workers, how.address, gpus, options.chosen()["device"])
        if ledger.ready():
            run_on_ray.execute(active, ledger, cluster)
    elif how.workers is not None:
        run_in_processes.execute(active, ledger, how.workers)
    else:
        run_here.execute(active, ledger)
    ledger.close()


def _write_scripts(active: Session, plan: Plan, out: Path, sbatch: tuple[str, ...]) -> None:
    from bench.sweep.done import Known, Standing
    from bench.sweep.write_slurm import write_scripts

    done = Standing(active.home, plan, Known(active.home)).done()
    if len(done) == len(plan):
        active.reporter.say(f"All {len(plan)} tasks are done; there is nothing to write.")
        return
    for path in write_scripts(plan, done, active.home, out, sbatch):
        click.echo(path)
    active.reporter.say(f"Submit them all: bash {out / 'submit.sh'}")


def _show_plan(active: Session, plan: Plan, how: How) -> None:
    from bench.sweep.done import Known, Standing
    from bench.sweep.estimate import Estimator
    from bench.sweep.text import lines
    from bench.system import provenance

    done = Standing(active.home, plan, Known(active.home)).done()
    estimator = Estimator(active.home, how.hardware or provenance.hardware(active.device))
    if how.hardware is not None:
        estimator.check_hardware()
    estimates = {task.number: estimator.estimate(task) for task in plan}
    if how.as_json:
        show_json([_as_json(task, done, estimates[task.number]) for task in plan])
        return
    for line in lines(plan, done, estimates, estimator.hardware):
        click.echo(line)


def _as_json(task: Task, done: set[int], estimate: Estimate) -> dict[str, Any]:
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
