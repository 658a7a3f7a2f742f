"""The parity fixtures and tiny components that several tests share."""

from __future__ import annotations

from pathlib import Path

import torch
from ctgen_ctflow.configs import StditConfig
from ctgen_ctflow.stdit import Stdit
from safetensors.torch import load_file
from torch import Tensor

from ctgen.interfaces import Condition, LatentSpec, TextFeatures, TextSpec

LATENT = LatentSpec(16, (1, 8, 8))
TEXT = TextSpec(48, 12, 48)


def tensors(path: Path) -> dict[str, Tensor]:
    """Cloned: views into the mapped file may be unaligned, which changes last bits."""
    return {key: value.clone() for key, value in load_file(path).items()}


def tiny_stdit(**fields: object) -> Stdit:
    torch.manual_seed(0)
    return Stdit(StditConfig(**{"layers": 2, "width": 32, "heads": 4, **fields}), latent=LATENT, text=TEXT).eval()


def awake(model: Stdit) -> Stdit:
    """Every parameter redrawn: a fresh model's output is zero, and zero hides everything."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model


def condition(batch: int, tokens: int = 1, **fields: Tensor) -> Condition:
    generator = torch.Generator().manual_seed(2)
    text = torch.randn(batch, tokens, TEXT.width, generator=generator)
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    return Condition(TextFeatures(text, mask, torch.nn.functional.normalize(text[:, 0], dim=-1)), **fields)


def draw(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
