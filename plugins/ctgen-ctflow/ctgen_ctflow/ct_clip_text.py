"""CT-CLIP's text tower: a BERT. Tokens are its last hidden states; token 0 at unit length is the report's vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from ctgen.interfaces import Prompt, TextFeatures, TextSpec, WeightsInfo
from ctgen.weights import info, locate
from ctgen_ctflow import ct_clip_weights
from ctgen_ctflow.configs import CtClipConfig
from ctgen_ctflow.prompt_template import render
from ctgen_ctflow.wordpiece import WordPiece

_MINI = Path(__file__).parent / "weights" / "mini"
SHIPPED = {"mini": _MINI / "ct_clip.safetensors"}
SHIPPED_VOCABULARY = {"mini": _MINI / "vocab.txt"}


class CtClipText(nn.Module):
    """``encode`` is differentiable; dropout acts in training mode only. Padding has no influence and its features are zero."""

    text: TextSpec
    weights: WeightsInfo
    skipped: tuple[str, ...] = ()
    """What the weights file held beyond the text tower."""

    def __init__(self, config: CtClipConfig) -> None:
        super().__init__()
        self.config = config
        self.text = config.text_spec()
        path = locate(config.weights, component="ct-clip", shipped=SHIPPED, how_to_get=ct_clip_weights.HOW_TO_GET)
        vocabulary = locate(
            config.vocabulary,
            component="ct-clip vocabulary",
            shipped=SHIPPED_VOCABULARY,
            how_to_get=ct_clip_weights.HOW_TO_GET_VOCABULARY,
        )
        assert vocabulary is not None, "the config refuses a random vocabulary"
        self.tokeniser = WordPiece(vocabulary, config.max_tokens)
        settings = BertConfig(
            vocab_size=self.tokeniser.size,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.feed_forward,
            max_position_embeddings=config.positions or config.max_tokens,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
        self.text_transformer = BertModel(settings, add_pooling_layer=False)
        if path is not None:
            self.skipped = ct_clip_weights.load(self.text_transformer, path)
        self.weights = info(config.weights, path)
        self.eval()

    def encode(self, prompts: Sequence[Prompt]) -> TextFeatures:
        ids, mask = self.tokenise(prompts)
        device = self.text_transformer.embeddings.word_embeddings.weight.device
        features: TextFeatures = self(ids.to(device), mask.to(device))
        return features

    def tokenise(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, L) of the prompts in the config's template."""
        return self.tokeniser([render(prompt, self.config.template) for prompt in prompts])

    def forward(self, ids: Tensor, mask: Tensor) -> TextFeatures:
        """(B, L) int64 and bool -> tokens (B, L, E), mask, pooled (B, E) of unit length."""
        hidden = self.text_transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        first = hidden[:, 0]
        # The released sampler adds 1e-6 to the norm.
        pooled = first / (torch.linalg.vector_norm(first, dim=-1, keepdim=True) + 1e-6)
        return TextFeatures(hidden * mask[:, :, None], mask, pooled)
