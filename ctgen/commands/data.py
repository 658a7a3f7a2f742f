"""``ctgen data``: simulate chest CT, and look at volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctgen.commands.words import PLAIN, Quiet

app = typer.Typer(no_args_is_help=True, help="Simulate chest CT, and look at files of CT volumes.", **PLAIN)


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for scans and reports.csv.", show_default=False)],
    cases: Annotated[int, typer.Option(min=1, metavar="N", help="Cases to make.")] = 4,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Case i depends on this and i alone.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Simulate chest CT with reports and labels, from a real scan that is deformed and given findings.

    \b
    Examples:
      ctgen data simulate simulated/ --cases 8 --seed 1
    """
    from ctgen.console import Console
    from ctgen.data.atlas.simulate import simulate_to_folder

    with Console(quiet=quiet) as console:
        simulate_to_folder(out, cases, seed, console=console)
        console.result(f"{cases} case{'s' if cases > 1 else ''} in {out}")


@app.command()
def inspect(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A volume, a DICOM series folder, or a folder of volumes.", show_default=False),
    ],
) -> None:
    """Show geometry, HU statistics, and what looks wrong.

    \b
    Examples:
      ctgen data inspect scan.nii.gz
      ctgen data inspect scans/
    """
    from ctgen.console import Console
    from ctgen.data.inspect import inspect_path, render

    with Console() as console:
        with console.task("inspect", unit="scans") as task:
            found = inspect_path(path, progress=lambda done, total: task.set(done, total=total))
        console.result(render(found))
