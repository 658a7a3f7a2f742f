"""The command line: a command parses its words and calls one function; errors become text in ``main``.

Everything heavy is imported inside the commands, so that ``ctgen --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ctgen.commands import data, looking, weights
from ctgen.commands.words import PLAIN, Overrides, Quiet, RecipeArgument

HELP = """Generate 3D chest CT volumes from radiology reports.

A recipe (YAML) names components, plugins provide them, stages run them."""
START_HERE = """\b
Start here:
  ctgen run recipes/ctflow.yaml   train the small CTFlow and make a report
  ctgen ls                        what is installed
  ctgen doctor                    what this machine can do"""

app = typer.Typer(no_args_is_help=True, help=HELP, epilog=START_HERE, **PLAIN)


def _version(wanted: bool) -> None:
    if wanted:
        from ctgen import __version__

        typer.echo(f"ctgen {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    run_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder.  [default: runs/NAME of the recipe]")] = None,
    from_stage: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="First stage to run; those before must be finished.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Last stage to run.")] = None,
    quiet: Quiet = False,
) -> None:
    """Run a recipe, from scans to a report.

    Stages: prepare, encode, train, sample, evaluate, report. Finished stages are skipped.
    After an interruption the same command goes on from the last checkpoint.

    \b
    Examples:
      ctgen run recipes/ctflow.yaml
      ctgen run recipes/ctflow.yaml train.steps=1000 train.lr=1e-4 --run-dir runs/longer
      ctgen run recipes/ctflow.yaml data.use=folder data.root=scans/
      ctgen run recipes/ctflow.yaml --until encode
    """
    from ctgen import stages
    from ctgen.console import Console
    from ctgen.recipe import load_recipe
    from ctgen.stages.processes import rank

    with Console(quiet=quiet) as console:
        loaded = load_recipe(recipe, overrides or [])
        result = stages.run(loaded, run_dir=run_dir, start=from_stage, until=until, console=console)
        if rank() == 0:
            console.result(f"report: {result.report}" if result.report else f"run folder: {result.run_dir}")


@app.command()
def generate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_RECIPE",
            help="A run folder, a train folder in it, a recipe file, or preset:NAME.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Folder, or file for a single volume.", show_default=False)
    ],
    report: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Findings of a report; may be given again.", show_default=False),
    ] = None,
    reports: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Reports in .csv or .json: id, report (or CT-RATE's columns).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="With the report's id it decides the draw.")] = 0,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Volumes per report.")] = 1,
    slices: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Axial slices of the file.  [default: as the recipe says]")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="D,H,W", help="Voxel spacing in mm of the files.  [default: the model's]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Solver steps per block.  [default: as the recipe says]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Volumes denoised together.  [default: as the recipe says]")
    ] = None,
    head: Annotated[Path | None, typer.Option(metavar="SCAN", help="Continue this scan: its first block is kept.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(metavar="SCAN", help="Block-wise: each block from this scan's real slices below it.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="nifti|mha|dicom", help="File format.  [default: nifti, or by OUT's suffix]")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Generate volumes from reports, with a run or a preset.

    Each volume is written in HU with its geometry, a JSON of where it comes from, and a picture.

    \b
    Examples:
      ctgen generate preset:ctflow --report "Large right pleural effusion." -o effusion.nii.gz
      ctgen generate runs/ctflow --report "Small left pleural effusion." -o effusion.nii.gz
      ctgen generate runs/ctflow --reports reports.csv --count 3 --seed 7 -o volumes/
      ctgen generate runs/ctflow --report "No finding." --head scan.nii.gz -o continued/
    """
    from ctgen.commands.generate import parse_spacing, wanted_reports

    wanted = wanted_reports(report or [], reports)
    spacing_mm = parse_spacing(spacing)
    from ctgen.console import Console
    from ctgen.host import Host
    from ctgen.sample.generate import GenerateOptions, generate_to_folder

    options = GenerateOptions(seed, count, slices, spacing_mm, steps, head, format, batch, teacher)
    with Console(quiet=quiet) as console:
        generate_to_folder(source, wanted, out, options, host=Host.discover(), console=console)


