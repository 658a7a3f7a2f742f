"""What every text encoder must do."""

from __future__ import annotations

from typing import Any

import torch

from ctgen.interfaces import Prompt, Report, TextFeatures, TextSpec
from ctgen.testing.expect import close, differs, equal, expect, global_rng_untouched, shaped, weights_info

PROMPTS = (
    Prompt(Report("Moderate right pleural effusion. The heart is of normal size.", "Right pleural effusion.")),
    Prompt(Report("No pleural effusion. A nodule of 8 mm in the left lower lobe.", "Nodule."), slices=96),
    Prompt(Report("")),
    Prompt(Report("Emphysema in both upper lobes. " * 400, "Emphysema.")),
)
"""Ordinary, with a length, empty, and far too long."""


def check_text_encoder(encoder: Any, *, tolerance: float = 1e-4) -> None:
    """Shapes by ``text``, a mask with at least one token per report, determinism, independence of the rest of the batch."""
    spec = encoder.text
    expect(isinstance(spec, TextSpec), f"text: found {type(spec).__name__}, wanted a TextSpec")
    config: Any = getattr(encoder, "config", None)
    if hasattr(config, "text_spec"):
        equal("config.text_spec() and text", config.text_spec(), spec)
    weights_info(encoder)
    with torch.no_grad(), global_rng_untouched("encode"):
        features = encoder.encode(PROMPTS)
        again = encoder.encode(PROMPTS)
        alone = [encoder.encode([prompt]) for prompt in PROMPTS]
    _check_shapes(features, spec, len(PROMPTS))
    close("encode twice: tokens", again.tokens, features.tokens, 0.0)
    for row, single in enumerate(alone):
        _check_shapes(single, spec, 1)
        used, used_alone = int(features.mask[row].sum()), int(single.mask[0].sum())
        equal(f"prompt {row}: tokens in a batch and alone", used, used_alone)
        expect(used >= 1, f"prompt {row}: {used} tokens, wanted at least 1 (attention over none is not a number)")
        close(
            f"prompt {row}: tokens in a batch and alone",
            features.tokens[row][features.mask[row]],
            single.tokens[0][single.mask[0]],
            tolerance,
        )
        if features.pooled is not None and single.pooled is not None:
            close(f"prompt {row}: pooled in a batch and alone", features.pooled[row], single.pooled[0], tolerance)
    for other in range(1, len(PROMPTS)):
        first, second = (features.tokens[row][features.mask[row]] for row in (0, other))
        differs(f"tokens of prompts 0 and {other}", first, second)
        if features.pooled is not None:
            differs(f"pooled of prompts 0 and {other}", features.pooled[0], features.pooled[other])


def _check_shapes(features: Any, spec: TextSpec, batch: int) -> None:
    expect(isinstance(features, TextFeatures), f"encode: found {type(features).__name__}, wanted TextFeatures")
    length = features.tokens.shape[1]
    expect(length <= spec.max_tokens, f"encode: {length} tokens, wanted at most text.max_tokens = {spec.max_tokens}")
    shaped("encode: tokens", features.tokens, batch, length, spec.width)
    shaped("encode: mask", features.mask, batch, length)
    equal("encode: mask dtype", features.mask.dtype, torch.bool)
    if spec.pooled_width is None:
        expect(features.pooled is None, "encode: a pooled vector, but text.pooled_width is None")
    else:
        expect(features.pooled is not None, f"encode: no pooled vector, but text.pooled_width is {spec.pooled_width}")
        shaped("encode: pooled", features.pooled, batch, spec.pooled_width)
