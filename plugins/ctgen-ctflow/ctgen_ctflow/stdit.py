"""CTFlow's backbone: a spatio-temporal diffusion transformer over a block of latent slices and the slices below it.

Tokens are patches; attention alternates between the tokens of one slice group (space) and the groups at one place (time).
Module names follow the released checkpoint. Positions are computed, so any block length and resolution will do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ctgen.backbone_checks import text_width
from ctgen.errors import ConfigError
from ctgen.interfaces import Condition, LatentSpec, Predicts, Sizes, TextFeatures, TextSpec, WeightsInfo
from ctgen.linear_guess import corrected
from ctgen.weights import info, locate
from ctgen_ctflow import stdit_weights
from ctgen_ctflow.configs import StditConfig
from ctgen_ctflow.stdit_description import HOW_TO_GET, own_description
from ctgen_ctflow.stdit_detail import Detail
from ctgen_ctflow.stdit_layers import (
    Block,
    FinalLayer,
    PatchEmbedding,
    TimeEmbedding,
    axis_positions,
    plane_positions,
)
from ctgen_ctflow.stdit_text import TextEmbedding

SHIPPED = {"mini": Path(__file__).parent / "weights" / "mini" / "stdit.safetensors"}

LEVEL_FACTOR = 1000.0
"""Levels are of the order of 1, sinusoids tell apart numbers that differ by 1."""
SMALLEST_TIME = 0.05
"""Where the network makes the clean latent: errors of it are divided by the time, and below this are not blown up further."""


class Stdit(nn.Module):
    """Predicts velocity (noise - data). Context slices enter as extra input channels beside the noisy ones."""

    predicts: Predicts = "velocity"
    weights: WeightsInfo

    def __init__(self, config: StditConfig, *, latent: LatentSpec, text: TextSpec) -> None:
        super().__init__()
        self.config = config
        self.channels, self.hidden_width, self.token_cells = latent.channels, config.width, config.patch
        self.text_width = text_width("stdit", config.text, text)
        width, cells = config.width, config.patch[0] * config.patch[1] * config.patch[2]
        self.x_embedder = PatchEmbedding(2 * self.channels, width, config.patch)
        self.t_embedder = TimeEmbedding(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = TextEmbedding(self.text_width, width, whitened=config.text_whitening)
        self.text_modulator = nn.Linear(width, width) if config.text_modulation else None
        self.position_embedder = TimeEmbedding(width, inputs=2) if config.position_input else None
        self.level_embedder = TimeEmbedding(width) if config.context_level_input else None
        # "auto" is "correct" until the weights say otherwise, see adopt_heads.
        swap_heads = config.attention_transpose != "released"
        self.blocks = nn.ModuleList(
            Block(width, config.heads, int(width * config.mlp_ratio), swap_heads, config.temporal_norm)
            for _ in range(config.layers)
        )
        self.final_layer = FinalLayer(width, cells * self.channels)
        self.detail = Detail(self.channels, config.detail, config.detail_layers, width) if config.detail else None
        self._initialise()
        path = locate(config.weights, component="stdit", shipped=SHIPPED, how_to_get=HOW_TO_GET)
        if path is not None:
            stdit_weights.load(self, path)
        self.weights = info(config.weights, path)
        if path is not None and self.heads_layout == "released":
            self.weights = dataclasses.replace(self.weights, source=f"{config.weights}, {stdit_weights.RELEASED_HEADS}")

    @property
    def heads_layout(self) -> Literal["correct", "released"]:
        """What ``attention_transpose`` came to: whether attention swaps heads and tokens back."""
        block = self.blocks[0]
        assert isinstance(block, Block)
        return "correct" if block.attn.swap_heads else "released"

    def adopt_heads(self, layout: Literal["correct", "released"]) -> None:
        """For attention_transpose "auto": compute as the weights were trained."""
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attn.swap_heads = block.attn_temp.swap_heads = layout == "correct"

    def file_metadata(self) -> dict[str, str]:
        """What a safetensors file with these weights should say of them."""
        return stdit_weights.metadata_of(self)

    def save_released_layout(self, folder: Path, sizes: Sizes) -> Path:
        """CTFlow's published folder, for blocks of ``sizes``; ConfigError names what the published network does not have."""
        _, height, width = sizes.grid
        return stdit_weights.save_released_layout(self, folder, (sizes.block, height, width))

    def load_metadata(self, metadata: Mapping[str, str]) -> None:
        """Heed what a file says of the weights that were just copied from it; CheckpointError if they need another config."""
        stdit_weights.heed(self, own_description(metadata), "these weights")

    def _initialise(self) -> None:
        """Output exactly zero, residual branches of temporal and text attention closed, gates small."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        proj = self.x_embedder.proj
        nn.init.xavier_uniform_(proj.weight.view(proj.weight.shape[0], -1))
        if proj.bias is not None:
            nn.init.zeros_(proj.bias)
        embedders = (self.t_embedder, self.position_embedder, self.level_embedder)
        for embedder in (one for one in embedders if one is not None):
            for layer in embedder.mlp:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.02)
        assert isinstance(self.t_block[1], nn.Linear)
        nn.init.normal_(self.t_block[1].weight, std=0.02)
        # A pooled text vector has length 1, a token has variance 1: either way the first layer's output has variance 1.
        long = self.config.text == "pooled" and not self.config.text_whitening
        nn.init.normal_(self.y_embedder.y_proj.fc1.weight, std=1.0 if long else self.text_width**-0.5)
        if self.text_modulator is not None:
            nn.init.zeros_(self.text_modulator.weight)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.zeros_(block.attn_temp.proj.weight)
            nn.init.zeros_(block.cross_attn.proj.weight)
            # One key: queries have no influence. Frozen, so that distributed training finds no unused parameter.
            block.cross_attn.q_linear.requires_grad_(self.config.text == "tokens")
        nn.init.zeros_(self.final_layer.linear.weight)
        if self.detail is not None:
            self.detail.start_closed()

    def fit_texts(self, texts: Iterable[TextFeatures]) -> None:
        """Called once before training with reports that it will see. Whitening that was fitted before stays as it is."""
        if self.y_embedder.whitening is not None:
            self.y_embedder.whitening.fit_texts(texts, self.config.text)

    def forward(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """(B, c, d, h, w), (B,) or scalar in [0, 1] -> velocity (B, c, d, h, w); block and grid are multiples of the patch."""
        return self.forward_hidden(noisy, time, condition)[0]

    def forward_hidden(self, noisy: Tensor, time: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """As ``forward``, and the tokens (B, T, rows, columns, C) two thirds of the way through the blocks."""
        y, mask = self._text(condition)
        x = torch.cat((noisy, self._context(noisy, condition.context)), dim=1)
        out, hidden = self._through(x, time, y, mask, condition.position, condition.context_level)
        if self.config.skip == "wiener":
            out = corrected(out, noisy, time, self.config.latent_std)
        if self.config.target == "clean":
            t = time.expand(len(noisy)).float().clamp_min(SMALLEST_TIME).view(-1, 1, 1, 1, 1)
            out = ((noisy.float() - out.float()) / t).to(out.dtype)
        return out, hidden

    def velocity(
        self,
        x: Tensor,
        time: Tensor,
        y: Tensor | None,
        mask: Tensor | None,
        position: Tensor | None = None,
        context_level: Tensor | None = None,
    ) -> Tensor:
        """Noisy and context channels (B, 2c, d, h, w), embedded text (B, L, C) or None (text attention is left out)."""
        return self._through(x, time, y, mask, position, context_level)[0]

    def _through(
        self,
        x: Tensor,
        time: Tensor,
        y: Tensor | None,
        mask: Tensor | None,
        position: Tensor | None,
        context_level: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        batch, _, *cells = x.shape
        for step, size in zip(self.config.patch, cells, strict=True):
            if size % step:
                raise ConfigError(f"stdit: patch {self.config.patch} does not divide a block of {tuple(cells)} latent cells")
        groups, height, width = (size // step for size, step in zip(cells, self.config.patch, strict=True))
        weight = self.final_layer.linear.weight
        tokens = self.x_embedder(x.to(weight.dtype))
        tokens = tokens + plane_positions(height, width, self.config.width, x.device).to(tokens.dtype)
        t_BC = self.t_embedder(time.expand(batch)[:, None].float() * self.config.time_factor)
        if self.position_embedder is not None:
            t_BC = t_BC + self.position_embedder(self._position(position, batch))
        if self.level_embedder is not None:
            if context_level is None:
                raise ConfigError(
                    "stdit: context_level_input is on, but the condition has no context_level",
                    hint="write context_level_input: false",
                )
            t_BC = t_BC + self.level_embedder(context_level.expand(batch)[:, None].float() * LEVEL_FACTOR)
        if self.text_modulator is not None and y is not None:
            t_BC = t_BC + self.text_modulator(_mean(y, mask))
        t_B6C = self.t_block(t_BC).view(batch, 6, self.config.width)
        positions: Tensor | None = axis_positions(groups, self.config.width, x.device).to(tokens.dtype)
        told = 2 * len(self.blocks) // 3
        for number, block in enumerate(self.blocks):
            if number == told:
                hidden = tokens
            if self.config.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, t_B6C, y, mask, positions, use_reentrant=False)
            else:
                tokens = block(tokens, t_B6C, y, mask, positions)
            # Temporal positions enter the first block only.
            positions = None
        out = self.final_layer(tokens.flatten(1, 2), t_BC)
        out = self._unpatch(out, groups, height, width).to(x.dtype)
        out = out if self.detail is None else self.detail(x, out, t_BC)
        return out, hidden.unflatten(2, (height, width))

    def _unpatch(self, out: Tensor, groups: int, height: int, width: int) -> Tensor:
        p, q, r = self.config.patch
        out = out.view(-1, groups, height, width, p, q, r, self.channels).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return out.reshape(-1, self.channels, groups * p, height * q, width * r)

    def _context(self, noisy: Tensor, context: Tensor | None) -> Tensor:
        """As many slices as the block has: the nearest ones, zeros in front if there are fewer."""
        if context is None:
            return torch.zeros_like(noisy)
        missing = noisy.shape[2] - context.shape[2]
        if missing > 0:
            context = nn.functional.pad(context, (0, 0, 0, 0, missing, 0))
        return context[:, :, context.shape[2] - noisy.shape[2] :].to(noisy.dtype)

    def _text(self, condition: Condition) -> tuple[Tensor, Tensor | None]:
        text, drop = condition.text, condition.drop
        if self.config.text == "pooled":
            if text.pooled is None:
                raise ConfigError(
                    "stdit: text 'pooled', but the text features have no pooled vector", hint="write text: tokens"
                )
            return self.y_embedder(text.pooled[:, None], drop), None
        mask = text.mask
        if drop is not None:
            first = torch.arange(mask.shape[1], device=mask.device) == 0
            mask = torch.where(drop[:, None], first, mask)
        return self.y_embedder(text.tokens, drop), mask

    def _position(self, position: Tensor | None, batch: int) -> Tensor:
        if position is None:
            raise ConfigError(
                "stdit: position_input is on, but the condition has no position", hint="write position_input: false"
            )
        return position.expand(batch, 2).float()


def _mean(y_BLC: Tensor, mask_BL: Tensor | None) -> Tensor:
    """(B, C), of a report's embedded vector or tokens."""
    if mask_BL is None:
        return y_BLC.mean(1)
    weights = mask_BL[:, :, None].to(y_BLC.dtype)
    return (y_BLC * weights).sum(1) / weights.sum(1).clamp_min(1)
