"""How a report enters the diffusion transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctgen_ctflow.stdit_layers import Mlp

LEAST_VARIANCE = 1e-3
"""Of the variance of whole vectors: what varies less in one direction is not brought up to the others; it may be rounding."""


class TextEmbedding(nn.Module):
    """Text -> width, with a fixed vector that stands for "no text"; the vector is a buffer in the released file."""

    y_embedding: Tensor

    def __init__(self, text_width: int, width: int, *, whitened: bool = False) -> None:
        super().__init__()
        self.y_proj = Mlp(text_width, width, width)
        self.whitening = Whitening(text_width) if whitened else None
        # Drawn with a seed of its own: the null text must be the same in every run.
        null = torch.randn(1, text_width, generator=torch.Generator().manual_seed(0))
        # as long as the vectors are that it stands beside
        self.register_buffer("y_embedding", null if whitened else F.normalize(null, dim=-1))

    def forward(self, text_BLE: Tensor, drop_B: Tensor | None) -> Tensor:
        if self.whitening is not None:
            text_BLE = self.whitening(text_BLE)
        if drop_B is not None:
            text_BLE = torch.where(drop_B[:, None, None], self.y_embedding.to(text_BLE.dtype), text_BLE)
        y: Tensor = self.y_proj(text_BLE.to(self.y_proj.fc1.weight.dtype))
        return y


class Whitening(nn.Module):
    """(x - mean) times a matrix, after which vectors vary alike in all directions and have a mean square of 1 per channel.

    In the space that contrastive training makes, a few directions that tell most reports apart have nearly all the variance.
    The side of an effusion moves the mini CT-CLIP's vector by a hundredth of it, which a network learns to see only late.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("matrix", torch.eye(size))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.matrix

    @property
    def fitted(self) -> bool:
        return not torch.equal(self.matrix, torch.eye(len(self.mean), device=self.matrix.device))

    @torch.no_grad()
    def fit(self, vectors_NE: Tensor) -> None:
        """To the mean and covariance of ``vectors_NE``; float64 inside."""
        vectors = vectors_NE.detach().cpu().double()
        centred = vectors - vectors.mean(0)
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(vectors))
        variances = variances.clamp_min(0)
        total = variances.sum()
        matrix = directions * (variances + LEAST_VARIANCE * total).rsqrt() @ directions.T
        power = (centred @ matrix).square().mean()
        if total > 0 and power > 0:
            self.mean.copy_(vectors.mean(0))
            self.matrix.copy_(matrix * power.rsqrt())
