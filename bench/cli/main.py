"""The `bench` command: finds the subcommand, prints errors in one or two lines, chooses the exit code.

Subcommands are imported when they are called, so that `bench --help` does not wait for PyTorch.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from bench.cli.help import Shown
from bench.errors import BenchError, printable, suggestion, unknown_name
from bench.system.home import Home
from bench.system.left_out import named_once
from bench.system.signals import Interrupted, StopRequest, stop_on_signals
from bench.version import __version__

COMMANDS = {
    "run": ("bench.cli.run", "Train a student by a defense."),
    "sweep": ("bench.cli.sweep", "Train and evaluate everything that a file names, on one machine or many."),
    "eval": ("bench.cli.evaluate", "Attack trained students, or a checkpoint of your own."),
    "duel": ("bench.cli.duel", "Say which of two defenses or more is better: train, attack and test them."),
    "tables": ("bench.cli.tables", "Render the paper's tables from all records."),
    "compare": ("bench.cli.compare", "Test whether trained networks differ, with intervals and p-values."),
    "power": ("bench.cli.power", "Say how many seeds and test images a difference takes."),
    "results": ("bench.cli.results", "List what was measured, check records, take in those made elsewhere."),
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


class LazyGroup(Shown, click.Group):
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


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    examples=[
        "bench run --method trades --student digits-cnn --dataset digits --recipe demo",
        "bench eval --suite whitebox",
        "bench tables",
    ],
)
@click.version_option(__version__)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="BENCH_HOME",
    default=Path("."),
    show_default=False,
    help="Folder of data/ and results/ (also BENCH_HOME; default: the current folder).",
)
@click.pass_context
def cli(ctx: click.Context, home: Path) -> None:
    """Benchmark of adversarial robustness distillation: train defenses, attack them, tabulate the results."""
    ctx.obj = Home.at(home)


def main() -> None:
    """Run the command line; every mistake of the user's ends in one or two lines and exit code 2.

    A signal ends a command where it is, unless the command itself has something to save (`bench.system.signals`).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name or a sign that the terminal's encoding lacks
    with named_once(), stop_on_signals() as stop:
        code, message = _run(stop)
        if message is not None:
            click.echo(printable(message), err=True)
    if isinstance(code, int) and code > 128:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python puts its things away: it is ending anyway
    if code:
        sys.exit(code)


def _called() -> str:
    """The name of the script that was called: `ard-bench` or `bench`, which `python -m bench` stands for."""
    return "ard-bench" if Path(sys.argv[0]).stem == "ard-bench" else "bench"


def _run(stop: StopRequest) -> tuple[int, str | None]:
    """The command; its exit code and its last words, if any."""
    try:
        with stop.at_once("Stopped."):
            # What a command ended with by `Exit`, click hands back.
            return cli.main(prog_name=_called(), standalone_mode=False) or 0, None
    except Interrupted as error:
        return error.exit_code, str(error)
    except BenchError as error:
        return _mistake(str(error))
    except click.Abort:
        return 130, "Stopped."
    except click.exceptions.NoArgsIsHelpError as error:
        return 2, error.format_message()
    except click.NoSuchOption as error:
        return _mistake(f"No such option: {error.option_name}.{_meant(error)}\n{_help_hint(error)}")
    except click.ClickException as error:
        hint = f"\n{_help_hint(error)}" if isinstance(error, click.UsageError) else ""
        return _mistake(" ".join(error.format_message().split()) + hint)
    except MemoryError as error:
        return _mistake(f"The memory is used up ({error or 'nothing more could be had'}).\nUse a machine with more.")
    except BrokenPipeError:
        _drop_output()  # its reader (head, say) has closed it; nothing more can be said to anyone
        return 0, None
    except OSError as error:
        if error.filename is None:
            _drop_output()  # it may be what could not be written
        where = f": {error.filename}" if error.filename is not None else ""
        return _mistake(f"{error.strerror or error}{where}.\nCheck that path, its permissions and the space left.")


def _mistake(message: str) -> tuple[int, str]:
    return 2, f"Error: {message}"


def _meant(error: click.NoSuchOption) -> str:
    """The options that are close to one that does not exist; click's own choice counts the dashes too."""
    parameters = error.ctx.command.get_params(error.ctx) if error.ctx is not None else []
    known = {name[2:] for parameter in parameters for name in parameter.opts if name.startswith("--")}
    return suggestion(error.option_name.lstrip("-"), known, "--{}".format)


def _drop_output() -> None:
    """Have the rest of our output, which Python writes when it ends, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else "bench"
    return f"`{path} --help` lists what it takes."
