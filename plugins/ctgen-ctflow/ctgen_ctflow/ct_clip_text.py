"""CT-CLIP's text tower: a BERT. Tokens are its last hidden states; token 0 at unit length is the report's vector."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from ctgen.errors import CheckpointError, ConfigError
from ctgen.interfaces import Prompt, TextFeatures, TextSpec, WeightsInfo
from ctgen.weights import info, locate
from ctgen_ctflow import ct_clip_layout, ct_clip_weights, wordpiece
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.ct_clip_sizes import TextSizes
from ctgen_ctflow.prompt_template import render
from ctgen_ctflow.wordpiece import TextCounts, WordPiece

_MINI = Path(__file__).parent / "weights" / "mini"
SHIPPED = {"mini": ct_clip_layout.MINI_PAIR}
SHIPPED_VOCABULARY = {"mini": _MINI / "vocab.txt"}


class TruncationWarning(UserWarning):
    """Texts were longer than the encoder reads."""


class CtClipText(nn.Module):
    """``encode`` is differentiable; dropout acts in training mode only. Padding has no influence and its features are zero."""

    text: TextSpec
    weights: WeightsInfo
    skipped: tuple[str, ...] = ()
    """What the weights file held beyond the text tower."""
    counts: TextCounts
    """Everything encoded so far: how many texts, how many of them cut, how many words unknown."""

    def __init__(self, config: CtClipConfig) -> None:
        super().__init__()
        self.config = config
        self.text = config.text_spec()
        self.counts = TextCounts()
        path = locate(config.weights, component="ct-clip", shipped=SHIPPED, how_to_get=ct_clip_layout.HOW_TO_GET)
        self.tokeniser = open_vocabulary(config.vocabulary, config.max_tokens)
        if config.vocabulary_size is not None and config.vocabulary_size < self.tokeniser.size:
            raise ConfigError(
                f"ct-clip: vocabulary_size {config.vocabulary_size} is less than the vocabulary's {self.tokeniser.size} words"
            )
        self.sizes = TextSizes(
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            feed_forward=config.feed_forward,
            positions=config.positions or config.max_tokens,
            vocabulary=config.vocabulary_size or self.tokeniser.size,
        )
        self.text_transformer = text_tower(self.sizes, padding=self.tokeniser.padding, dropout=config.dropout)
        if path is None and config.position_table == "waves":
            wave_positions(self.text_transformer.embeddings.position_embeddings)
        if config.latent is not None:
            self.to_text_latent = nn.Linear(config.width, config.latent, bias=False)
        if path is not None:
            self.skipped = ct_clip_weights.load_text(self, path, config.heads)
        self.weights = info(config.weights, path)
        self.eval()

    def encode(self, prompts: Sequence[Prompt]) -> TextFeatures:
        """In the config's ``output``; TruncationWarning when the first prompts are cut, ``counts`` goes on counting."""
        return self.encode_texts(self._texts(prompts))

    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Texts as they are, in no template."""
        ids, mask = self._counted(texts)
        device = self.text_transformer.embeddings.word_embeddings.weight.device
        features: TextFeatures = self(ids.to(device), mask.to(device))
        return features

    def latents(self, prompts: Sequence[Prompt]) -> Tensor:
        """(B, latent) of unit length, to compare with the image tower's; ConfigError if ``latent`` is not set."""
        if self.config.latent is None:
            raise ConfigError(
                "ct-clip: the projection to the CLIP latent is not loaded", hint="set text_encoder.latent=512 (CT-CLIP_v2.pt)"
            )
        return self._latents(*self.tokenise(prompts))

    def _latents(self, ids: Tensor, mask: Tensor) -> Tensor:
        device = self.to_text_latent.weight.device
        hidden = self.text_transformer(input_ids=ids.to(device), attention_mask=mask.to(device).long())
        return to_latent(self.to_text_latent, hidden.last_hidden_state[:, 0])

    def tokenise(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, L) of the prompts in the config's template."""
        return self._counted(self._texts(prompts))

    def _counted(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids, mask, counts = self.tokeniser.encode(texts)
        if counts.cut and not self.counts.cut:
            warn_cut(counts, self.config.max_tokens)
        self.counts += counts
        return ids, mask

    def token_counts(self, prompts: Sequence[Prompt]) -> TextCounts:
        """What ``encode`` would cut and not know, without encoding; ``counts`` stays."""
        return self.tokeniser.count(self._texts(prompts))

    def forward(self, ids: Tensor, mask: Tensor) -> TextFeatures:
        """(B, L) int64 and bool -> tokens (B, L, E), mask, pooled (B, E) of unit length; what ``output`` leaves of them."""
        hidden = self.text_transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        first = hidden[:, 0]
        # The released sampler adds 1e-6 to the norm.
        pooled = first / (torch.linalg.vector_norm(first, dim=-1, keepdim=True) + 1e-6)
        if self.config.output == "vector":
            return TextFeatures(hidden[:, :1], mask[:, :1], pooled)
        return TextFeatures(hidden * mask[:, :, None], mask, None if self.config.output == "tokens" else pooled)

    def _texts(self, prompts: Sequence[Prompt]) -> list[str]:
        return [render(prompt, self.config.template) for prompt in prompts]


def to_latent(projection: nn.Linear, pooled: Tensor) -> Tensor:
    """(B, E) -> (B, latent) of unit length, in the projection's precision also under autocast.

    All latents of a network at its start lie close together: in bfloat16 what tells them apart is lost in rounding (for texts:
    differences of 0.0028 with an error of 0.0027), and training is slow to begin.
    """
    with torch.autocast(pooled.device.type, enabled=False):
        return F.normalize(projection(pooled.to(projection.weight.dtype)), dim=-1)


def text_tower(sizes: TextSizes, *, padding: int = 0, dropout: float = 0.0) -> BertModel:
    """A BERT without the pooler, which CT-CLIP does not read; random weights."""
    settings = BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.feed_forward,
        max_position_embeddings=sizes.positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=padding,
    )
    return BertModel(settings, add_pooling_layer=False)


@torch.no_grad()
def wave_positions(table: nn.Embedding) -> None:
    """Sines and cosines (1706.03762), of the mean square that the table has."""
    count, width = table.weight.shape
    rates = 10000.0 ** -(torch.arange(0, width, 2) / width)
    angles = torch.arange(count)[:, None] * rates
    waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
    table.weight.copy_(waves * (table.weight.square().mean() / waves.square().mean()).sqrt())


def open_vocabulary(ref: str, max_tokens: int) -> WordPiece:
    """``ref`` as in a recipe: "mini", a path, or hf:owner/name."""
    path = locate(ref, component="ct-clip vocabulary", shipped=SHIPPED_VOCABULARY, how_to_get=wordpiece.HOW_TO_GET)
    if path is None:
        raise CheckpointError("ct-clip: a vocabulary cannot be random", hint=wordpiece.HOW_TO_GET)
    return WordPiece(path, max_tokens)


def warn_cut(counts: TextCounts, limit: int) -> None:
    warnings.warn(
        f"ct-clip: {counts.cut} of {counts.texts} texts were cut to {limit} tokens (the longest has {counts.longest}); further "
        "ones are counted, not warned of",
        TruncationWarning,
        stacklevel=4,
    )
