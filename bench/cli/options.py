"""Options that several commands share, and the session that some of them make."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.cli import completing
from bench.errors import BenchError
from bench.system.home import Home
from bench.threat import Threat, eps_text, parse_eps

if TYPE_CHECKING:
    from bench.jobs.session import Session

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

_SESSION = "bench.session"
"""Where the command's context keeps the options that `session` reads."""


def home_option(function: Command) -> Command:
    """`--home` after the command as well as before it; the command's context then carries the folder."""

    def keep(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
        if value is not None:
            ctx.obj = Home.at(value)

    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        expose_value=False,
        callback=keep,
        is_eager=True,
        help="Folder of data/ and results/ (also BENCH_HOME; default: the current folder).",
    )(function)


def named(flag: str, kind: str, help: str, **attributes: Any) -> Decorator[Any]:
    """An option that takes a plug-in's name, which the shell completes."""
    return click.option(flag, help=help, shell_complete=completing.plugins(kind), **attributes)


def dataset_option(help: str) -> Decorator[Any]:
    """`--dataset`, CIFAR-10 by default."""
    return named("--dataset", "datasets", help, default="cifar10")


def recipe_option(help: str) -> Decorator[Any]:
    """`--recipe`, the authors' released schedules by default: a name, or the path of a file (see `with_recipe`)."""
    return click.option("--recipe", default="official", help=help, shell_complete=completing.recipes)


def checkpoint_of_option(function: Command) -> Command:
    """`--checkpoint-of`: which network of each run."""
    help = "Of each run the selected weights (default) or the last ones."
    return click.option("--checkpoint-of", type=click.Choice(["best", "last"]), default="best", help=help)(function)


def teacher_seeds_option(function: Command) -> Command:
    """`--teacher-seeds`: teachers that vary with the seed."""
    help = (
        "Train the teachers with the student's seed, not with 0: what is said of seeds then holds for other teachers."
    )
    return click.option("--teacher-seeds", is_flag=True, help=help)(function)


def with_recipe(home: Home, asked: dict[str, Any]) -> dict[str, Any]:
    """What a command was asked for, with its recipe as jobs take it."""
    from bench.recipes.recipe import find

    return {**asked, "recipe": find(asked["recipe"], home.recipes)}


def datasets_option(help: str) -> Decorator[Any]:
    """`--datasets A,B` as a list; None where it is not given."""

    def names(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
        return separated(value) if value else None

    complete = completing.separated(completing.recorded_datasets)
    return click.option("--datasets", metavar="A,B", callback=names, help=help, shell_complete=complete)


def threat_options(help: str) -> Decorator[Any]:
    """`--threat NORM:EPS`, and `--eps EPS` for the data set's own norm: together `threat`, as jobs take it."""

    def decorate(function: Command) -> Command:
        @wraps(function)
        def together(*args: Any, threat: Threat | None, eps: float | None, **options: Any) -> Any:
            if threat is not None and eps is not None:
                raise BenchError(
                    f"--threat {threat} and --eps {eps_text(eps)} both say how far images are moved.\n"
                    "Give one of them: --threat NORM:EPS, or --eps for the data set's own norm."
                )
            return function(*args, threat=eps if threat is None else threat, **options)

        eps_option = click.option(
            "--eps", type=_Read("EPS", parse_eps), help="The same in the data set's own norm, at this radius: 4/255."
        )
        return threat_option(help)(eps_option(together))

    return decorate


def threat_option(help: str, shell_complete: Any = completing.threats, **more: Any) -> Decorator[Any]:
    """`--threat NORM:EPS`."""
    kind = _Read("NORM:EPS", Threat.parse)
    return click.option("--threat", type=kind, help=help, shell_complete=shell_complete, **more)


def measured_options(function: Command) -> Command:
    """What of the networks that a command is given by name is meant: which of them, which weights, measured how."""
    for option in reversed(
        (
            named("--student", "models", "Where a method is named: only its networks of this architecture."),
            named("--dataset", "datasets", "Where a method is named: only its networks that were measured on this."),
            checkpoint_of_option,
            click.option(
                "--all-seeds", is_flag=True, help="Add every run that differs from a named one in the seed alone."
            ),
            click.option(
                "--attack",
                "attacks",
                multiple=True,
                help="Only this one, as records name it; may be repeated.",
                shell_complete=completing.plugins("attacks"),
            ),
            threat_option("Only what was measured under this: linf:8/255.", completing.recorded_threats),
        )
    ):
        function = option(function)
    return function


class _Read(click.ParamType):
    """What a function of ours reads, whose `BenchError` says what is wrong."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._read(value) if isinstance(value, str) else value


def out_option(help: str) -> Decorator[Any]:
    """`--out`, a folder to write to."""
    return click.option("--out", type=click.Path(path_type=Path, file_okay=False), help=help)


def json_option(help: str = "As JSON.") -> Decorator[Any]:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def style_option(help: str) -> Decorator[Any]:
    """`--format`, as text or as JSON."""
    return click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", help=help)


precision_option: Decorator[Any] = click.option("--precision", type=click.Choice(["32", "bf16"]), default="32")

limit_train_option: Decorator[Any] = click.option(
    "--limit-train", type=click.IntRange(min=10), help="Train on the first N images only."
)


def separated(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _of_session(*names: str, **attributes: Any) -> Decorator[Any]:
    """An option that `session` reads; the command itself is not called with it."""

    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        ctx.meta.setdefault(_SESSION, {})[parameter.name] = value

    return click.option(*names, expose_value=False, callback=keep, **attributes)


device_option = _of_session(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to compute."
)

logger_option = _of_session(
    "--logger",
    "loggers",
    multiple=True,
    metavar="NAME",
    help="Log there too: `bench list loggers` (tensorboard, wandb, mlflow); may be repeated.",
    shell_complete=completing.plugins("loggers"),
)

off_option = _of_session("--off", multiple=True, metavar="NAME", help="Do without a speed-up: `bench list speedups`.")

deterministic_option = _of_session(
    "--deterministic", is_flag=True, help="Only algorithms that give the same result twice on this device; slower."
)


def chosen() -> dict[str, Any]:
    """What the command's options say of its session, by the parameters of `bench.jobs.session.opened`."""
    found: dict[str, Any] = click.get_current_context().meta.get(_SESSION, {})
    return found


def session(home: Home, **more: Any) -> AbstractContextManager[Session]:
    """A session as the command's options ask for it, whose work finishes its step when a signal asks it to stop."""
    from bench.jobs.session import opened

    return opened(home, **chosen(), **more)
