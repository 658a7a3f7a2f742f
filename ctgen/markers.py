"""Latents of the constant slices that mark the ends of a volume."""

from __future__ import annotations

from typing import Any

import torch

from ctgen.interfaces import Markers


@torch.no_grad()
def make_markers(autoencoder: Any, height: int, width: int, device: torch.device | None = None) -> Markers:
    """Encode slices of ``autoencoder.marker_hu`` on a plane of (height, width) voxels; on the CPU, finalised without noise.

    ``device`` is where the autoencoder's weights are; None: asked of its parameters.
    """
    if device is None:
        device = next((parameter.device for parameter in autoencoder.parameters()), torch.device("cpu"))
    shape = (1, 1, autoencoder.latent.stride[0], height, width)
    start, end = (
        autoencoder.finalise(autoencoder.encode(torch.full(shape, float(hu), device=device)), generator=None)[0].float().cpu()
        for hu in autoencoder.marker_hu
    )
    return Markers(start, end)
