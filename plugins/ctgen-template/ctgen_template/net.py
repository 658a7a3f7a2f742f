"""The network. Sizes come from ctgen: the latent's from the autoencoder, the text's from the text encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctgen.interfaces import Condition, LatentSpec, Predicts, TextSpec, WeightsInfo
from ctgen_template.config import TemplateNetConfig


class TemplateNet(nn.Module):
    """Time is 1 for noise and 0 for data; the output is the velocity, noise - data."""

    predicts: Predicts = "velocity"

    def __init__(self, config: TemplateNetConfig, *, latent: LatentSpec, text: TextSpec) -> None:
        super().__init__()
        self.weights = WeightsInfo("RANDOM", "random initialisation")
        self.enter = nn.Conv3d(latent.channels, config.width, 3, padding=1)
        self.middle = nn.Conv3d(config.width, config.width, 3, padding=1)
        self.leave = nn.Conv3d(config.width, latent.channels, 3, padding=1)
        self.time = nn.Linear(2, config.width)
        self.text = nn.Linear(text.width, config.width)

    def forward(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """(B, c, d, h, w), (B,) -> (B, c, d, h, w)."""
        tokens, mask = condition.text.tokens, condition.text.mask.unsqueeze(2)
        words = self.text((tokens * mask).sum(1) / mask.sum(1))
        if condition.drop is not None:  # these elements must not see their report
            words = words.masked_fill(condition.drop.unsqueeze(1), 0.0)
        code = words + self.time(torch.stack([time, time.square()], dim=1))
        hidden = torch.relu(self.enter(noisy) + code[:, :, None, None, None])
        hidden = hidden + torch.relu(self.middle(hidden))
        velocity: Tensor = self.leave(hidden)
        return velocity
