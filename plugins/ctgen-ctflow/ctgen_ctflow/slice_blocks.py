"""CTFlow's rollout: a volume is a chain of blocks of slices. Black slices precede it, white slices mean "the end"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ctgen.errors import ConfigError, CtgenError
from ctgen.interfaces import BlockExample, Denoise, Markers, RolloutResult
from ctgen_ctflow.configs import SliceBlocksConfig

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Place:
    """A block to make: slices (c, d, h, w) that precede it, its first slice, and its slices that are there already."""

    below: Tensor
    start: int
    known: Tensor | None


class SliceBlocks:
    """Training blocks and their composition share one geometry: start, context and end are cut in one place."""

    def __init__(self, config: SliceBlocksConfig) -> None:
        self.config = config

    def for_batch(self, size: int, generator: torch.Generator) -> tuple[SliceBlocks, int]:
        """One of ``train_blocks``, drawn, and how many of it a batch of ``size`` blocks of ``block`` is worth."""
        lengths = self.config.train_blocks
        if not lengths:
            return self, size
        length = lengths[int(torch.randint(len(lengths), (), generator=generator, device=generator.device))]
        rollout = SliceBlocks(self.config.model_copy(update={"block": length, "train_blocks": ()}))
        return rollout, max(1, round(size * self.config.block / length))

    def example(self, latent: Tensor, markers: Markers, generator: torch.Generator) -> BlockExample:
        """Start 0 with ``start_probability``, else uniform over 0 .. the start at which generation finds only end slices."""
        return self.example_from(lambda first, end: latent[:, first:end], latent.shape[1], markers, generator)

    def example_from(
        self, read: Callable[[int, int], Tensor], depth: int, markers: Markers, generator: torch.Generator
    ) -> BlockExample:
        """As ``example``; of the latent's ``depth`` slices only those of the block and its context are read."""
        config = self.config
        last = -(-depth // config.step) * config.step
        boost, place = torch.rand(2, generator=generator, dtype=torch.float64, device=generator.device).tolist()
        start = 0 if boost < config.start_probability else min(int(place * (last + 1)), last)
        low, high = min(max(start - config.context_slices, 0), depth), min(start + config.block, depth)
        part = read(low, high)
        return BlockExample(
            target=padded(part, markers, start - low, start - low + config.block),
            context=padded(part, markers, start - low - config.context_slices, start - low),
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
        teacher: Tensor | None = None,
    ) -> RolloutResult:
        """Blocks until ``depth`` slices, or (depth None) until a block begins with an end slice or ``max_blocks`` are made.

        Three modes, one path: from the report alone; ``head`` is kept as it is and continued (overlap "renoise" looks back into
        it, "blend" does not); ``teacher`` (c, d, h, w) gives every block's context and, if ``depth`` is None, the length.
        In ``boundaries``, the seam after the head is the first.
        """
        config = self.config
        if teacher is not None and depth is None:
            depth = teacher.shape[1]
        self._check(shape, depth, markers, head, teacher)
        volume = markers.start[:, :0] if head is None else head
        given = volume.shape[1]
        boundaries: list[int] = []
        expected = depth if depth is not None else given + config.block + (config.max_blocks - 1) * config.step
        made = 0
        ended = False
        while (made < config.max_blocks) if depth is None else (volume.shape[1] < depth):
            place = self._place(volume if teacher is None else teacher, volume.shape[1], continues=made > 0)
            context = padded(place.below, markers, place.start - config.context_slices, place.start)
            channels, height, width = shape
            for _ in range(1 + config.end_redraws):
                block = denoise(
                    shape=(channels, config.block, height, width),
                    context=context,
                    start=place.start,
                    depth=depth,
                    generator=generator,
                    **({} if place.known is None else {"known": place.known}),
                ).to(volume.dtype)
                if depth is None or not self._ends_before(depth - place.start, block, markers):
                    break
            made += 1
            fresh = 0 if place.known is None else place.known.shape[1]
            ended = depth is None and self.is_end(block[:, fresh : fresh + 1], markers)
            if ended:
                break
            if place.start + fresh:
                boundaries.append(place.start + fresh)
            volume = blended(volume, block[:, fresh:], place.start + fresh)
            if progress is not None:
                progress(min(volume.shape[1], expected), expected)
        if depth is not None:
            note = self._early_end(volume[:, :depth], markers, given)
            return RolloutResult(volume[:, :depth], tuple(boundaries), "length", note)
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

    def _place(self, below: Tensor, done: int, *, continues: bool) -> _Place:
        """Where the next block goes after ``done`` slices; ``below`` holds what precedes it."""
        if self.config.overlap_mode == "renoise":
            shared = min(self.config.overlap, done)
            return _Place(below, done - shared, below[:, done - shared : done] if shared else None)
        return _Place(below, done - (self.config.overlap if continues else 0), None)

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

    def _ends_before(self, wanted: int, block: Tensor, markers: Markers) -> bool:
        """Whether an end slice is among the first ``wanted`` of a block, be it with other slices above, as weak networks do."""
        return bool(self._end_slices(block[:, :wanted], markers))

    def _end_slices(self, volume: Tensor, markers: Markers, first: int = 0) -> list[int]:
        return [index for index in range(first, volume.shape[1]) if self.is_end(volume[:, index : index + 1], markers)]

    def _early_end(self, volume: Tensor, markers: Markers, given: int) -> str:
        ends = self._end_slices(volume, markers, given)
        if not ends:
            return ""
        through = len(ends) == ends[-1] - ends[0] + 1
        which = f"slices {ends[0]} to {ends[-1]}" if through else f"{len(ends)} slices from {ends[0]} on"
        return f"{which} are end slices: the model wanted a shorter volume"

    def _check(
        self, shape: tuple[int, int, int], depth: int | None, markers: Markers, head: Tensor | None, teacher: Tensor | None
    ) -> None:
        channels, height, width = shape
        given = {"start marker": markers.start, "end marker": markers.end, "head": head, "teacher": teacher}
        for name, slices in given.items():
            if slices is not None and (slices.shape[0], *slices.shape[2:]) != shape:
                raise ConfigError(f"{name} is {tuple(slices.shape)}, expected ({channels}, slices, {height}, {width})")
        if depth is not None and depth < 1:
            raise ConfigError(f"a volume needs at least 1 latent slice, not {depth}")
        if depth is not None and head is not None and head.shape[1] > depth:
            raise ConfigError(
                f"the head has {head.shape[1]} latent slices, more than the {depth} asked for", hint="raise --slices"
            )
        if depth is not None and teacher is not None and teacher.shape[1] < depth:
            raise ConfigError(
                f"the teacher has {teacher.shape[1]} latent slices, fewer than the {depth} asked for",
                hint="ask for fewer slices",
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
