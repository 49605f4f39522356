"""`bench export`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import completing
from bench.cli.help import Command
from bench.cli.options import home_option, session, threat_options
from bench.system.home import Home
from bench.threat import Threat
from bench.vocabulary import Checkpoint


@click.command("export", cls=Command, examples=["bench export RUN --format onnx --out model"])
@click.argument("run", shell_complete=completing.runs)
@click.option("--format", "formats", default="safetensors,onnx", help="Names with commas between them.")
@click.option(
    "--checkpoint-of",
    "which",
    type=click.Choice(["best", "last", "best-plain", "last-plain"]),
    default="best",
    help="Which network of the run; plain: the student itself, where the others are an average of it.",
)
@threat_options("Only accuracies under this on the card (default: all that were measured).")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write (default: results/exports/RUN).")
@click.option("--to", metavar="hf:ORG/REPO[/FOLDER]", help="Upload it to Hugging Face's hub too.")
@home_option
@click.pass_obj
def command(
    home: Home,
    run: str,
    formats: str,
    which: Checkpoint,
    threat: Threat | float | None,
    out: Path | None,
    to: str | None,
) -> None:
    """Write a run's network as safetensors and ONNX, with a model card; checked against the original.

    RUN is a run's id, the beginning of it or of its hash, its folder, or a record's file; a teacher's run can be
    exported too.
    """
    from bench.export import export, parse_formats
    from bench.system.hub import HubFolder

    names = parse_formats(formats)
    place = None if to is None else HubFolder.parse(to)
    with session(home, device="cpu") as active, active.stop.at_once():
        click.echo(export(active, run, names, out, place, which, threat))
