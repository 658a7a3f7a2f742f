"""Report vectors that vary alike in all directions, for backbones."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ctgen.backbone_checks import TextUse
from ctgen.interfaces import TextFeatures

LEAST_VARIANCE = 1e-3
"""Of the variance of whole vectors: what varies less in one direction is not brought up to the others; it may be rounding."""


class Whitening(nn.Module):
    """(x - mean) times a matrix, after which vectors vary alike in all directions and have a mean square of 1 per channel.

    In the space that contrastive training makes, a few directions that tell most reports apart have nearly all the variance.
    The side of an effusion moves the mini CT-CLIP's vector by a hundredth of it, which a network learns to see only late.
    Mean and matrix are buffers, kept with the weights; until they are fitted, nothing is changed.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("matrix", torch.eye(size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E), in float32."""
        return (x.float() - self.mean.float()) @ self.matrix.float()

    @property
    def fitted(self) -> bool:
        return not torch.equal(self.matrix, torch.eye(len(self.mean), dtype=self.matrix.dtype, device=self.matrix.device))

    @torch.no_grad()
    def fit(self, vectors_NE: Tensor) -> None:
        """To the mean and covariance of ``vectors_NE``; float64 inside. Equal vectors fit nothing."""
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

    @torch.no_grad()
    def fit_like(self, vectors_NE: Tensor, outputs_NE: Tensor, others_ME: Tensor | None = None) -> float:
        """``fit`` to all vectors, then turned so that outputs of the first are as near as can be to ``outputs_NE``.

        All that the vectors say is kept, and a network that reads the outputs of another encoder's vectors of the same texts
        has less to learn anew. ``others_ME``: of texts that it did not read before and now will. Returns how alike the outputs
        of ``vectors_NE`` now are: their correlation over all texts and channels.
        """
        self.fit(vectors_NE if others_ME is None else torch.cat([vectors_NE, others_ME]))
        found = self(vectors_NE).cpu().double()
        found = found - found.mean(0)
        wanted = outputs_NE.detach().cpu().double()
        wanted = wanted - wanted.mean(0)
        left, _, right = torch.linalg.svd(found.T @ wanted)
        turn = left @ right
        self.matrix.copy_(self.matrix.double().cpu() @ turn)
        made = found @ turn
        return float((made * wanted).sum() / (made.square().sum() * wanted.square().sum()).sqrt())

    def fit_texts(self, texts: Iterable[TextFeatures], use: TextUse) -> None:
        """``fit`` to their pooled vectors or to their tokens. What was fitted before stays as it is."""
        if self.fitted:
            return
        if use == "pooled":
            self.fit(torch.cat([text.pooled for text in texts if text.pooled is not None]))
        else:
            self.fit(torch.cat([text.tokens[text.mask] for text in texts]))
