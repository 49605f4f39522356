"""`bench completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from bench.cli.help import Command
from bench.errors import BenchError


@click.command("completion", cls=Command, examples=['eval "$(bench completion bash)"'])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete `bench`: eval "$(bench completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    try:
        name = ctx.find_root().info_name or "bench"  # `ard-bench` is completed by a script of its own
        variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
        click.echo(kind(ctx.find_root().command, {}, name, variable).source())
    except OSError as error:  # click asks bash for its version
        raise BenchError(f"There is no {shell} here to complete for: {error.strerror}.\nInstall it first.") from error
