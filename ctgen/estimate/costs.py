"""Parameters, operations and memory of a recipe, on this machine's device, with nothing allocated.

Each component is built on the meta device with random weights, then run on FakeTensors: torch's own code picks kernels and
shapes, ``Tally`` counts. What cannot be run so is named with the reason, in place of a number.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ctgen.errors import CtgenError
from ctgen.estimate.device import Room, room
from ctgen.estimate.tally import Tally
from ctgen.estimate.training import TrainingMemory, train_unreal
from ctgen.estimate.unreal import UnrealCases, features, nbytes, on, unreal
from ctgen.interfaces import Condition, Markers, Prompt, Report
from ctgen.recipe import Recipe
from ctgen.sample.generator import ComposedGenerator
from ctgen.sample.network import Answer, Question
from ctgen.stages.components import device as default_device
from ctgen.stages.plan import MODULES, trains


@dataclass
class Part:
    """A component: its parameters, or why they are not known."""

    use: str
    parameters: int | None = None
    bytes: int = 0
    problem: str = ""


@dataclass
class Work:
    """FLOPs of one call and of a whole volume, and the most memory beside the weights while it runs."""

    flops: int | None = None
    volume_flops: int | None = None
    peak_bytes: int = 0
    problem: str = ""


@dataclass
class Estimate:
    """``work`` of "encode", "text", "backbone", "decode"; ``training`` by gradient checkpointing: "off", "on", or ""."""

    recipe: str
    device: Room
    parts: dict[str, Part]
    work: dict[str, Work]
    blocks: int = 0
    evaluations_per_block: int = 0
    at_least: bool = False
    volume_slices: int = 0
    rows: int = 1
    sampling_bytes: int | None = None
    sampling_without: tuple[str, ...] = ()
    """Parts and work that ``sampling_bytes`` does not cover."""
    training: dict[str, TrainingMemory] = field(default_factory=dict)
    chosen: str = ""
    cache_bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def estimate(recipe: Recipe, *, memory_bytes: int | None = None, device: torch.device | None = None) -> Estimate:
    """See the module. ``memory_bytes`` replaces what the device is found to have."""
    # FakeTensorMode logs each thing that it cannot do before it raises it
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    where = device or default_device()
    found = Estimate(recipe.name, room(where, memory_bytes), {}, {})
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    built: dict[str, Any] = {}
    for section in MODULES:
        use = getattr(recipe, section)
        if use is None:
            continue
        part = found.parts[section] = Part(use.name)
        try:
            module = built[section] = unreal(recipe, section)
            part.parameters, part.bytes = sum(one.numel() for one in module.parameters()), nbytes(module)
            on(module.eval().requires_grad_(False), mode, where)
        except Exception as error:
            built.pop(section, None)
            part.problem = _reason(error)
    _Run(recipe, found, built, mode, where).all()
    return found


class _Run:
    def __init__(
        self, recipe: Recipe, found: Estimate, built: dict[str, Any], mode: FakeTensorMode, where: torch.device
    ) -> None:
        self.recipe, self.found, self.built, self.mode, self.where = recipe, found, built, mode, where
        self.sizes = recipe.sizes()
        self.has_logvar = True

    def all(self) -> None:
        if "autoencoder" in self.found.parts:
            self._autoencoder()
        if "text_encoder" in self.found.parts:
            self._measure("text", "text_encoder", self._text)
        if "backbone" in self.found.parts:
            self._sampling()
        self._cache()
        self._training()

    def _measure(self, name: str, section: str, run: Callable[[Any], object], times: float = 1.0) -> Any:
        """Run one thing on the component of ``section``; ``times`` of it make a volume."""
        work = self.found.work[name] = Work(problem=self.found.parts[section].problem)
        if section not in self.built:
            return None
        try:
            with self.mode, torch.no_grad(), Tally() as tally:
                out = run(self.built[section])
            work.flops, work.volume_flops, work.peak_bytes = tally.flops, round(tally.flops * times), tally.peak
            return out
        except Exception as error:
            work.problem = _reason(error)
            return None

    def _autoencoder(self) -> None:
        depth, height, width = self.sizes.volume
        stride = self.sizes.latent.stride[0]
        # as the encode stage does it: in parts, if the code has no stride along D
        slices = min(self.recipe.encode.batch_slices, depth) if stride == 1 else depth

        def encode(module: Any) -> Any:
            return module.encode(torch.zeros(1, 1, slices, height, width, device=self.where))

        def decode(module: Any) -> Any:
            cells = (self.sizes.latent.channels, slices // stride, *self.sizes.grid[1:])
            return module.decode(torch.zeros(1, *cells, device=self.where))

        posterior = self._measure("encode", "autoencoder", encode, depth / slices)
        self.has_logvar = posterior is None or posterior.logvar is not None
        self._measure("decode", "autoencoder", decode, depth / slices)

    def _text(self, module: Any) -> Any:
        # about as long as it may be; the template adds a few words
        words = "opacity " * max(self.sizes.text.max_tokens - 16, 1)
        return module.encode([Prompt(Report(words), slices=self.sizes.volume[0])])

    def _sampling(self) -> None:
        found, recipe, sizes = self.found, self.recipe, self.sizes
        _, height, width = sizes.grid
        found.rows = recipe.sample.batch * (2 if recipe.sample.guidance != 1.0 else 1)

        def evaluate(rows: int) -> Callable[[Any], Tensor]:
            def run(module: Any) -> Tensor:
                block = torch.zeros(rows, sizes.latent.channels, sizes.block, height, width, device=self.where)
                condition = Condition(
                    text=features(sizes, self.mode, batch=rows, device=self.where),
                    context=self._context(block),
                    position=torch.zeros(rows, 2, device=self.where),
                    spacing=torch.ones(rows, 3, device=self.where),
                    context_level=torch.zeros(rows, device=self.where),
                )
                predicted: Tensor = module(block, torch.ones(rows, device=self.where), condition)
                return predicted

            return run

        self._measure("backbone", "backbone", evaluate(1))
        work = found.work["backbone"]
        if work.problem:
            return
        try:
            found.blocks, found.evaluations_per_block = self._count_evaluations()
        except CtgenError as error:
            work.problem = f"evaluations per volume: {error.message}"
            return
        found.at_least = recipe.sample.solver == "dopri5"
        found.volume_slices = sizes.volume[0]
        assert work.flops is not None
        work.volume_flops = work.flops * found.blocks * found.evaluations_per_block
        if found.rows > 1:
            with self.mode, torch.no_grad(), Tally() as tally:
                evaluate(found.rows)(self.built["backbone"])
            work.peak_bytes = tally.peak
        running = [found.work[name].peak_bytes for name in ("text", "backbone", "decode")]
        found.sampling_bytes = sum(part.bytes for part in found.parts.values()) + max(running)
        problems = [name for name in ("text", "decode") if found.work[name].problem]
        found.sampling_without = (*(section for section, part in found.parts.items() if part.problem), *problems)

    def _context(self, block: Tensor) -> Tensor | None:
        """As the rollout cuts it for a training block."""
        rollout = self.recipe.build("rollout")
        shape = (1, max(self.sizes.grid[0], 1), 1, 1)
        edge = torch.zeros(1, 1, 1, 1)
        with _paused(self.mode):
            example = rollout.example(torch.zeros(shape), Markers(edge, edge), torch.Generator().manual_seed(0))
        if example.context is None:
            return None
        return block.new_zeros(block.shape[0], block.shape[1], example.context.shape[1], *block.shape[3:])

    def _count_evaluations(self) -> tuple[int, int]:
        """(blocks of a volume that fills the grid, network evaluations per block), by the real sampler on toy latents."""
        recipe, sizes = self.recipe, self.sizes
        schedule, rollout = recipe.build("schedule"), recipe.build("rollout")
        parts = {**dict.fromkeys(MODULES), "schedule": schedule, "rollout": rollout, "backbone": _Silent()}
        generator = ComposedGenerator(parts, recipe.prepare, recipe.sample)
        generator.autoencoder = _Stride(sizes)
        calls: list[int] = []

        def ask(question: Question) -> Answer:
            calls.append(question.rows())
            return Answer((torch.zeros_like(question.z),) * question.rows(), 0.0)

        text = None
        with torch.no_grad():
            generator._denoise_block(
                text,  # type: ignore[arg-type]
                ask,
                shape=(1, sizes.block, 1, 1),
                context=None,
                start=0,
                depth=sizes.grid[0],
                generator=torch.Generator().manual_seed(0),
            )
        blocks = 0

        def denoise(*, shape: tuple[int, int, int, int], **_: Any) -> Tensor:
            nonlocal blocks
            blocks += 1
            return torch.zeros(shape)

        edge = torch.full((1, 1, 1, 1), 9.0)
        rollout.generate(
            denoise,
            shape=(1, 1, 1),
            depth=sizes.grid[0],
            markers=Markers(edge, edge),
            head=None,
            generator=torch.Generator().manual_seed(0),
        )
        return blocks, sum(calls)

    def _cache(self) -> None:
        """As ctgen.data.latents stores it: float16 moments and tokens (at most), float32 pooled text."""
        if self.recipe.autoencoder is None or self.recipe.text_encoder is None:
            return
        text = self.sizes.text
        cells = self.sizes.latent.channels * math.prod(self.sizes.grid)
        tokens = 2 * text.max_tokens * text.width + 4 * (text.pooled_width or 0)
        self.found.cache_bytes = cells * (4 if self.has_logvar else 2) + tokens

    def _training(self) -> None:
        recipe, trained = self.recipe, trains(self.recipe)
        config = recipe.use(trained).config
        switch = "gradient_checkpointing"
        variants: dict[str, Any] = {"": config}
        if switch in type(config).model_fields:
            variants = {name: config.model_copy(update={switch: name == "on"}) for name in ("off", "on")}
            self.found.chosen = "on" if getattr(config, switch) else "off"
        for name, variant in variants.items():
            try:
                cases = UnrealCases(self.sizes, recipe.prepare.grid_mm((1.0, 1.0, 1.0)), self.mode, has_logvar=self.has_logvar)
                self.found.training[name] = train_unreal(recipe, trained, variant, cases, self.mode, self.where)
            except Exception as error:
                self.found.training[name] = TrainingMemory(problem=_reason(error))
            gc.collect()


class _Silent(nn.Module):
    predicts = "velocity"


class _Stride:
    def __init__(self, sizes: Any) -> None:
        self.latent = sizes.latent


class _paused:
    """Inside, tensors are real although ``mode`` is entered around it."""

    def __init__(self, mode: FakeTensorMode) -> None:
        from torch._subclasses.fake_tensor import unset_fake_temporarily

        self._inner = unset_fake_temporarily()

    def __enter__(self) -> None:
        self._inner.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)


def _reason(error: Exception) -> str:
    message = error.message if isinstance(error, CtgenError) else f"{type(error).__name__}: {error}"
    return message.strip().splitlines()[0][:300] if message.strip() else type(error).__name__
