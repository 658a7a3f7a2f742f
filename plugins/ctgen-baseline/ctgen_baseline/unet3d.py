"""A 3-D U-Net that sees the latent of a whole volume at once: what slice-wise autoregression is compared with.

Channels are B c d h w as in ctgen.interfaces; C is a level's width, E the width of the code that modulates every block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ctgen.backbone_checks import text_width
from ctgen.errors import CheckpointError, ConfigError
from ctgen.interfaces import Condition, LatentSpec, Predicts, TextFeatures, TextSpec, WeightsInfo
from ctgen.linear_guess import corrected
from ctgen.weights import info, locate
from ctgen.whitening import Whitening
from ctgen_baseline.configs import Unet3dConfig
from ctgen_baseline.unet3d_layers import Attention, ResidualBlock, coordinates, sinusoids

SHIPPED = {"mini": Path(__file__).parent / "weights" / "mini" / "unet3d.safetensors"}
HOW_TO_GET = "train your own: ctgen run recipes/mini/baseline.yaml"
TIME_FACTOR = 1000.0
"""Time in [0, 1] is multiplied by this before its sinusoids."""


class Unet3d(nn.Module):
    """Predicts velocity (noise - data). It has no context: the block is the volume."""

    predicts: Predicts = "velocity"
    weights: WeightsInfo

    def __init__(self, config: Unet3dConfig, *, latent: LatentSpec, text: TextSpec) -> None:
        super().__init__()
        self.config = config
        self.hidden_width, self.token_cells = config.widths[-1], config.stride
        widths, code = config.widths, 4 * config.widths[0]
        self.time = nn.Sequential(nn.Linear(code, code), nn.SiLU(), nn.Linear(code, code))
        size = text_width("unet3d", config.text, text)
        self.whitening = Whitening(size) if config.text_whitening else None
        self.words = nn.Sequential(nn.Linear(size, code), nn.SiLU(), nn.Linear(code, code))
        self.no_words = nn.Parameter(torch.zeros(code))
        # three more channels say where a cell lies: a convolution cannot know otherwise, and anatomy has its place
        self.entry = nn.Conv3d(latent.channels + 3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(width, width, code, config.blocks) for width in widths[:-1])
        self.coarser = nn.ModuleList(
            nn.Conv3d(fine, coarse, stride, stride=stride)
            for fine, coarse, stride in zip(widths[:-1], widths[1:], config.strides, strict=True)
        )
        self.middle = _blocks(widths[-1], widths[-1], code, config.middle)
        words = text.width if config.text == "tokens" else 0
        self.attention = nn.ModuleList(Attention(widths[-1], config.heads, words) for _ in range(config.middle))
        self.finer = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, stride, stride=stride)
            for fine, coarse, stride in zip(widths[:-1], widths[1:], config.strides, strict=True)
        )
        self.up = nn.ModuleList(_blocks(2 * width, width, code, config.blocks) for width in widths[:-1])
        self.norm = nn.GroupNorm(8, widths[0])
        self.exit = nn.Conv3d(widths[0], latent.channels, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        assert self.exit.bias is not None
        nn.init.zeros_(self.exit.bias)
        path = locate(config.weights, component="unet3d", shipped=SHIPPED, how_to_get=HOW_TO_GET)
        if path is not None:
            self._load(path)
        self.weights = info(config.weights, path)

    def fit_texts(self, texts: Iterable[TextFeatures]) -> None:
        """Called once before training with reports that it will see. Whitening that was fitted before stays as it is."""
        if self.whitening is not None:
            self.whitening.fit_texts(texts, self.config.text)

    def forward(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """(B, c, d, h, w), (B,) or scalar in [0, 1] -> velocity (B, c, d, h, w); ConfigError if the strides do not divide."""
        return self.forward_hidden(noisy, time, condition)[0]

    def forward_hidden(self, noisy: Tensor, time: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """As ``forward``, and the cells (B, d, h, w, C) of the lowest level, after its attention."""
        self._fits(noisy)
        time = time.expand(len(noisy)).float()
        dtype = self.exit.weight.dtype
        code = self.time(sinusoids(time * TIME_FACTOR, 4 * self.config.widths[0]).to(dtype)) + self._words(condition)
        code = F.silu(code)
        cells = torch.cat((noisy, coordinates(noisy)), dim=1).to(dtype)
        # half the time of contiguous channels on a CPU
        hidden = self.entry(cells.contiguous(memory_format=torch.channels_last_3d))
        kept = []
        for blocks, coarser in zip(self.down, self.coarser, strict=True):
            hidden = self._through(blocks, hidden, code)
            kept.append(hidden)
            hidden = coarser(hidden)
        for block, attention in zip(self.middle, self.attention, strict=True):
            hidden = attention(block(hidden, code), *self._tokens(condition))
        lowest = hidden
        for blocks, finer, beside in zip(reversed(self.up), reversed(self.finer), reversed(kept), strict=True):
            hidden = self._through(blocks, torch.cat((finer(hidden), beside), dim=1), code)
        out: Tensor = self.exit(F.silu(self.norm(hidden))).to(noisy.dtype)
        if self.config.skip == "wiener":
            out = corrected(out, noisy, time, self.config.latent_std)
        return out, lowest.movedim(1, -1)

    def _through(self, blocks: Any, hidden: Tensor, code: Tensor) -> Tensor:
        for block in blocks:
            if self.config.gradient_checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(block, hidden, code, use_reentrant=False)
            else:
                hidden = block(hidden, code)
        return hidden

    def _fits(self, noisy: Tensor) -> None:
        cells, stride = tuple(noisy.shape[2:]), self.config.stride
        if any(size % step for size, step in zip(cells, stride, strict=True)):
            near = ", ".join(
                f"{size - size % step} or {size - size % step + step}"
                for size, step in zip(cells, stride, strict=True)
                if size % step
            )
            raise ConfigError(
                f"unet3d: strides, together {stride}, do not divide a volume of {cells} latent cells (d, h, w)",
                hint=f"ask for another number of slices or another size: {near} latent cells",
            )

    def _words(self, condition: Condition) -> Tensor:
        """(B, E) from the report; dropped ones are one learnt vector."""
        text = condition.text
        if self.config.text == "tokens":
            kept = text.mask.to(text.tokens.dtype)[:, :, None]
            vector = (text.tokens * kept).sum(1) / kept.sum(1).clamp_min(1.0)
        elif text.pooled is None:
            raise ConfigError("unet3d: text 'pooled', but the text features have no pooled vector", hint="write text: tokens")
        else:
            # a vector of length 1 as one of variance 1, if whitening does not see to it
            vector = text.pooled if self.whitening is not None else text.pooled * math.sqrt(text.pooled.shape[1])
        if self.whitening is not None:
            vector = self.whitening(vector)
        words: Tensor = self.words(vector.to(self.exit.weight.dtype))
        if condition.drop is None:
            return words
        return torch.where(condition.drop[:, None], self.no_words.to(words.dtype), words)

    def _tokens(self, condition: Condition) -> tuple[Tensor | None, Tensor | None]:
        """Tokens (B, L, width) and which of them may be read (B, L); None, None for pooled text."""
        if self.config.text == "pooled":
            return None, None
        text: TextFeatures = condition.text
        mask = text.mask if condition.drop is None else text.mask & ~condition.drop[:, None]
        return text.tokens.to(self.exit.weight.dtype), mask

    def _load(self, path: Path) -> None:
        """Weights as training leaves them; CheckpointError lists what does not fit."""
        try:
            found = load_file(str(path))
        except Exception as error:
            raise CheckpointError(f"unet3d: {path} is not a readable safetensors file: {error}") from error
        own = self.state_dict()
        wrong = [
            f"{key}: file {_shape(found, key)}, config {_shape(own, key)}"
            for key in sorted(found.keys() | own.keys())
            if _shape(found, key) != _shape(own, key)
        ]
        if wrong:
            raise CheckpointError(f"unet3d: {path} does not fit; {len(wrong)} differences, first: " + "; ".join(wrong[:4]))
        self.load_state_dict(found)


def _shape(state: dict[str, Tensor], key: str) -> str:
    return str(tuple(state[key].shape)) if key in state else "absent"


def _blocks(size: int, width: int, code: int, count: int) -> nn.ModuleList:
    """``count`` blocks, the first from ``size`` channels."""
    return nn.ModuleList(ResidualBlock(width if number else size, width, code) for number in range(count))
