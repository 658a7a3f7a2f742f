"""CTFlow's rollout: a volume is a chain of blocks of slices. Black slices precede it, white slices mean "the end"."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ctgen.errors import ConfigError, CtgenError
from ctgen.interfaces import BlockExample, Denoise, Markers, RolloutResult
from ctgen_ctflow.configs import SliceBlocksConfig

Progress = Callable[[int, int], None]


class SliceBlocks:
    """Training blocks and their composition share one geometry: start, context and end are cut in one place."""

    def __init__(self, config: SliceBlocksConfig) -> None:
        self.config = config

    def example(self, latent: Tensor, markers: Markers, generator: torch.Generator) -> BlockExample:
        """Start 0 with ``start_probability``, else uniform over 0 .. the start at which generation finds only end slices."""
        config, depth = self.config, latent.shape[1]
        last = -(-depth // config.step) * config.step
        boost, place = torch.rand(2, generator=generator, dtype=torch.float64, device=generator.device).tolist()
        start = 0 if boost < config.start_probability else min(int(place * (last + 1)), last)
        return BlockExample(
            target=padded(latent, markers, start, start + config.block),
            context=padded(latent, markers, start - config.context_slices, start),
            start=start,
            depth=depth,
        )

    def generate(
        self,
        denoise: Denoise,
        *,
        shape: tuple[int, int, int],
        depth: int | None,
        markers: Markers,
        head: Tensor | None,
        generator: torch.Generator,
        progress: Progress | None = None,
    ) -> RolloutResult:
        """Blocks until ``depth`` slices, or (depth None) until a block begins with an end slice or ``max_blocks`` are made.

        ``head`` is kept as it is and continued without overlap. In ``boundaries``, the seam after the head is the first.
        """
        config = self.config
        self._check(shape, depth, markers, head)
        volume = markers.start[:, :0] if head is None else head
        given = volume.shape[1]
        boundaries: list[int] = []
        expected = depth if depth is not None else given + config.block + (config.max_blocks - 1) * config.step
        made = 0
        ended = False
        while (made < config.max_blocks) if depth is None else (volume.shape[1] < depth):
            start = volume.shape[1] - (config.overlap if made else 0)
            context = padded(volume, markers, start - config.context_slices, start)
            channels, height, width = shape
            block = denoise(
                shape=(channels, config.block, height, width), context=context, start=start, depth=depth, generator=generator
            ).to(volume.dtype)
            made += 1
            ended = depth is None and self.is_end(block[:, :1], markers)
            if ended:
                break
            if start:
                boundaries.append(start)
            volume = blended(volume, block, start)
            if progress is not None:
                progress(min(volume.shape[1], expected), expected)
        if depth is not None:
            return RolloutResult(
                volume[:, :depth], tuple(boundaries), "length", self._early_end(volume[:, :depth], markers, given)
            )
        kept = self.kept_slices(volume, markers, at_least=given)
        if not kept:
            raise CtgenError(
                "the model ended the volume before its first slice",
                hint="ask for a length (--slices N, or sample.length=case), or train longer",
            )
        boundaries = [boundary for boundary in boundaries if boundary < kept]
        if ended:
            return RolloutResult(
                volume[:, :kept], tuple(boundaries), "end-marker", f"the model ended the volume at slice {kept}"
            )
        note = (
            f"stopped at the limit of {config.max_blocks} blocks ({kept} slices) without an end slice; raise rollout.max_blocks"
        )
        return RolloutResult(volume[:, :kept], tuple(boundaries), "limit", note)

    def is_end(self, slices: Tensor, markers: Markers) -> bool:
        """Whether one slice (c, 1, h, w) is an end slice: over ``stop_fraction`` of it within ``stop_tolerance`` of white."""
        near = (slices.float() - markers.end.to(slices.device).float()).abs() < self.config.stop_tolerance
        return near.float().mean().item() > self.config.stop_fraction

    def kept_slices(self, volume: Tensor, markers: Markers, at_least: int = 0) -> int:
        """Slices left when end slices are trimmed from the top, down to ``at_least``."""
        kept = volume.shape[1]
        while kept > at_least and self.is_end(volume[:, kept - 1 : kept], markers):
            kept -= 1
        return kept

    def _early_end(self, volume: Tensor, markers: Markers, given: int) -> str:
        kept = self.kept_slices(volume, markers, at_least=given)
        depth = volume.shape[1]
        return f"slices {kept} to {depth - 1} are end slices: the model wanted a shorter volume" if kept < depth else ""

    def _check(self, shape: tuple[int, int, int], depth: int | None, markers: Markers, head: Tensor | None) -> None:
        channels, height, width = shape
        for name, slices in (("start marker", markers.start), ("end marker", markers.end), ("head", head)):
            if slices is not None and (slices.shape[0], *slices.shape[2:]) != shape:
                raise ConfigError(f"{name} is {tuple(slices.shape)}, expected ({channels}, slices, {height}, {width})")
        if depth is not None and depth < 1:
            raise ConfigError(f"a volume needs at least 1 latent slice, not {depth}")
        if depth is not None and head is not None and head.shape[1] > depth:
            raise ConfigError(
                f"the head has {head.shape[1]} latent slices, more than the {depth} asked for", hint="raise --slices"
            )


def padded(latent: Tensor, markers: Markers, first: int, end: int) -> Tensor:
    """Slices first .. end - 1 of a volume (c, d, h, w) that start slices precede and end slices follow without limit."""
    depth = latent.shape[1]
    parts = []
    if first < 0:
        parts.append(markers.start.to(latent).expand(-1, min(end, 0) - first, -1, -1))
    if max(first, 0) < min(end, depth):
        parts.append(latent[:, max(first, 0) : min(end, depth)])
    if end > depth:
        parts.append(markers.end.to(latent).expand(-1, end - max(first, depth), -1, -1))
    return torch.cat(parts, dim=1)


def blended(volume: Tensor, block: Tensor, start: int) -> Tensor:
    """``block`` placed at ``start``; where both have slices, the weight goes linearly from the old to the new."""
    overlap = volume.shape[1] - start
    if not overlap:
        return torch.cat((volume, block), dim=1)
    new = torch.arange(1, overlap + 1, dtype=volume.dtype, device=volume.device)[:, None, None] / (overlap + 1)
    mixed = torch.lerp(volume[:, start:], block[:, :overlap], new)
    return torch.cat((volume[:, :start], mixed, block[:, overlap:]), dim=1)
