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


@app.command()
def average(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Two or more safetensors files, or their folders.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A new safetensors file.", show_default=False)],
    shares: Annotated[
        str, typer.Option("--shares", metavar="A,B,...", help="How much each file counts; equally by default.")
    ] = "",
) -> None:
    """Average the weights of several trainings from one start.

    The mean of networks that were trained on from the same weights is often better than each of them. Networks that began
    from different random weights must not be averaged.

    \b
    Examples:
      ctgen weights average before.safetensors runs/mine/train-1a2b3c4d/final -o mean.safetensors
      ctgen weights average a.safetensors b.safetensors --shares 3,1 -o mean.safetensors
    """
    from ctgen.errors import ConfigError
    from ctgen.weights_average import average_weights

    try:
        numbers = [float(word) for word in shares.split(",")] if shares else None
    except ValueError:
        raise ConfigError(f"--shares {shares}: not numbers with commas between", hint="for example --shares 3,1") from None
    parts = average_weights(paths, out, shares=numbers)
    told = "\n".join(f"  {part:.3g} of {path}" for part, path in zip(parts, paths, strict=True))
    typer.echo(f"wrote {out}, an average:\n{told}")
