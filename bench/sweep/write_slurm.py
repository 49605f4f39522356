"""Writes a plan as Slurm array jobs: a script a stage, a plain command an array index, and one that submits them all.

Students that need the same teachers are one array, their evaluations by a suite another, index by index. A job that is
warned (SIGUSR1, two minutes before its end or a pre-emption) has its command save what it has, and is put back into the
queue; the command then continues.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.sweep.plan import Plan, Task
from bench.system.files import write_text_atomically
from bench.system.home import Home

_SCRIPT = """#!/bin/bash
#SBATCH --job-name={job}
#SBATCH --array={indices}
#SBATCH --output="{logs}/%x-%a.out"
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
{options}
# {title}
cd {cwd} || exit 1
export BENCH_HOME={home}

task() {{
  case "$SLURM_ARRAY_TASK_ID" in
{cases}
  esac
}}

# Warned: the command finishes its step and saves, and the job goes back into the queue.
requeue() {{
  kill -TERM "$child" 2> /dev/null
  wait "$child"
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
  exit 0
}}
trap requeue USR1

task &
child=$!
wait "$child"
"""
_SUBMIT = """#!/bin/bash
# Submits all stages, each to begin when what it needs is done: bash {name}
set -e
cd "$(dirname "$0")"
mkdir -p logs
{lines}
"""


@dataclass
class Array:
    """One array job.

    Attributes:
        name: of its job and file.
        tasks: by array index.
        after: the array whose task of the same index has to be done before.
        needs: numbers of the tasks that have to be done before any of it begins.
    """

    name: str
    tasks: dict[int, Task] = field(default_factory=dict)
    after: Array | None = None
    needs: tuple[int, ...] = ()

    @property
    def variable(self) -> str:
        """The shell variable that holds its job's number."""
        return self.name.replace("-", "_")


def write_scripts(plan: Plan, done: Collection[int], home: Home, out: Path, options: Sequence[str]) -> list[Path]:
    """Write the scripts of all tasks that are not done to a folder; the one that submits them comes last.

    Args:
        options: further options of every job: "--partition=gpu --gres=gpu:1".

    Raises:
        BenchError: the folder cannot be written.
    """
    arrays = stages([task for task in plan if task.number not in done])
    paths = []
    for array in arrays:
        paths.append(out / f"{array.name}.sbatch")
        write_text_atomically(paths[-1], _script(array, home, out, options))
    submit = out / "submit.sh"
    lines = "\n".join(_submission(array, arrays) for array in arrays)
    write_text_atomically(submit, _SUBMIT.format(name=submit.name, lines=lines))
    return [*paths, submit]


def stages(tasks: Sequence[Task]) -> list[Array]:
    """Tasks as arrays, each after those it waits for."""
    left = {task.number for task in tasks}
    arrays: dict[tuple[object, ...], Array] = {}
    places: dict[int, tuple[Array, int]] = {}
    for kind in ("teacher", "student", "evaluation"):
        for task in (task for task in tasks if task.kind == kind):
            needs = tuple(sorted(left.intersection(task.needs)))
            before = places.get(task.needs[0]) if task.evaluation is not None else None
            others = tuple(number for number in needs if before is None or number != task.needs[0])
            key = (kind, task.evaluation and task.evaluation.model_dump_json(), before and before[0].name, others)
            if key not in arrays:
                count = sum(array.name.startswith(kind) for array in arrays.values()) + 1
                arrays[key] = Array(f"{kind}s-{count}", after=before and before[0], needs=others)
            array = arrays[key]
            index = before[1] if before is not None else len(array.tasks)
            array.tasks[index] = task
            places[task.number] = (array, index)
    return list(arrays.values())


def _script(array: Array, home: Home, out: Path, options: Sequence[str]) -> str:
    cases = "\n".join(f"    {index}) exec {task.command} ;;" for index, task in array.tasks.items())
    return _SCRIPT.format(
        job=f"bench-{array.name}",
        indices=",".join(map(str, array.tasks)),
        logs=str(out.resolve() / "logs").replace("%", "%%"),  # in such a line a percent sign has a meaning
        options="".join(f"#SBATCH {option}\n" for option in options),
        title=f"{len(array.tasks)} tasks of a sweep; submit.sh submits this",
        cwd=shlex.quote(str(Path.cwd())),
        home=shlex.quote(str(home.root.resolve())),
        cases=cases,
    )


def _submission(array: Array, arrays: Sequence[Array]) -> str:
    """The line that submits an array."""
    conditions = [f"aftercorr:${{{array.after.variable}}}"] if array.after is not None else []
    needed = [
        f"${{{other.variable}}}_{index}"
        for other in arrays
        for index, task in other.tasks.items()
        if task.number in array.needs
    ]
    if needed:
        conditions.append("afterok:" + ":".join(needed))
    depends = f'--dependency="{",".join(conditions)}" ' if conditions else ""
    return f"{array.variable}=$(sbatch --parsable {depends}{array.name}.sbatch)"
