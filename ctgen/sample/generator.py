"""A report-to-volume generator composed of a recipe's parts: text encoder, backbone, schedule, rollout, autoencoder."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctgen.atomic import stable_hash
from ctgen.errors import ConfigError
from ctgen.interfaces import CaseRequest, Coefficients, Condition, Markers, Prompt, TextFeatures
from ctgen.markers import make_markers
from ctgen.recipe.settings import PrepareSettings, SampleSettings
from ctgen.sample.known import continuing
from ctgen.sample.solvers import SOLVERS
from ctgen.stages.encode import decode_slices, encode_slices, finalised
from ctgen.stages.prepare import to_grid
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import resample


@dataclass(frozen=True)
class Generated:
    """A generated volume and how it came about. ``boundaries``: voxel slices at which a new block begins."""

    volume: Volume
    boundaries: tuple[int, ...]
    head_slices: int
    evaluations: int
    seconds: float
    note: str


SMALLEST_ALPHA = 0.02
"""Noise predictions are divided by alpha, which is 0 at t = 1: below this an error of the network is not blown up further."""


def velocity_from(prediction: Tensor, predicts: str, z: Tensor, at: Coefficients) -> Tensor:
    """dz/dt = alpha' x + sigma' eps, from whatever the backbone predicts; ``at`` holds scalars."""
    if predicts == "velocity":
        return prediction
    alpha, sigma = float(at.alpha), float(at.sigma)
    if predicts == "noise":
        noise = prediction
        clean = (z - sigma * noise) / max(alpha, SMALLEST_ALPHA)
    else:
        clean = prediction
        # solvers evaluate nothing at t = 0, where sigma is 0
        noise = (z - alpha * clean) / max(sigma, 1e-4)
    return float(at.d_alpha) * clean + float(at.d_sigma) * noise


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
        self._markers: Markers | None = None

    def generate(self, request: CaseRequest, seed: int) -> Volume:
        return self.run(request, seed).volume

    @torch.inference_mode()
    def run(self, request: CaseRequest, seed: int, progress: Callable[[int, int], None] | None = None) -> Generated:
        """Generate one volume on the recipe's grid, resampled if the request names another spacing.

        ``request.slices`` counts slices of the result. ConfigError: a head that is too short, or that leaves nothing to make.
        """
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(stable_hash(seed, request.id))
        spec = self.autoencoder.latent
        _, height, width = spec.grid(self.prepare.size)
        head, frame, left_out = self._head(request)
        slices = self._grid_slices(request)
        taught: dict[str, Tensor] = {}
        if request.teacher is not None:
            taught["teacher"], frame = self._teacher(request)
            slices = slices or taught["teacher"].shape[1] * spec.stride[0]
        head_slices = 0 if head is None else head.shape[1] * spec.stride[0]
        if slices is not None and 0 < slices <= head_slices:
            raise ConfigError(
                f"{slices} slices of {self.prepare.spacing_mm[0]:g} mm were asked for, but the head alone has {head_slices}",
                hint="ask for more (--slices, sample.length), or continue with a rollout of smaller blocks (slice-blocks)",
            )
        depth = None if slices is None else -(-slices // spec.stride[0])
        text = self.text_encoder.encode([Prompt(request.report, slices=slices)])
        calls = 0

        def denoise(
            *,
            shape: tuple[int, int, int, int],
            context: Tensor | None,
            start: int,
            depth: int | None,
            generator: torch.Generator,
            known: Tensor | None = None,
        ) -> Tensor:
            nonlocal calls
            block, spent = self._denoise_block(shape, context, start, depth, text, generator, known)
            calls += spent
            return block

        result = self.rollout.generate(
            denoise,
            shape=(spec.channels, height, width),
            depth=depth,
            markers=self.markers(),
            head=head,
            generator=generator,
            progress=progress,
            **taught,
        )
        hu = self._decode(result.latent)
        if slices is not None:
            hu = hu[:slices]
        # the grid's origin is where the head's lowest slice lies; without a head the volume is centred on (0, 0, 0)
        volume = Volume(hu, frame) if frame is not None else _centred(hu, self.prepare.spacing_mm)
        boundaries = tuple(cut * spec.stride[0] for cut in result.boundaries)
        if request.spacing_mm is not None:
            ratio = volume.spacing_mm[0] / request.spacing_mm[0]
            volume = _respaced(volume, request.spacing_mm, request.slices, centred=frame is None)
            boundaries, head_slices = tuple(round(cut * ratio) for cut in boundaries), round(head_slices * ratio)
        boundaries = tuple(cut for cut in boundaries if 0 < cut < volume.shape[0])
        note = "; ".join(text for text in (left_out, result.note) if text)
        return Generated(
            volume,
            boundaries,
            head_slices,
            calls,
            time.perf_counter() - started,
            note,
        )

    def _grid_slices(self, request: CaseRequest) -> int | None:
        """Slices of the recipe's grid that cover what the request asks for; None: the model decides."""
        if request.slices is None or request.spacing_mm is None:
            return request.slices
        return max(1, math.ceil(request.slices * request.spacing_mm[0] / self.prepare.spacing_mm[0] - 1e-6))

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
                f"the head scan covers {grid.shape[0]} slices of {self.prepare.spacing_mm[0]:g} mm, {wanted} are needed "
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
        shape: tuple[int, int, int, int],
        context: Tensor | None,
        start: int,
        depth: int | None,
        text: TextFeatures,
        generator: torch.Generator,
        known: Tensor | None,
    ) -> tuple[Tensor, int]:
        """Integrate one block; returns it on the CPU and the number of network evaluations."""
        expected = depth if depth is not None else self.prepare.size[0] // self.autoencoder.latent.stride[0]
        if context is not None and self.sample.context_noise:
            context = context + self.sample.context_noise * torch.randn(context.shape, generator=generator)
        condition = Condition(
            text=text,
            context=None if context is None else context[None].to(self.where),
            position=torch.tensor([[start, expected]], dtype=torch.float32, device=self.where),
            spacing=torch.tensor([self.prepare.spacing_mm], dtype=torch.float32, device=self.where),
            context_level=torch.tensor([-1.0 if context is None else self.sample.context_noise], device=self.where),
        )
        calls = 0

        def velocity(z: Tensor, now: float) -> Tensor:
            nonlocal calls
            calls += 1
            time_B = torch.full((1,), now, dtype=torch.float32, device=self.where)
            prediction = self.backbone(z, time_B, condition)
            at = self.schedule.coefficients(torch.tensor(now, dtype=torch.float64))
            return velocity_from(prediction.float(), self.backbone.predicts, z, at)

        times = self.schedule.sampling_times(self.sample.steps, shape[1] * shape[2] * shape[3])
        noise = torch.randn((1, *shape), generator=generator).to(self.where) * self.sample.temperature
        if known is not None:
            velocity = continuing(velocity, known[None].to(self.where), noise, self.schedule.coefficients)
        return SOLVERS[self.sample.solver](velocity, noise, times)[0].cpu(), calls

    def _decode(self, latent: Tensor) -> np.ndarray[Any, Any]:
        """(c, d, h, w) -> int16 HU (D, H, W), clipped to the window the autoencoder knows."""
        low, high = self.autoencoder.hu_range
        return decode_slices(self.autoencoder, latent[None], self.where).clamp(low, high).round().numpy().astype(np.int16)


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
