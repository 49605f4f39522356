"""`bench completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from bench.errors import BenchError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete `bench`: eval "$(bench completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    try:
        click.echo(kind(ctx.find_root().command, {}, "bench", "_BENCH_COMPLETE").source())
    except OSError as error:  # click asks bash for its version
        raise BenchError(f"There is no {shell} here to complete for: {error.strerror}.\nInstall it first.") from error
