"""One block that is the whole volume."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ctgen.builtin.configs import WholeVolumeConfig
from ctgen.errors import ConfigError
from ctgen.interfaces import BlockExample, Denoise, Markers, RolloutResult


class WholeVolume:
    def __init__(self, config: WholeVolumeConfig) -> None:
        self.config = config

    def example(self, latent: Tensor, markers: Markers, generator: torch.Generator) -> BlockExample:
        """The volume (c, d, h, w), filled up with end markers or cropped to the block's depth if one is set."""
        return self.example_from(lambda first, end: latent[:, first:end], latent.shape[1], markers, generator)

    def example_from(
        self, read: Callable[[int, int], Tensor], depth: int, markers: Markers, generator: torch.Generator
    ) -> BlockExample:
        """As ``example``; of the latent's ``depth`` slices only the block is read."""
        block = self.config.block_length(depth)
        start = 0
        if depth > block:
            start = int(torch.randint(depth - block + 1, (1,), generator=generator, device=generator.device))
        target = read(start, min(start + block, depth))
        if missing := block - target.shape[1]:
            target = torch.cat([target, markers.end.to(target).expand(-1, missing, -1, -1)], dim=1)
        return BlockExample(target=target, context=None, start=start, depth=depth)

    def generate(
        self,
        denoise: Denoise,
        *,
        shape: tuple[int, int, int],
        depth: int | None,
        markers: Markers,
        head: Tensor | None,
        generator: torch.Generator,
        progress: Callable[[int, int], None] | None = None,
    ) -> RolloutResult:
        """One call of ``denoise``. A head replaces the first slices afterwards: the model does not see it, the note says so."""
        block = self.config.depth or depth
        if block is None:
            raise ConfigError(
                "whole-volume cannot decide how many slices to make",
                hint="give a number (sample.length=case or =N, --slices N) or set rollout.depth",
            )
        if depth is not None and depth > block:
            raise ConfigError(
                f"whole-volume was asked for {depth} latent slices, its block has {block}",
                hint="ask for fewer or set rollout.depth",
            )
        given = 0 if head is None else head.shape[1]
        if given > (depth or block):
            raise ConfigError(f"the head has {given} latent slices, more than the {depth or block} asked for")
        channels, height, width = shape
        latent = denoise(shape=(channels, block, height, width), context=None, start=0, depth=depth, generator=generator)
        kept = block if depth is None else depth
        if depth is None:
            end = markers.end.to(latent)
            while kept > max(given, 1) and float((latent[:, kept - 1 : kept] - end).abs().mean()) < self.config.stop_tolerance:
                kept -= 1
        note = ""
        boundaries: tuple[int, ...] = ()
        if head is not None:
            latent = torch.cat([head.to(latent), latent[:, given:]], dim=1)
            boundaries = (given,) if given < kept else ()
            note = f"the first {given} latent slices are the head's, put in afterwards: the model did not see them"
        if progress is not None:
            progress(kept, kept)
        if depth is not None:
            return RolloutResult(latent[:, :kept], boundaries, "length", note)
        return RolloutResult(latent[:, :kept], boundaries, "end-marker" if kept < block else "limit", note)
