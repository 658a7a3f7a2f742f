"""CT-CLIP whole: reports and volumes in one space. For CLIP scores and zero-shot labels; not a component of the pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from ctgen.atomic import write_atomically
from ctgen.data.labels import LABELS
from ctgen.errors import CheckpointError
from ctgen.interfaces import Prompt, Report, WeightsInfo
from ctgen.safetensors_file import save_file
from ctgen.volume import Volume
from ctgen.weights import info, locate
from ctgen_ctflow.ct_clip_layout import HOW_TO_GET, MINI_PAIR, differences
from ctgen_ctflow.ct_clip_preprocess import Rule
from ctgen_ctflow.ct_clip_preprocess import prepare as prepare_volume
from ctgen_ctflow.ct_clip_sizes import HEAD_WIDTH, CtClipSizes
from ctgen_ctflow.ct_clip_text import open_vocabulary, text_tower, warn_cut
from ctgen_ctflow.ct_clip_weights import Checkpoint, open_checkpoint, shortened
from ctgen_ctflow.ct_vit import CtVit
from ctgen_ctflow.prompt_template import Template, render
from ctgen_ctflow.wordpiece import TextCounts, WordPiece

SHIPPED = {"mini": MINI_PAIR}
TEXTS_AT_ONCE = 32
PROMPTS = ("{} is present.", "{} is not present.")
"""The authors' two sentences for a label."""


