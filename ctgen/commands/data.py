"""``ctgen data``: simulate chest CT, import DICOM, check a data set, verify a cache, look at volumes."""

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
    layout: Annotated[
        str, typer.Option(metavar="folder|ct-rate", help="How files and tables lie: for the data set of that name.")
    ] = "folder",
    intensity: Annotated[
        str, typer.Option(metavar="fixed|raw", help="ct-rate: HU, or stored values that need the table's rescale.")
    ] = "fixed",
    damage: Annotated[
        bool, typer.Option("--damage", help="ct-rate: plant every trap of the real data; planted.json says where.")
    ] = False,
    size: Annotated[
        str | None, typer.Option(metavar="D,H,W", help="Voxels.  [default: 96,128,128; the field of view is kept]")
    ] = None,
    present: Annotated[
        str | None, typer.Option("--with", metavar="NAMES", help="Findings that every case has, commas between them.")
    ] = None,
    absent: Annotated[str | None, typer.Option("--without", metavar="NAMES", help="Findings that none has.")] = None,
    patient: Annotated[int | None, typer.Option(min=0, metavar="I", help="Give every case the anatomy of case I.")] = None,
    prevalence: Annotated[
        str | None, typer.Option(metavar="P|realistic", help="How often each finding is there.  [default: 0.35]")
    ] = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="Also write masks/ID/FINDING.nii.gz of each finding, and the organs.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Simulate chest CT with reports and labels, from a real scan that is deformed and given findings.

    The same command goes on after an interruption; with more cases, or with --masks, it adds what is missing.
    With --layout ct-rate, names, folders and tables are CT-RATE's: most scans have two reconstructions.

    \b
    Examples:
      ctgen data simulate simulated/ --cases 8 --seed 1
      ctgen data simulate simulated/ --cases 8 --seed 1 --masks    (read: data.masks=masks)
      ctgen data simulate ill/ --with pleural_effusion    (and well/ --without ...: the same patients)
      ctgen data simulate copy/ --layout ct-rate --cases 60 --damage --size 32,40,40
    """
    from ctgen.commands.simulating import simulate as make
    from ctgen.console import Console

    with Console(quiet=quiet) as console:
        make(out, cases, seed, layout=layout, intensity=intensity, damage=damage, size=size, console=console,
             present=present, absent=absent, patient=patient, prevalence=prevalence, masks=masks)  # fmt: skip


@app.command()
def check(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="A copy of CT-RATE; it is only read.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write check.html, check.json and exclude.txt.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    sample: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Read the voxels of N volumes only.  [default: of all]")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Audit a copy of CT-RATE before training on it.

    Names and tables, every header, and the voxels: unreadable files, HU computed twice or not at all, patients on both sides,
    copies, scans without lungs. With -o the same command goes on after an interruption. Exit code 3: something serious.

    \b
    Examples:
      ctgen data check CT-RATE/ -o audit/ --workers 8
      ctgen data check CT-RATE/ --sample 500
    """
    from ctgen.commands.checking import check as run
    from ctgen.console import Console

    with Console(quiet=quiet) as console:
        code = run(root, out, as_json=as_json, sample=sample, workers=workers, console=console)
    if code:
        raise typer.Exit(code)


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A folder tree of DICOM files; it is only read.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="A new folder.", show_default=False)],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Fields of the dicom data set, as in gaps=resample min_slices=40.", show_default=False
        ),
    ] = None,
    format: Annotated[str, typer.Option(metavar="nifti|mha", help="File format of the volumes.")] = "nifti",
    anonymise: Annotated[
        bool, typer.Option("--anonymise", help="No UID, path or header text in OUT; case ids need a secret to be traced.")
    ] = False,
    reports: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV of reports by Series- or StudyInstanceUID, AccessionNumber or PatientID."),
    ] = None,
    private: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For what identifies patients.  [default: OUT.ctgen-private]")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done; write nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Turn DICOM series into volume files, with lists of what was taken and what was not.

    Sources are never changed. Series with gaps, tilt or doubtful values are handled as the fields say, or left out with
    numbers. After an interruption the same command goes on.

    \b
    Examples:
      ctgen data import pacs/ -o scans/ --dry-run
      ctgen data import pacs/ -o scans/ --reports reports.csv gaps=resample kernels=[Br38,B30f]
      ctgen data import pacs/ -o shared/ --anonymise
    """
    from ctgen.commands.importing import parse_reading
    from ctgen.console import Console
    from ctgen.data.dicom_import import ImportOptions, import_tree, look, private_folder, summary

    options = ImportOptions(format, anonymise, reports, private, workers, parse_reading(changes or []))
    with Console(quiet=quiet) as console:
        if dry_run:
            console.result(summary(look(source, options, console), done=False))
            return
        found = import_tree(source, out, options, console)
        console.result(summary(found, done=True))
        console.say(f"volumes, reports.csv, cases.csv and manifest.json in {out}")
        console.say(f"what leads back to patients is in {private_folder(out, options)}: keep it to yourself")
        if anonymise and reports is not None:
            console.warn("report texts were copied as they are: ctgen does not find names in free text")


@app.command()
def verify(
    path: Annotated[
        Path, typer.Argument(metavar="CACHE", help="A folder RUN/encode-..., or RUN for its newest.", show_default=False)
    ],
    cases: Annotated[int, typer.Option(min=0, metavar="N", help="Cases to decode; all are read.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check a latent cache: every case against its checksums, a sample decoded against the prepared volumes.

    Reports PSNR, range, values that are not finite, the latents' scale by channel, text features. Exit code 1: something is
    wrong.

    \b
    Examples:
      ctgen data verify runs/ctflow
      ctgen data verify runs/ctflow/encode-1a2b3c4d --cases 20 --json
    """
    import json

    from ctgen.console import Console
    from ctgen.host import Host
    from ctgen.stages.verify import verify as check_cache

    with Console(quiet=quiet or as_json) as console:
        found = check_cache(path, cases=cases, host=Host.discover(), console=console)
        console.result(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(found.lines()))
    if not found.right:
        raise typer.Exit(1)


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
