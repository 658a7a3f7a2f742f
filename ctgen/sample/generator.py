"""A report-to-volume generator composed of a recipe's parts: text encoder, backbone, schedule, rollout, autoencoder."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctgen.atomic import stable_hash
from ctgen.errors import ConfigError
from ctgen.interfaces import CaseRequest, Condition, Markers, Prompt, Report, RolloutResult, SteppingSchedule, TextFeatures
from ctgen.markers import make_markers
from ctgen.recipe.sampling import solver_problem
from ctgen.recipe.settings import PrepareSettings, SampleSettings
from ctgen.sample.guidance import Guidance, LinearGuidance
from ctgen.sample.hu_curve import calibrated
from ctgen.sample.known import continuing
from ctgen.sample.network import Answer, Network, Question
from ctgen.sample.options import SolverOptions, Velocity
from ctgen.sample.solvers import SOLVERS
from ctgen.sample.together import together
from ctgen.sample.velocity import velocity_from
from ctgen.stages.encode import decode_slices, encode_slices, finalised
from ctgen.stages.prepare import to_grid
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import resample

Progress = Callable[[int, int], None]
"""(slices done, slices expected)"""


@dataclass(frozen=True)
class Generated:
    """A generated volume and how it came about. ``boundaries``: voxel slices at which a new block begins.

    ``evaluations`` of the network for this volume: with guidance, a step counts twice. ``seconds``: its share of the time.
    """

    volume: Volume
    boundaries: tuple[int, ...]
    head_slices: int
    evaluations: int
    seconds: float
    note: str


@dataclass
class _Case:
    """One volume under way. ``calls`` and ``seconds`` grow: evaluations of the network, and this case's share of the time."""

    request: CaseRequest
    generator: torch.Generator
    text: TextFeatures
    negative: TextFeatures | None
    slices: int | None
    head: Tensor | None
    frame: np.ndarray[Any, Any] | None
    left_out: str
    spacing_mm: tuple[float, float, float]
    teacher: Tensor | None = None
    calls: int = 0
    seconds: float = 0.0
    result: RolloutResult | None = None


