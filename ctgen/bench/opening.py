"""Models, opened: something that makes a volume for a case, and says what it is made of."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ctgen.atomic import fingerprint
from ctgen.bench.cases import PreparedDataset
from ctgen.bench.models import ModelSpec
from ctgen.errors import ConfigError, DataError, RecipeError, StageError
from ctgen.interfaces import CaseRequest, NeedsData, WeightsInfo
from ctgen.provenance import provenance
from ctgen.recipe import Recipe, load_recipe
from ctgen.sample.generator import ComposedGenerator, reconstruct
from ctgen.stages.components import build_components, device
from ctgen.stages.context import Context
from ctgen.stages.opening import is_train_folder, open_run
from ctgen.stages.plan import GENERATING, trains
from ctgen.stages.train import trained_component
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.host import Host


@dataclass(frozen=True)
class Made:
    """A volume and what it cost. ``boundaries``: first voxel slices of blocks 1, 2, ..."""

    volume: Volume
    seconds: float
    boundaries: tuple[int, ...] = ()
    evaluations: int | None = None
    note: str = ""


class Model(Protocol):
    """``identity`` decides the volumes; ``facts`` (weights, recipe, versions) is told beside the results."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def identity(self) -> Mapping[str, Any]: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def make(self, request: CaseRequest, real: Volume, seed: int) -> Made: ...


def open_model(
    spec: ModelSpec,
    *,
    host: Host,
    console: Console,
    steps: int | None = None,
    train: PreparedDataset | None = None,
    held_out: PreparedDataset | None = None,
) -> Model:
    """Build what ``spec`` names, with its weights, on the device. CtgenError as building raises them."""
    if spec.kind == "generator":
        return GeneratorModel(spec, host, train, held_out)
    return RecipeModel(spec, host, console, steps)


class RecipeModel:
    """A composed recipe. Volumes are denoised one at a time: larger batches change the last digits."""

    def __init__(self, spec: ModelSpec, host: Host, console: Console, steps: int | None) -> None:
        self.spec = spec
        context = _context(spec, host, console)
        recipe = context.recipe
        if steps is not None:
            recipe = replace(recipe, sample=recipe.sample.model_copy(update={"steps": steps}))
        if recipe.sample.mode != "full-body":
            raise ConfigError(
                f"sample.mode: {recipe.sample.mode} is shown slices of a real scan; the bench compares what comes of reports",
                hint="write sample: {mode: full-body}",
            )
        where = device()
        for section in GENERATING:
            context.components[section].to(where).eval()
        self.where = where
        self.autoencoder = context.components["autoencoder"]
        self.check: Callable[[], None] = _nothing
        """Called between blocks; raises Interrupted if somebody asked to stop."""
        self.generator = ComposedGenerator(context.components, recipe.prepare, recipe.sample, where=where)
        made_of = provenance(recipe, context.components)
        self.facts: dict[str, Any] = {**made_of, "steps": recipe.sample.steps, "solver": recipe.sample.solver}
        sections = (*GENERATING, "schedule", "rollout")
        self.identity: dict[str, Any] = {
            "ctgen": importlib.metadata.version("ctgen-framework"),
            "components": {name: without_paths(recipe.use(name).identity()) for name in sections},
            "weights": {name: context.components[name].weights.sha256 for name in GENERATING},
            "prepare": recipe.prepare.identity(),
            "sample": {
                name: value for name, value in recipe.sample.identity().items() if name not in ("count", "seed", "split")
            },
            # random weights are drawn from the training seed
            "seed": recipe.train.seed,
        }
        # models that share an autoencoder share its floor
        self.facts["autoencoder"] = fingerprint(self.autoencoder_identity())

    def autoencoder_identity(self) -> dict[str, Any]:
        """What decides its reconstructions."""
        return {
            "ctgen": self.identity["ctgen"],
            "autoencoder": self.identity["components"]["autoencoder"],
            "weights": self.identity["weights"]["autoencoder"],
        }

    def make(self, request: CaseRequest, real: Volume, seed: int) -> Made:
        generated = self.generator.run(request, seed, progress=lambda done, expected: self.check())
        return Made(generated.volume, generated.seconds, generated.boundaries, generated.evaluations, generated.note)


