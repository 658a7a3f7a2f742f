"""`ctgen generate`: volumes from reports with a finished run, a recipe or a preset."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ctgen.atomic import fingerprint, read_json, sha256_of, write_json
from ctgen.dicom.export_config import FOLDER_SUFFIX as DICOM_FOLDER
from ctgen.errors import ConfigError, MissingFileError, StageError
from ctgen.evaluate.continuity import seam_ratios, slice_differences
from ctgen.interfaces import CaseRequest, Exporter, Report, WeightsInfo
from ctgen.recipe import load_recipe
from ctgen.recipe.resolve import PRESET
from ctgen.recipe.sampling import guidance_warning
from ctgen.recipe.settings import SampleSettings
from ctgen.report.montage import overview
from ctgen.sample.generator import ComposedGenerator, Generated
from ctgen.stages.components import build_components, device, weights_labels
from ctgen.stages.context import Context
from ctgen.stages.opening import is_train_folder, open_run
from ctgen.stages.plan import GENERATING, trains
from ctgen.stages.sample import composed, described, sidecar
from ctgen.volume.io import VOLUME_SUFFIXES, read_volume

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.host import Host

FORMATS = {"nifti": ".nii.gz", "mha": ".mha", "dicom": DICOM_FOLDER}
EXPORTERS = {".nii.gz": "nifti", ".mha": "mha", ".nrrd": "nrrd", DICOM_FOLDER: "dicom"}


@dataclass(frozen=True)
class GenerateOptions:
    """None means: as the recipe says. ``spacing_mm`` (D, H, W); ``slices`` of the files; ``count`` draws per report."""

    seed: int = 0
    count: int = 1
    slices: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    steps: int | None = None
    head: Path | None = None
    format: str | None = None
    batch: int | None = None
    teacher: Path | None = None


@dataclass(frozen=True)
class Job:
    """One volume to make. ``asked``: everything that determines it, kept in its JSON as "request"."""

    path: Path
    json: Path
    png: Path
    request: CaseRequest
    asked: dict[str, Any]

    def is_there(self) -> bool:
        """True if exactly this volume was written before; ConfigError if a file of another making is in the way."""
        kept = self._kept()
        if self.path.exists() and kept == self.asked:
            return True
        stranger = next((path for path in (self.path, self.json, self.png) if path.exists()), None)
        # our own JSON or picture without the volume: left by an interruption, or the volume was removed
        if stranger is None or (kept is not None and not self.path.exists()):
            return False
        raise ConfigError(f"{stranger} exists, made by another request", hint="choose another -o, or remove the file")

    def _kept(self) -> Any:
        try:
            found = read_json(self.json) if self.json.is_file() else None
        except ValueError:
            return None
        return found.get("request") if isinstance(found, dict) and found.get("synthetic") is True else None


def generate_to_folder(
    source: str, reports: Sequence[tuple[str, Report]], out: Path, options: GenerateOptions, *, host: Host, console: Console
) -> list[Path]:
    """Write one volume, one JSON and one PNG per report and draw; returns the volumes' paths.

    ``out`` is a folder, or a file name with a volume suffix if exactly one volume is asked for. A volume that is already
    there from the very same request is kept; one from another request is never overwritten (ConfigError, before any work).
    """
    single, suffix = _target(out, len(reports) * options.count, options.format)
    _make_folder(out.parent if single else out)
    context, generator = open_source(source, options.steps, host=host, console=console)
    exporter = host.create("exporter", EXPORTERS[suffix])
    jobs = _jobs(context, reports, out if single else None, out, suffix, options)
    there = [job.is_there() for job in jobs]
    todo = {job.request.id: job for job, done_before in zip(jobs, there, strict=True) if not done_before}
    for job, done_before in zip(jobs, there, strict=True):
        if done_before:
            console.say(f"{job.path} is already there from the same request; kept")
    shares = dict.fromkeys(todo, 0.0)
    with context.stopper.listening(), console.task("generate", len(todo), unit="volumes") as task:

        def progress(case_id: str, done: int, expected: int) -> None:
            shares[case_id] = done / expected
            task.unit = "slices"
            task.set(round(sum(shares.values()) * expected), total=len(todo) * expected)
            context.stopper.check()

        requests = [job.request for job in todo.values()]
        for request, generated in generator.run_together(requests, options.seed, batch=options.batch, progress=progress):
            job = todo[request.id]
            _write(context, exporter, job, options.seed, generated)
            console.say(f"{job.path}  ({generated.seconds:.0f} s)" + (f"  {generated.note}" if generated.note else ""))
            context.stopper.check()
    return [job.path for job in jobs]


def open_source(source: str, steps: int | None, *, host: Host, console: Console) -> tuple[Context, ComposedGenerator]:
    """A generator from a run folder or one of its train folders, or from a recipe or preset: its run in runs/NAME if that is
    finished, else the weights that its components come with. The data set is not needed."""
    folder = Path(source)
    train_folder = None
    if folder.is_dir():
        if not (folder / "recipe.yaml").is_file():
            raise MissingFileError(f"{folder} is not a run folder: it has no recipe.yaml", hint="ctgen run RECIPE makes one")
        recipe = load_recipe(folder / "recipe.yaml", host=host)
        train_folder = folder if is_train_folder(folder) else None
        run_dir = folder.parent if train_folder else folder
    else:
        source = as_shipped(source, host, console)
        recipe = load_recipe(source, host=host)
        run_dir = Path("runs") / recipe.name
    if trains(recipe) != "backbone":
        raise ConfigError(f"recipe {recipe.name!r} trains the {trains(recipe)}, it does not generate volumes")
    try:
        context = open_run(recipe, run_dir, console, train_folder=train_folder)
    except StageError:
        if folder.is_dir():
            raise
        context = Context(recipe, run_dir, console, build_components(recipe, data=False))
    if steps is not None:
        context.recipe = replace(recipe, sample=_with_steps(recipe.sample, steps))
    if "train" in context.folders:
        console.say(f"with the weights trained in {context.folders['train']}")
        return context, composed(context)
    weights: WeightsInfo = context.components["backbone"].weights
    if weights.label == "RANDOM":
        raise StageError(f"{source} has no trained weights yet", hint=f"run: ctgen run {source}")
    labels = ", ".join(f"{section} {label}" for section, label in weights_labels(context.components).items())
    console.say(f"with the weights as they come: {labels}")
    if warning := guidance_warning(context.recipe):
        console.warn(warning)
    for section in GENERATING:
        context.components[section].to(device()).eval()
    return context, ComposedGenerator(context.components, context.recipe.prepare, context.recipe.sample, where=device())


def as_shipped(source: str, host: Host, console: Console) -> str:
    """``preset:NAME-mini`` for ``preset:NAME`` where a plugin ships both, said aloud: the published size has no data section
    and no weights of its own, so that it cannot be generated with as it is."""
    mini = f"{source}-mini"
    if not source.startswith(PRESET) or mini.removeprefix(PRESET) not in (preset.name for preset in host.presets):
        return source
    console.say(
        f"{source} at mini scale, with the weights that ship: {mini}. The published size needs weights of your own: write a "
        f"recipe that extends {source}"
    )
    return mini


def _jobs(
    context: Context,
    reports: Sequence[tuple[str, Report]],
    file: Path | None,
    folder: Path,
    suffix: str,
    options: GenerateOptions,
) -> list[Job]:
    """One job per report and draw, each with a file of its own; ConfigError if two would write the same file."""
    head = read_volume(options.head) if options.head is not None else None
    head_hash = sha256_of(options.head) if options.head is not None else None
    teacher = read_volume(options.teacher) if options.teacher is not None else None
    if head is not None and teacher is not None:
        raise ConfigError(
            "--head and --teacher exclude each other", hint="a head is continued; a teacher is followed all along"
        )
    slices = options.slices
    if slices is None and teacher is None:
        slices = _default_slices(context, options.spacing_mm)
    jobs: list[Job] = []
    taken: set[Path] = set()
    for case_id, report in reports:
        for draw in range(options.count):
            name = case_id if options.count == 1 else f"{case_id}_{draw}"
            path = file or folder / f"{name}{suffix}"
            if path in taken:
                raise ConfigError(f"two of the volumes would be written to {path}", hint="give the reports other ids")
            taken.add(path)
            request = CaseRequest(name, report, slices, options.spacing_mm, head=head, teacher=teacher)
            bare = path.name[: -len(suffix)]
            asked = _asked(context, request, options.seed, head_hash)
            if options.teacher is not None:
                asked["teacher"] = sha256_of(options.teacher)
            jobs.append(Job(path, path.with_name(f"{bare}.json"), path.with_name(f"{bare}.png"), request, asked))
    return jobs


def _write(context: Context, exporter: Exporter, job: Job, seed: int, generated: Generated) -> None:
    """Write one volume. It appears last: an interruption leaves no volume without its JSON."""
    volume = generated.volume
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=job.path.parent) as temporary:
        written = exporter.write(described(volume, context, job.request, seed), Path(temporary) / job.path.name)
        facts = sidecar(context, job.request, seed, generated, written) | {"request": job.asked}
        if generated.head_slices:
            facts["seam"] = seam(volume.hu, generated.head_slices)
        for name, scan in (("head", job.request.head), ("teacher", job.request.teacher)):
            if scan is not None:
                facts[name] = {"file": scan.meta["source"], "sha256": job.asked[name]}
        write_json(job.json, facts)
        overview(volume, job.png, title=job.request.report.findings, boundaries=generated.boundaries)
        written.replace(job.path)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"-o: {folder} cannot be a folder: {error.strerror}", hint="choose another -o") from error


def _target(out: Path, volumes: int, wanted: str | None) -> tuple[bool, str]:
    """(is ``out`` the one file, suffix); ConfigError where name, format and number do not go together."""
    named = next((suffix for suffix in (*VOLUME_SUFFIXES, DICOM_FOLDER) if out.name.endswith(suffix)), None)
    if wanted is not None and wanted not in FORMATS:
        raise ConfigError(f"no format named {wanted!r}", hint=f"formats: {', '.join(FORMATS)}")
    if named is None:
        return False, FORMATS[wanted or "nifti"]
    if volumes != 1:
        raise ConfigError(
            f"{volumes} volumes do not fit into one file {out}", hint=f"give a folder: -o {out.name.removesuffix(named)}"
        )
    if wanted is not None and FORMATS[wanted] != named:
        raise ConfigError(f"--format {wanted} writes {FORMATS[wanted]}, but -o ends in {named}")
    if named not in EXPORTERS:
        raise ConfigError(f"volumes are written as {', '.join(EXPORTERS)}, not {named}")
    return True, named


def _default_slices(context: Context, spacing_mm: tuple[float, float, float] | None) -> int | None:
    """Slices of the files, where the recipe states a length; the whole grid where it follows a real case: here is none."""
    length, prepare = context.recipe.sample.length, context.recipe.prepare
    if length == "model":
        return None
    slices = prepare.size[0] if length == "case" else int(length)
    return slices if spacing_mm is None else max(2, round(slices * prepare.grid_mm(spacing_mm)[0] / spacing_mm[0]))


def _asked(context: Context, request: CaseRequest, seed: int, head_hash: str | None) -> dict[str, Any]:
    recipe = context.recipe
    parts = [recipe.use(name).identity() for name in (*GENERATING, "schedule", "rollout")]
    return {
        "id": request.id,
        "report": asdict(request.report),
        "seed": seed,
        "slices": request.slices,
        "spacing_mm": list(request.spacing_mm) if request.spacing_mm else None,
        **_how(recipe.sample),
        "head": head_hash,
        "head_blocks": recipe.sample.head_blocks,
        "weights": {name: context.components[name].weights.sha256 for name in GENERATING},
        "components": fingerprint([recipe.prepare.identity(), *parts]),
    }


def _with_steps(sample: SampleSettings, steps: int) -> SampleSettings:
    try:
        return SampleSettings.model_validate({**sample.model_dump(), "steps": steps})
    except ValidationError as error:
        raise ConfigError(f"--steps {steps}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def _how(sample: SampleSettings) -> dict[str, Any]:
    """The settings of the section sample that determine a volume from a report."""
    elsewhere = {"count", "seed", "split", "length", "mode", "head_blocks"}
    return {name: value for name, value in sample.identity().items() if name not in elsewhere}


def seam(hu: Any, head_slices: int) -> dict[str, float | None]:
    """The seam between head and generated slices: mean |dz| there, and its ratio to |dz| elsewhere (1.0 is perfect).

    A ratio that is not defined (a single slice on one side, no change anywhere else) is None.
    """
    ratios = [round(value, 3) if math.isfinite(value) else None for value in seam_ratios(hu, [head_slices])]
    step = float(slice_differences(hu)[head_slices - 1])
    return {"slice": head_slices, "mean_abs_step_hu": round(step, 2), "ratio": ratios[0], "ratio_2nd": ratios[1]}