class ComposedGenerator:
    """A Generator (see ctgen.interfaces). The draw depends on the seed and the request's id alone."""

    def __init__(
        self,
        components: Mapping[str, Any],
        prepare: PrepareSettings,
        sample: SampleSettings,
        *,
        where: torch.device | None = None,
    ) -> None:
        self.autoencoder = components["autoencoder"]
        self.text_encoder = components["text_encoder"]
        self.backbone = components["backbone"]
        self.schedule, self.rollout = components["schedule"], components["rollout"]
        self.prepare, self.sample = prepare, sample
        self.where = where or torch.device("cpu")
        if problem := solver_problem(getattr(self.schedule, "config", None), sample.solver):
            raise ConfigError(f"sample.solver: {problem}")
        self.guidance = Guidance(sample.guidance, sample.guidance_interval, sample.guidance_method, sample.guidance_zero_steps)
        self.linear_guidance = LinearGuidance.of(self.backbone, sample)
        self._network = Network(self.backbone, self.where)
        self._markers: Markers | None = None

    def generate(self, request: CaseRequest, seed: int) -> Volume:
        return self.run(request, seed).volume

    def run(self, request: CaseRequest, seed: int, progress: Progress | None = None) -> Generated:
        """Generate one volume on the recipe's grid, resampled if the request names another spacing.

        ``request.slices`` counts slices of the result. ConfigError: a head that is too short, or that leaves nothing to make.
        """
        report = None if progress is None else lambda _, done, expected: progress(done, expected)
        ((_, generated),) = self.run_together([request], seed, batch=1, progress=report)
        return generated

    def run_together(
        self,
        requests: Iterable[CaseRequest],
        seed: int,
        *,
        batch: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Iterator[tuple[CaseRequest, Generated]]:
        """Each request with its volume as it is finished; ``batch`` (default: sample.batch) are denoised at a time.

        A case's noise does not depend on its company, and what it sees of the others is rounding: the network is called with
        a larger batch. ``progress(request id, slices done, slices expected)``. An error in one case ends all, here.
        """

        def works() -> Iterator[Callable[[Callable[[Question], Answer]], _Case]]:
            for request in requests:
                report = None if progress is None else partial(progress, request.id)
                yield partial(self._roll_out, self._begin(request, seed), report)

        running = together(works(), self._network.answer, self.sample.batch if batch is None else batch)
        try:
            while True:
                # entered anew each time: the mode must not leak to the caller between two volumes
                with torch.inference_mode():
                    try:
                        _, case = next(running)
                    except StopIteration:
                        return
                    generated = self._finish(case)
                yield case.request, generated
        finally:
            running.close()

    def _begin(self, request: CaseRequest, seed: int) -> _Case:
        started = time.perf_counter()
        spacing = self._spacing(request)
        head, frame, left_out = self._head(request)
        slices = self._grid_slices(request, spacing)
        teacher = None
        if request.teacher is not None:
            teacher, frame = self._teacher(request)
            slices = slices or teacher.shape[1] * self.autoencoder.latent.stride[0]
        head_slices = 0 if head is None else head.shape[1] * self.autoencoder.latent.stride[0]
        if slices is not None and 0 < slices <= head_slices:
            raise ConfigError(
                f"{slices} slices of {spacing[0]:g} mm were asked for, but the head alone has {head_slices}",
                hint="ask for more (--slices, sample.length), or continue with a rollout of smaller blocks (slice-blocks)",
            )
        generator = torch.Generator().manual_seed(stable_hash(seed, request.id))
        text = self.text_encoder.encode([Prompt(request.report, slices=slices)])
        away = self.sample.negative_report.strip() if self.sample.guided else ""
        negative = self.text_encoder.encode([Prompt(Report(findings=away), slices=slices)]) if away else None
        case = _Case(request, generator, text, negative, slices, head, frame, left_out, spacing, teacher)
        case.seconds = time.perf_counter() - started
        return case

    @torch.inference_mode()
    def _roll_out(self, case: _Case, progress: Progress | None, ask: Callable[[Question], Answer]) -> _Case:
        """Compose the latent; possibly in a thread, so the inference mode is entered here too."""
        spec = self.autoencoder.latent
        _, height, width = spec.grid(self.prepare.size)
        started = time.perf_counter()

        def asked(question: Question) -> Answer:
            nonlocal started
            case.seconds += time.perf_counter() - started
            answer = ask(question)
            case.calls += question.rows()
            case.seconds += answer.seconds
            started = time.perf_counter()
            return answer

        case.result = self.rollout.generate(
            partial(self._denoise_block, case.text, asked, spacing_mm=case.spacing_mm, negative=case.negative),
            shape=(spec.channels, height, width),
            depth=None if case.slices is None else -(-case.slices // spec.stride[0]),
            markers=self.markers(),
            head=case.head,
            generator=case.generator,
            progress=progress,
            **({} if case.teacher is None else {"teacher": case.teacher}),
        )
        case.seconds += time.perf_counter() - started
        return case

    def _finish(self, case: _Case) -> Generated:
        """Decode, and give the volume its place in space."""
        started = time.perf_counter()
        request, result, frame = case.request, case.result, case.frame
        assert result is not None
        stride = self.autoencoder.latent.stride[0]
        head_slices = 0 if case.head is None else case.head.shape[1] * stride
        hu = self._decode(result.latent, head_slices)[: case.slices]
        # the grid's origin is where the head's lowest slice lies; without a head the volume is centred on (0, 0, 0)
        volume = Volume(hu, frame) if frame is not None else _centred(hu, case.spacing_mm)
        boundaries = tuple(cut * stride for cut in result.boundaries)
        if request.spacing_mm is not None and request.spacing_mm != case.spacing_mm:
            ratio = volume.spacing_mm[0] / request.spacing_mm[0]
            volume = _respaced(volume, request.spacing_mm, request.slices, centred=frame is None)
            boundaries, head_slices = tuple(round(cut * ratio) for cut in boundaries), round(head_slices * ratio)
        boundaries = tuple(cut for cut in boundaries if 0 < cut < volume.shape[0])
        note = "; ".join(text for text in (case.left_out, result.note) if text)
        seconds = case.seconds + time.perf_counter() - started
        return Generated(volume, boundaries, head_slices, case.calls, seconds, note)

    def _spacing(self, request: CaseRequest) -> tuple[float, float, float]:
        """In which the volume is made: the recipe's; if that keeps spacings, the given scan's, else the one asked for."""
        if self.prepare.spacing_mm != "keep":
            return self.prepare.spacing_mm
        scan = request.head or request.teacher
        if scan is not None:
            return to_canonical(scan, copy=False)[0].spacing_mm
        if request.spacing_mm is None:
            raise ConfigError(
                "this model has learnt volumes of any spacing (prepare.spacing_mm: keep), so it must be told which to make",
                hint="ctgen generate ... --spacing SLICE,ROW,COLUMN in mm",
            )
        return request.spacing_mm

    def _grid_slices(self, request: CaseRequest, spacing: tuple[float, float, float]) -> int | None:
        """Slices of ``spacing`` that cover what the request asks for; None: the model decides."""
        if request.slices is None or request.spacing_mm is None:
            return request.slices
        return max(1, math.ceil(request.slices * request.spacing_mm[0] / spacing[0] - 1e-6))

    def markers(self) -> Markers:
        """Latents of the constant slices "before" and "after" the volume, computed once."""
        if self._markers is None:
            self._markers = make_markers(self.autoencoder, self.prepare.size[1], self.prepare.size[2], self.where)
        return self._markers

    def _head(self, request: CaseRequest) -> tuple[Tensor | None, np.ndarray[Any, Any] | None, str]:
        """Latent (c, d, h, w) of the scan to continue, the affine of the grid it lies on, and a note if the scan is cropped."""
        if request.head is None:
            return None, None, ""
        stride = self.autoencoder.latent.stride[0]
        block = self.rollout.config.block_length(self.prepare.size[0] // stride)
        wanted = max(1, self.sample.head_blocks) * block * stride
        grid = to_grid(request.head, self.prepare)
        if grid.shape[0] < wanted:
            raise ConfigError(
                f"the head scan covers {grid.shape[0]} slices of {grid.spacing_mm[0]:g} mm, {wanted} are needed "
                f"({max(1, self.sample.head_blocks)} of the rollout's blocks)",
                hint="give a longer scan, fewer sample.head_blocks, or a rollout of smaller blocks (slice-blocks)",
            )
        posterior = encode_slices(self.autoencoder, grid.hu[:wanted], 16, self.where)
        canonical, _ = to_canonical(request.head)
        below = (grid.affine[2, 3] - grid.spacing_mm[0] / 2) - (canonical.affine[2, 3] - canonical.spacing_mm[0] / 2)
        # a scan longer than the model's volumes is cropped to its centre, like those the model was trained on
        note = f"head: the scan's lowest {below:.0f} mm lie below the model's volume" if below > grid.spacing_mm[0] / 2 else ""
        return finalised(self.autoencoder, posterior, self.where)[0].cpu(), grid.affine, note

    def _teacher(self, request: CaseRequest) -> tuple[Tensor, np.ndarray[Any, Any]]:
        """Latent (c, d, h, w) of the scan whose slices are every block's context, and the affine of its grid."""
        assert request.teacher is not None
        if request.head is not None:
            raise ConfigError("a head and a teacher exclude each other", hint="give one of them")
        if "teacher" not in inspect.signature(self.rollout.generate).parameters:
            raise ConfigError(
                f"the rollout {type(self.rollout).__name__} has no block-wise mode (its generate takes no teacher)",
                hint="use slice-blocks, or sample.mode=full-body",
            )
        grid = to_grid(request.teacher, self.prepare)
        posterior = encode_slices(self.autoencoder, grid.hu, 16, self.where)
        return finalised(self.autoencoder, posterior, self.where)[0].cpu(), grid.affine

    def _denoise_block(
        self,
        text: TextFeatures,
        ask: Callable[[Question], Answer],
        *,
        shape: tuple[int, int, int, int],
        context: Tensor | None,
        start: int,
        depth: int | None,
        generator: torch.Generator,
        known: Tensor | None = None,
        spacing_mm: tuple[float, float, float] | None = None,
        negative: TextFeatures | None = None,
    ) -> Tensor:
        """Integrate one block (see ctgen.interfaces.Denoise) of ``spacing_mm``, the recipe's if None; on the CPU."""
        spacing = spacing_mm or self.prepare.grid_mm((1.0, 1.0, 1.0))
        expected = depth if depth is not None else self.prepare.size[0] // self.autoencoder.latent.stride[0]
        if context is not None and self.sample.context_noise:
            context = context + self.sample.context_noise * torch.randn(context.shape, generator=generator)
        condition = Condition(
            text=text,
            context=None if context is None else context[None].to(self.where),
            position=torch.tensor([[start, expected]], dtype=torch.float32, device=self.where),
            spacing=torch.tensor([spacing], dtype=torch.float32, device=self.where),
            context_level=torch.tensor([-1.0 if context is None else self.sample.context_noise], device=self.where),
        )

        away = None if negative is None else replace(condition, text=negative)

        def velocity(z: Tensor, now: float) -> Tensor:
            predictions = ask(Question(z, now, condition, self.guidance.applies(now), away)).predictions
            at = self.schedule.coefficients(torch.tensor(now, dtype=torch.float64))
            found = [velocity_from(prediction, self.backbone.predicts, z, at) for prediction in predictions]
            guided = found[0] if len(found) == 1 else self.guidance.combine(*found)
            return self.linear_guidance(guided, z, now, at)

        times = self.guidance.times(self.schedule.sampling_times(self.sample.steps, math.prod(shape[1:])))
        noise = torch.randn((1, *shape), generator=generator)
        if self.sample.noise_offset:
            noise = noise + self.sample.noise_offset * torch.randn((1, shape[0], 1, 1, 1), generator=generator)
        noise = noise.to(self.where) * self.sample.temperature
        if known is None:
            return self._integrate(velocity, noise, times, generator)[0].cpu()
        there = known[None].to(self.where)
        moving = continuing(velocity, there, noise, self.schedule.coefficients)
        at = self.schedule.coefficients(times[0])
        # where the known slices are on their path when the solver starts, which is not at t = 1 if steps are left out
        begun = float(at.alpha) * there + float(at.sigma) * noise[:, :, : known.shape[1]]
        z = torch.cat((begun.to(noise.dtype), noise[:, :, known.shape[1] :]), dim=2)
        made = self._integrate(moving, z, times, generator)
        if isinstance(self.schedule, SteppingSchedule):
            # which may draw new noise for the known slices too
            made = torch.cat((there.to(made.dtype), made[:, :, known.shape[1] :]), dim=2)
        return made[0].cpu()

    def _integrate(self, velocity: Velocity, z: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        if isinstance(self.schedule, SteppingSchedule):
            return self.schedule.integrate(velocity, z, times, generator=generator)
        options = SolverOptions(self.schedule.coefficients, rtol=self.sample.rtol, atol=self.sample.atol)
        return SOLVERS[self.sample.solver](velocity, z, times, options)

    def _decode(self, latent: Tensor, head_slices: int) -> np.ndarray[Any, Any]:
        """(c, d, h, w) -> int16 HU (D, H, W), clipped to the window the autoencoder knows; calibrated above the head."""
        low, high = self.autoencoder.hu_range
        # a curve is fitted to saved volumes, which were clipped
        hu = decode_slices(self.autoencoder, latent[None], self.where).clamp(low, high).numpy()
        hu[head_slices:] = calibrated(hu[head_slices:], self.sample.hu_curve)
        rounded: np.ndarray[Any, Any] = hu.clip(low, high).round().astype(np.int16)
        return rounded


def reconstruct(autoencoder: Any, volume: Volume, where: torch.device) -> Volume:
    """Encode and decode without noise, clipped to the autoencoder's window: the ceiling of everything it can generate."""
    low, high = autoencoder.hu_range
    latent = finalised(autoencoder, encode_slices(autoencoder, volume.hu, 16, where), where)
    hu = decode_slices(autoencoder, latent, where).clamp(low, high).round().numpy().astype(np.int16)
    return Volume(hu, volume.affine)


def _respaced(volume: Volume, spacing_mm: tuple[float, float, float], slices: int | None, *, centred: bool) -> Volume:
    """``volume`` on another spacing, cut at the top to ``slices``; without a head its centre stays at (0, 0, 0)."""
    resampled = resample(volume, spacing_mm)
    hu = np.rint(resampled.hu[:slices]).astype(np.int16)
    return _centred(hu, spacing_mm) if centred else Volume(hu, resampled.affine)


def _centred(hu: np.ndarray[Any, Any], spacing_mm: tuple[float, float, float]) -> Volume:
    centre = [-(count - 1) * spacing / 2 for count, spacing in zip(hu.shape, spacing_mm, strict=True)]
    return Volume.canonical(hu, spacing_mm, (centre[2], centre[1], centre[0]))