class ReconstructionModel:
    """A floor: the real scan through another model's autoencoder."""

    def __init__(self, spec: ModelSpec, of: RecipeModel) -> None:
        self.spec, self.autoencoder, self.where = spec, of.autoencoder, of.where
        self.identity = of.autoencoder_identity()
        self.facts = {"weights": {"autoencoder": of.facts["weights"]["autoencoder"]}, "versions": of.facts["versions"]}

    def make(self, request: CaseRequest, real: Volume, seed: int) -> Made:
        started = time.perf_counter()
        # as it would see a scan: whole latent cells only
        stride = self.autoencoder.latent.stride
        if any(size % cell for size, cell in zip(real.shape, stride, strict=True)):
            raise ConfigError(
                f"{real.shape} voxels are not whole latent cells of {stride}", hint="set the suite's prepare.size"
            )
        volume = reconstruct(self.autoencoder, real, self.where)
        return Made(volume, time.perf_counter() - started)


class GeneratorModel:
    """A generator component. What it draws depends on the seed and the case id alone, as the interface says."""

    def __init__(self, spec: ModelSpec, host: Host, train: PreparedDataset | None, held_out: PreparedDataset | None) -> None:
        self.spec = spec
        component = host.component("generator", spec.source)
        config = host.configure("generator", spec.source, **spec.fields)
        self.generator = host.build("generator", spec.source, config)
        self._shown: list[str] = []
        if isinstance(self.generator, NeedsData):
            if train is None or held_out is None:
                raise DataError(
                    f"generator {spec.source!r} looks at training cases, and the suite names none", hint="add train:"
                )
            self.generator.prepare(train, held_out)
            self._shown = list(train.ids)
        weights = getattr(self.generator, "weights", None)
        stated = {spec.name: asdict(weights)} if isinstance(weights, WeightsInfo) else dict(getattr(weights, "items", dict)())
        stated = {name: asdict(one) if isinstance(one, WeightsInfo) else one for name, one in stated.items()}
        release = next((record.version for record in host.plugins if record.name == component.plugin), "")
        self.facts = {"weights": stated, "versions": {component.plugin: release}}
        describe = getattr(self.generator, "describe", None)
        self.identity = {
            "ctgen": importlib.metadata.version("ctgen-framework"),
            "generator": component.qualified,
            "version": release,
            "shown": fingerprint(self._shown),
            "config": without_paths(config.identity()),
            "weights": {name: one.get("sha256", "") for name, one in stated.items()},
            **({"describe": describe()} if callable(describe) else {}),
        }

    def make(self, request: CaseRequest, real: Volume, seed: int) -> Made:
        started = time.perf_counter()
        volume = to_canonical(self.generator.generate(request, seed))[0]
        seconds = time.perf_counter() - started
        boundaries = tuple(int(cut) for cut in volume.meta.get("boundaries", ()))
        return Made(volume, seconds, boundaries, volume.meta.get("evaluations"))


def _nothing() -> None:
    pass


def without_paths(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Without where this machine keeps weights: their hash counts."""
    weights = identity.get("weights")
    return {key: value for key, value in identity.items() if key != "weights" or weights in ("mini", "random", None)}


def model_fingerprint(model: Model, suite: Mapping[str, Any]) -> str:
    return fingerprint({"model": dict(model.identity), "kind": model.spec.kind, "suite": dict(suite)})


def _context(spec: ModelSpec, host: Host, console: Console) -> Context:
    folder = Path(spec.source)
    source = str(folder / "recipe.yaml") if spec.kind == "run" else spec.source
    recipe = _load(source, host)
    if trains(recipe) != "backbone":
        raise ConfigError(f"{spec.source} trains the {trains(recipe)}, it does not generate volumes")
    if spec.kind == "preset":
        return Context(recipe, Path(), console, build_components(recipe, data=False))
    train_folder = folder if spec.kind == "run" and is_train_folder(folder) else None
    run_dir = Path("runs") / recipe.name if spec.kind == "recipe" else folder.parent if train_folder else folder
    try:
        context = open_run(recipe, run_dir, console, train_folder=train_folder)
    except StageError:
        if spec.kind == "run":
            raise
        # not trained here: the weights that its components come with, which are named beside the results
        return Context(recipe, run_dir, console, build_components(recipe, data=False))
    trained_component(context, context.folders["train"])
    console.say(f"{spec.name}: with the weights trained in {context.folders['train']}")
    return context


def _load(source: str, host: Host) -> Recipe:
    try:
        return load_recipe(source, host=host)
    except RecipeError as error:
        if [problem.key for problem in error.problems] != ["data"]:
            raise
        # a preset that leaves its data set to the user generates without one
        return load_recipe(source, ["data.use=atlas-thorax"], host=host)
