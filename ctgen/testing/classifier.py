"""What every classifier must do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ctgen.data.labels import LABELS
from ctgen.interfaces import PlaceClassifier
from ctgen.testing.expect import close, differs, equal, expect, global_rng_untouched, shaped, weights_info
from ctgen.testing.volumes import phantom


def check_classifier(classifier: Any, *, size: tuple[int, int, int] = (8, 32, 32), tolerance: float = 1e-4) -> None:
    """A logit per label, determinism, batch independence, gradients; where it tells places, grids that fit its tokens.

    ``size`` (D, H, W) is that of the test volumes.
    """
    expect(isinstance(classifier, nn.Module), f"found {type(classifier).__name__}, wanted an nn.Module")
    weights_info(classifier)
    volume = torch.stack([torch.from_numpy(phantom(size, seed=seed).hu).float() for seed in (0, 1)])[:, None]
    given, trains = volume.clone(), classifier.training
    classifier.eval()
    try:
        with torch.no_grad(), global_rng_untouched("forward"):
            logits = classifier(volume)
            close("forward must not change its input", volume, given, 0.0)
            shaped("forward", logits, 2, len(LABELS))
            equal("forward: dtype", logits.dtype, torch.float32)
            close("forward twice", classifier(volume), logits, 0.0)
            close("forward alone and in a batch", classifier(volume[1:]), logits[1:], tolerance)
            differs("the logits of two volumes", logits[0], logits[1])
            if isinstance(classifier, PlaceClassifier):
                _check_places(classifier, volume, logits)
        _check_gradient(classifier, volume)
    finally:
        classifier.train(trains)


def _check_places(classifier: PlaceClassifier, volume: Tensor, logits: Tensor) -> None:
    found, levels = classifier.classify_places(volume)
    close("classify_places: logits", found, logits, 1e-6)
    grids = classifier.token_grids(volume.shape[2:])
    equal("token_channels, levels and token_grids", (len(levels), len(grids)), (len(classifier.token_channels),) * 2)
    for place, (tokens, channels, grid) in enumerate(zip(levels, classifier.token_channels, grids, strict=True)):
        expect(channels >= len(LABELS), f"level {place}: {channels} channels, wanted at least {len(LABELS)}")
        counts = []
        for axis, size, window, cell in zip("DHW", volume.shape[2:], grid.window, grid.cell, strict=True):
            inside = window.start is not None and 0 <= window.start < window.stop <= size
            expect(inside, f"level {place}: window {window} along {axis} is not within {size} voxels")
            length = window.stop - window.start
            expect(length % cell == 0, f"level {place}: cells of {cell} do not tile {length} voxels along {axis}")
            counts.append(length // cell)
        shaped(f"level {place}: tokens", tokens, len(volume), *counts, channels)


def _check_gradient(classifier: nn.Module, volume: Tensor) -> None:
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    if not trained:
        return
    gradients = torch.autograd.grad(classifier(volume).square().sum(), trained, allow_unused=True)
    moved = sum(1 for gradient in gradients if gradient is not None and bool((gradient != 0).any()))
    expect(moved > 0, f"the logits reach {moved} of {len(trained)} parameters, wanted at least 1")