class CtClip(nn.Module):
    """Both towers with their projections. ``encode_*`` run without gradients.

    Latents are (B, ``sizes.latent``) of unit length. ``temperature`` is stored as a logarithm: similarity is
    cosine * exp(temperature). Volumes are as ``ct_clip_preprocess.prepare`` gives them: (B, 1, z, x, y) in [-1, 1].
    """

    weights: WeightsInfo
    skipped: dict[str, str]
    """Entries of the weights file that nothing reads, and why."""
    counts: TextCounts
    """All texts encoded so far: how many were cut, how many words were unknown."""

    def __init__(self, sizes: CtClipSizes, vocabulary: WordPiece) -> None:
        super().__init__()
        self.sizes = sizes
        self.vocabulary = vocabulary
        self.counts = TextCounts()
        self.skipped = {}
        self.weights = info("random", None)
        self.text_transformer = text_tower(sizes.text, padding=vocabulary.padding)
        self.to_text_latent = nn.Linear(sizes.text.width, sizes.latent, bias=False)
        # Filled from a file most of the time: 300 million random numbers would be drawn for nothing.
        with torch.device("meta"):
            self.image_transformer = CtVit(sizes.image)
            self.to_image_latent = nn.Linear(sizes.image.pooled, sizes.latent, bias=False)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        vocabulary: str | Path,
        text_heads: int | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """CT-CLIP_v2.pt or a file of ours (``save``, or what ``ct-clip-pair`` was trained to), with its vocabulary: CXR-BERT's,
        or "mini" for weights made with that. Sizes come from the tensors, or from the file's header if it is ours.


        ``text_heads``: no tensor shows it; None is 64 channels per head, as in every published BERT.
        MissingFileError, or CheckpointError with all that does not fit.
        """
        found = locate(str(path), component="ct-clip", shipped=SHIPPED, how_to_get=HOW_TO_GET)
        if found is None:
            raise CheckpointError("ct-clip: both towers cannot be random", hint=HOW_TO_GET)
        checkpoint = open_checkpoint(found, text_heads)
        if checkpoint.sizes is None:
            raise CheckpointError(
                f"ct-clip: {checkpoint.path} is {checkpoint.looks_like}; scores need both towers and their projections",
                hint=HOW_TO_GET,
            )
        if not checkpoint.sizes.text.heads:
            raise CheckpointError(
                f"ct-clip: the text tower is {checkpoint.sizes.text.width} wide, and its number of heads is in no tensor "
                f"(published BERTs have {HEAD_WIDTH} channels each)",
                hint="give text_heads=N",
            )
        words = open_vocabulary(str(vocabulary), checkpoint.sizes.text.positions)
        words.must_fit(checkpoint.sizes.text.vocabulary, checkpoint.path)
        model = cls(checkpoint.sizes, words)
        model._fill(checkpoint)
        model.weights = info(str(path), checkpoint.path)
        return model.to(device).eval()

    def save(self, path: Path) -> Path:
        """Our own layout: one safetensors file that states its sizes."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        metadata = {"format": "pt", "ct-clip": json.dumps(self.sizes.as_dict(), sort_keys=True)}
        return write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts as they are; TruncationWarning when the first are longer than the model reads."""
        parts = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            ids, mask, counts = self.vocabulary.encode(texts[start : start + TEXTS_AT_ONCE])
            if counts.cut and not self.counts.cut:
                warn_cut(counts, self.vocabulary.max_tokens)
            self.counts += counts
            parts.append(self.text_latents(ids, mask))
        return torch.cat(parts) if parts else self.temperature.new_zeros(0, self.sizes.latent)

    def encode_reports(self, reports: Sequence[Report], template: Template = "findings+impression") -> Tensor:
        """Reports in a template and CT-CLIP's cleaning; the default is what its authors score with."""
        return self.encode_text([render(Prompt(report), template) for report in reports])

    def prepare(self, volume: Volume, rule: Rule = "ct-clip") -> Tensor:
        """(1, z, x, y) of any volume in HU, at the size and spacing of this network."""
        image = self.sizes.image
        size = (image.slices, image.pixels, image.pixels)
        return prepare_volume(volume, size=size, rule=rule, target_mm=image.spacing_mm)

    @torch.no_grad()
    def encode_image(self, volumes: Tensor) -> Tensor:
        return self.image_latents(volumes)

    def text_latents(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) token ids and mask."""
        device = self.temperature.device
        hidden = self.text_transformer(input_ids=ids.to(device), attention_mask=mask.to(device).long()).last_hidden_state
        return F.normalize(self.to_text_latent(hidden[:, 0]), dim=-1)

    def image_latents(self, volumes: Tensor) -> Tensor:
        """(B, 1, z, x, y). The quantiser, if there is one, stops gradients: only the codebook's choice matters after it."""
        pooled, _ = self.image_transformer.embed(volumes.to(self.temperature.device, self.to_image_latent.weight.dtype))
        return F.normalize(self.to_image_latent(pooled), dim=-1)

    @torch.no_grad()
    def similarity(self, texts: Tensor, images: Tensor) -> Tensor:
        """Latents (A, l) and (B, l) -> (A, B): cosine * exp(temperature)."""
        return texts @ images.T * self.temperature.exp()

    def zero_shot(self, volumes: Tensor, labels: Sequence[str] = LABELS) -> Tensor:
        """(B, labels) probabilities: each label's presence against its absence, one softmax per label."""
        asked = [prompt.format(label) for label in labels for prompt in PROMPTS]
        logits = self.similarity(self.encode_image(volumes), self.encode_text(asked))
        pairs: Tensor = logits.reshape(len(volumes), len(labels), len(PROMPTS)).softmax(dim=-1)
        return pairs[..., 0]

    def _fill(self, checkpoint: Checkpoint) -> None:
        problems = differences(checkpoint.tensors, self.state_dict())
        if problems:
            raise CheckpointError(
                f"ct-clip: {checkpoint.path} ({checkpoint.looks_like}) does not fit the sizes it seems to have, "
                f"{len(problems)} tensors differ:\n  {shortened(problems)}",
                hint=HOW_TO_GET,
            )
        # Copies: an opened file's tensors are views into it.
        state = {name: value.to(torch.float32, copy=True) for name, value in checkpoint.tensors.items()}
        self.load_state_dict(state, assign=True)
        self.skipped = dict(checkpoint.skipped)
