"""Words as fixed pseudo-random vectors: enough to tell reports apart, without weights or a vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ctgen.atomic import stable_hash
from ctgen.builtin.configs import HashTextConfig
from ctgen.interfaces import Prompt, TextFeatures, TextSpec, WeightsInfo

_WORD = re.compile(r"\w+")


class HashText(nn.Module):
    """Tokens are unit vectors hashed from words; ``pooled`` is the normalised sum of words and of neighbouring pairs.

    Pairs make "no effusion" differ from "effusion" beside another "no".
    """

    device_of: Tensor

    def __init__(self, config: HashTextConfig) -> None:
        super().__init__()
        self.config = config
        self.text: TextSpec = config.text_spec()
        self.weights = WeightsInfo("NONE", "hashed words")
        self.register_buffer("device_of", torch.empty(0), persistent=False)

    def encode(self, prompts: Sequence[Prompt]) -> TextFeatures:
        """Features padded to ``max_tokens``; an empty report is the one token "empty"."""
        shape = (len(prompts), self.config.max_tokens, self.config.width)
        tokens, mask = np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
        pooled = np.zeros((len(prompts), self.config.width), np.float32)
        for row, prompt in enumerate(prompts):
            words = _words(prompt)[: self.config.max_tokens]
            for place, word in enumerate(words):
                tokens[row, place] = _vector(word, self.config.width)
                mask[row, place] = True
            pairs = [f"{first} {second}" for first, second in pairwise(words)]
            total = sum((_vector(part, self.config.width) for part in (*words, *pairs)), pooled[row])
            pooled[row] = total / max(float(np.linalg.norm(total)), 1e-6)
        device = self.device_of.device
        return TextFeatures(*(torch.from_numpy(array).to(device) for array in (tokens, mask, pooled)))


def _words(prompt: Prompt) -> list[str]:
    report = prompt.report
    parts = {"findings": report.findings, "impressions": report.impressions}
    words = [word for name, text in parts.items() if text for word in (name, *_WORD.findall(text.lower()))]
    return [*(("length", str(prompt.slices)) if prompt.slices is not None else ()), *words] or ["empty"]


@lru_cache(maxsize=20_000)
def _vector(word: str, width: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    draw = np.random.Generator(np.random.PCG64(stable_hash("hash-text", word))).standard_normal(width)
    return (draw / np.linalg.norm(draw)).astype(np.float32)
