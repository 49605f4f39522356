"""Options that several commands share, and the session they make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bench.cli import completing
from bench.system.home import Home

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def home_option(function: Callable[..., Any]) -> Callable[..., Any]:
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


device_option: Decorator = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)

limit_option: Decorator = click.option(
    "--limit", type=click.IntRange(min=1), help="Attack only the first N test images (said in every table)."
)


logger_option: Decorator = click.option(
    "--logger",
    "loggers",
    multiple=True,
    metavar="NAME",
    help="Log there too: `bench list loggers` (tensorboard, wandb, mlflow); may be repeated.",
    shell_complete=completing.plugins("loggers"),
)


def speed_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--off` and `--deterministic`."""
    off = click.option("--off", multiple=True, metavar="NAME", help="Do without a speed-up: `bench list speedups`.")
    deterministic = click.option(
        "--deterministic", is_flag=True, help="Only algorithms that give the same result twice on this device; slower."
    )
    return off(deterministic(function))


@contextmanager
def session(
    home: Home,
    device: str,
    off: Collection[str] = (),
    deterministic: bool = False,
    tf32: bool = False,
    loggers: Sequence[str] = (),
) -> Iterator[Any]:
    """A session whose work finishes its step when a signal asks it to stop."""
    from bench.jobs.session import opened

    with opened(home, device, off, deterministic, tf32=tf32, loggers=loggers) as active:
        yield active
