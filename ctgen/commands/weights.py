"""``ctgen weights``: what a checkpoint is, and weights in the layout that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctgen.commands.words import PLAIN

app = typer.Typer(no_args_is_help=True, help="Look at files of weights, and write them for other programs.", **PLAIN)


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A file of weights, or the folder of a checkpoint.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print all facts as JSON.")] = False,
) -> None:
    """Say what a checkpoint is, and which component loads it.

    Layout, sizes, precision, SHA-256, what the file says of its origin, and the lines of a recipe that use it.
    Only headers are read, and nothing in the file is executed.

    \b
    Examples:
      ctgen weights inspect denoiser_ema/
      ctgen weights inspect CT-CLIP_v2.pt
      ctgen weights inspect runs/ctflow/train-1a2b3c4d/checkpoints/step-40 --json
    """
    import json

    from ctgen.host import Host
    from ctgen.weights_inspect import inspect_weights, render

    facts = inspect_weights(path, Host.discover())
    typer.echo(json.dumps(facts, indent=1) if as_json else render(facts))


@app.command()
def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, or a finished train folder in it.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.", show_default=False)],
) -> None:
    """Write what a run trained in the public layout of its component.

    For a backbone `stdit`: the diffusers folder in which CTFlow is published (config.json and a safetensors file).

    \b
    Examples:
      ctgen weights export runs/ctflow denoiser_ema/
    """
    from ctgen.weights_export import export_run

    typer.echo(f"wrote {export_run(run, out)}")
