"""The `bench` command: finds the subcommand, prints errors in one or two lines, chooses the exit code.

Subcommands are imported when they are called, so that `bench --help` does not wait for PyTorch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from bench.errors import BenchError, unknown_name
from bench.home import Home
from bench.version import __version__

COMMANDS = {
    "run": ("bench.cli.run", "Train a student by a defense."),
    "sweep": ("bench.cli.sweep", "Train and evaluate everything that a file names, on one machine or many."),
    "eval": ("bench.cli.evaluate", "Attack trained students, or a checkpoint of your own."),
    "tables": ("bench.cli.tables", "Render the paper's tables from all records."),
    "compare": ("bench.cli.compare", "Test whether trained networks differ, with intervals and p-values."),
    "results": ("bench.cli.results", "Check records, and take in those made elsewhere."),
    "export": ("bench.cli.export", "Write a trained network as safetensors and ONNX, with a model card."),
    "figures": ("bench.cli.figures", "Draw accuracy over the epochs, and the clean-robust trade-off."),
    "report": ("bench.cli.report", "Write all results as a static site that opens from a disk."),
    "profile": ("bench.cli.profile", "Measure what a training step of each method costs."),
    "teacher": ("bench.cli.teacher", "Train or list teachers."),
    "list": (
        "bench.cli.listing",
        "List methods, attacks, models, datasets, suites, recipes, tables, sweeps, speed-ups.",
    ),
    "explain": ("bench.cli.explain", "Say what a defense is: equation, hyper-parameters, paper against code."),
    "completion": ("bench.cli.completion", "Print the script that makes a shell complete what you type."),
    "status": ("bench.cli.status", "Show what is trained and evaluated."),
    "demo": ("bench.cli.demo", "Train and attack everything on handwritten digits, in minutes."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # the shell asks what could come; a mistake is not its business
                return None
            raise unknown_name("command", cmd_name, COMMANDS)
        command = import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bench")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="BENCH_HOME",
    default=Path("."),
    help="Folder of data/ and results/ (also BENCH_HOME; default: the current folder).",
)
@click.pass_context
def cli(ctx: click.Context, home: Path) -> None:
    """Benchmark of adversarial robustness distillation: train defenses, attack them, tabulate the results."""
    ctx.obj = Home.at(home)


def main() -> None:
    """Run the command line; every mistake of the user's ends in one or two lines and exit code 2."""
    try:
        code = cli.main(prog_name="bench", standalone_mode=False)
    except BenchError as error:
        _fail(str(error), getattr(error, "exit_code", 2))
    except click.Abort:
        _fail("Stopped.", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.NoSuchOption as error:
        hint = f" Did you mean {error.possibilities[0]}?" if error.possibilities else ""
        _fail(f"No such option: {error.option_name}.{hint}\n{_help_hint(error)}", 2)
    except click.ClickException as error:
        hint = f"\n{_help_hint(error)}" if isinstance(error, click.UsageError) else ""
        _fail(" ".join(error.format_message().split()) + hint, 2)
    except KeyboardInterrupt:
        _fail("Stopped.", 130)
    except BrokenPipeError:
        _drop_output()  # its reader (head, say) has closed it; nothing more can be said to anyone
    except OSError as error:
        if error.filename is None:
            _drop_output()  # it may be what could not be written
        where = f": {error.filename}" if error.filename is not None else ""
        _fail(f"{error.strerror or error}{where}.\nCheck that path, its permissions and the space left.", 2)
    else:
        if code:
            sys.exit(code)  # what a command ended with by `Exit`, which click hands back here


def _drop_output() -> None:
    """Have the rest of our output, which Python writes when it ends, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else "bench"
    return f"`{path} --help` lists what it takes."


def _fail(message: str, code: int) -> None:
    click.echo(f"Error: {message}" if code == 2 else message, err=True)
    sys.exit(code)
