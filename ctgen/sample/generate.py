"""`ctgen generate`: volumes from reports with a finished run, a recipe or a preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctgen.atomic import read_json, write_json
from ctgen.errors import ConfigError, MissingFileError, StageError
from ctgen.evaluate.continuity import seam_ratios, slice_differences
from ctgen.interfaces import CaseRequest, Report, WeightsInfo
from ctgen.recipe import load_recipe
from ctgen.report.montage import overview
from ctgen.sample.generator import ComposedGenerator
from ctgen.stages import open_run
from ctgen.stages.components import build_components, device, weights_labels
from ctgen.stages.context import Context
from ctgen.stages.plan import trains
from ctgen.stages.sample import composed, sidecar
from ctgen.volume.io import VOLUME_SUFFIXES, read_volume

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.host import Host
    from ctgen.recipe import Recipe

FORMATS = {"nifti": ".nii.gz", "mha": ".mha"}


@dataclass(frozen=True)
class GenerateOptions:
    """None means: as the recipe says. ``spacing_mm`` (D, H, W); ``count`` draws per report."""

    seed: int = 0
    count: int = 1
    slices: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    steps: int | None = None
    head: Path | None = None
    format: str | None = None


def generate_to_folder(
    source: str, reports: Sequence[tuple[str, Report]], out: Path, options: GenerateOptions, *, host: Host, console: Console
) -> list[Path]:
    """Write one volume, one JSON and one PNG per report and draw; returns the volumes' paths.

    ``out`` is a folder, or a file name with a volume suffix if exactly one volume is asked for. A volume that is already
    there from the very same request is kept; one from another request is never overwritten (ConfigError).
    """
    single, suffix = _target(out, len(reports) * options.count, options.format)
    context, generator = open_source(source, options.steps, host=host, console=console)
    exporter = host.create("exporter", {".nii.gz": "nifti", ".mha": "mha", ".nrrd": "nrrd"}[suffix])
    head = read_volume(options.head) if options.head is not None else None
    length = options.slices if options.slices is not None else _default_slices(context)
    jobs = [(case_id, report, draw) for case_id, report in reports for draw in range(options.count)]
    written: list[Path] = []
    with context.stopper.listening(), console.task("generate", len(jobs) * (length or 1), unit="slices") as task:
        for number, (case_id, report, draw) in enumerate(jobs):
            name = case_id if options.count == 1 else f"{case_id}_{draw}"
            path = out if single else out / f"{name}{suffix}"
            beside = path.with_name(path.name.removesuffix(suffix) + ".json")
            request = CaseRequest(name, report, slices=length, spacing_mm=options.spacing_mm, head=head)
            asked = _asked(context, options, request)
            if path.exists():
                if not beside.is_file() or read_json(beside).get("request") != asked:
                    raise ConfigError(f"{path} exists, made by another request", hint="choose another -o, or remove the file")
                console.say(f"{path} is already there from the same request; kept")
            else:
                generated = generator.run(request, options.seed, lambda done, _, at=number: task.set(at * (length or 1) + done))  # type: ignore[misc]
                exporter.write(generated.volume, path)
                facts = sidecar(context, request, options.seed, generated, path) | {"request": asked}
                if generated.head_slices:
                    facts["seam"] = _seam(generated.volume.hu, generated.head_slices)
                overview(generated.volume, beside.with_suffix(".png"), title=report.findings[:110])
                write_json(beside, facts)
                console.say(f"{path}  ({generated.seconds:.0f} s)" + (f"  {generated.note}" if generated.note else ""))
            written.append(path)
            task.set((number + 1) * (length or 1))
            context.stopper.check()
    return written


def open_source(source: str, steps: int | None, *, host: Host, console: Console) -> tuple[Context, ComposedGenerator]:
    """A generator from a run folder, a recipe whose run is finished, or a recipe or preset whose weights are all shipped."""
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "recipe.yaml").is_file():
            raise MissingFileError(f"{folder} is not a run folder: it has no recipe.yaml", hint="ctgen run RECIPE makes one")
        recipe, run_dir = load_recipe(folder / "recipe.yaml", host=host), folder
    else:
        recipe = load_recipe(source, host=host)
        run_dir = Path("runs") / recipe.name
    if trains(recipe) != "backbone":
        raise ConfigError(f"recipe {recipe.name!r} trains the {trains(recipe)}, it does not generate volumes")
    context = _finished(recipe, run_dir, console, must=folder.is_dir())
    if steps is not None:
        context.recipe = replace(recipe, sample=recipe.sample.model_copy(update={"steps": steps}))
    if "train" in context.folders:
        console.say(f"with the weights trained in {context.folders['train']}")
        return context, composed(context)
    weights: WeightsInfo = context.components["backbone"].weights
    if weights.label == "RANDOM":
        raise StageError(f"{source} has no trained weights yet", hint=f"run: ctgen run {source}")
    labels = ", ".join(f"{section} {label}" for section, label in weights_labels(context.components).items())
    console.say(f"with the weights as they come: {labels}")
    for section in ("autoencoder", "text_encoder", "backbone"):
        context.components[section].to(device()).eval()
    return context, ComposedGenerator(context.components, context.recipe.prepare, context.recipe.sample, where=device())


def _finished(recipe: Recipe, run_dir: Path, console: Console, *, must: bool) -> Context:
    if must:
        return open_run(recipe, run_dir, console)
    try:
        return open_run(recipe, run_dir, console)
    except StageError:
        return Context(recipe, run_dir, console, build_components(recipe))


def _target(out: Path, volumes: int, wanted: str | None) -> tuple[bool, str]:
    """(is ``out`` the one file, suffix); ConfigError where name, format and number do not go together."""
    named = next((suffix for suffix in VOLUME_SUFFIXES if out.name.endswith(suffix)), None)
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
    if named not in (".nii.gz", ".mha", ".nrrd"):
        raise ConfigError(f"volumes are written as .nii.gz, .mha or .nrrd, not {named}")
    return True, named


def _default_slices(context: Context) -> int | None:
    """The recipe's length where it states one; the whole grid where it follows a real case, because here there is none."""
    length = context.recipe.sample.length
    if length == "model":
        return None
    return context.recipe.prepare.size[0] if length == "case" else int(length)


def _asked(context: Context, options: GenerateOptions, request: CaseRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "report": request.report.findings,
        "impressions": request.report.impressions,
        "seed": options.seed,
        "slices": request.slices,
        "spacing_mm": list(options.spacing_mm) if options.spacing_mm else None,
        "steps": context.recipe.sample.steps,
        "head": str(options.head) if options.head else None,
        "weights": {name: context.components[name].weights.sha256 for name in ("autoencoder", "text_encoder", "backbone")},
    }


def _seam(hu: Any, head_slices: int) -> dict[str, float]:
    """The seam between head and generated slices: mean |dz| there, and its ratio to |dz| elsewhere (1.0 is perfect)."""
    first, second = seam_ratios(hu, [head_slices])
    step = float(slice_differences(hu)[head_slices - 1])
    return {"slice": head_slices, "mean_abs_step_hu": round(step, 2), "ratio": round(first, 3), "ratio_2nd": round(second, 3)}