@app.command()
def bench(
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,...", help="Presets, recipes, run folders, generators, folder:PATH.", show_default=False),
    ] = None,
    suite: Annotated[str, typer.Option(metavar="NAME|FILE", help="Cases and grid; see ctgen ls suites.")] = "mini",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of results.  [default: runs/bench-SUITE]")
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,...", help="Instead of the suite's; see ctgen ls protocols.", show_default=False),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR|EXTRACTOR=FILE", help="Where weights of protocols are; may be given again.", show_default=False
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Of the suite's data set, as in root=FOLDER.", show_default=False),
    ] = None,
    cases: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N cases: another, smaller suite.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Share the cases among N processes.  [default: cores, up to 4]")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Put two results.json of earlier benches into one table.")] = False,
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[A.json B.json]", help="With --compare.", show_default=False)
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compare models on the same cases, with floors.

    Every model makes a volume for each report of the suite; protocols score them. A table is printed; report.html,
    results.md, .csv and .json are written. After an interruption the same command goes on.

    \b
    Examples:
      ctgen bench --models ctflow,baseline
      ctgen bench --models ctflow,mine=runs/mine,folder:theirs/ --suite mini-64 -o bench/
      ctgen bench --models ctflow --protocol styleganv-fid --weights ~/weights
      ctgen bench --compare before/results.json after/results.json
    """
    from ctgen.commands import bench as command
    from ctgen.console import Console

    with Console(quiet=quiet) as console:
        if compare:
            code = command.compare_files(results or [], out, console=console)
        else:
            code = command.run(
                models or [],
                suite,
                out,
                cases=cases,
                processes=processes,
                protocols=protocol or [],
                weights=weights or [],
                data=data or [],
                console=console,
            )
    if code:
        raise typer.Exit(code)


@app.command()
def evaluate(
    generated: Annotated[
        Path, typer.Argument(metavar="GENERATED", help="Folder of volumes, named after their cases.", show_default=False)
    ],
    reference: Annotated[Path, typer.Option(metavar="FOLDER", help="Real scans of the same names.", show_default=False)],
    reports: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Reports and labels by case.", show_default=False),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,...", help="See ctgen ls protocols.  [default: ctgen-mini]"),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR|EXTRACTOR=FILE", help="Where weights of protocols are; may be given again.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of results.  [default: runs/evaluate-GENERATED]")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Score volumes that anybody made against real scans.

    No recipe and no model are needed. Files are matched by name: GENERATED/case7.nii.gz with FOLDER/case7.nii.gz. What is
    missing, damaged or wrongly oriented is named, the rest is scored.

    \b
    Examples:
      ctgen evaluate volumes/ --reference scans/
      ctgen evaluate volumes/ --reference scans/ --reports scans/reports.csv -o scores/
      ctgen evaluate volumes/ --reference scans/ --protocol vlm3d-2025 --weights ~/weights
    """
    from ctgen.commands.evaluating import run as score
    from ctgen.console import Console

    with Console(quiet=quiet) as console:
        code = score(
            generated, reference, out, reports=reports, protocols=protocol or [], weights=weights or [], console=console
        )
    if code:
        raise typer.Exit(code)


looking.add_to(app)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")


def main(arguments: Sequence[str] | None = None) -> None:
    """The ``ctgen`` program: exit code 0, 1 (a defect), 2 (the user can mend it) or 130 (interrupted)."""
    from ctgen.commands.failing import code_for

    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _with_plugin_commands(words)
        typer.main.get_command(app).main(args=words, prog_name="ctgen")
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(code_for(error))


def _with_plugin_commands(words: Sequence[str]) -> None:
    """Ask plugins for their commands, only where that can matter: in the list of commands, and for an unknown one."""
    first = next((word for word in words if not word.startswith("-")), None)
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {"data", "weights"}
    if first not in known:
        from ctgen.commands.plugged import add_plugin_commands

        add_plugin_commands(app, known)


if __name__ == "__main__":
    main()
