"""What a CT-CLIP checkpoint holds, for people: ``describe(path).lines()``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ctgen_ctflow.ct_clip_sizes import HEAD_WIDTH, ImageSizes, TextSizes
from ctgen_ctflow.ct_clip_weights import open_checkpoint


@dataclass(frozen=True)
class Description:
    path: Path
    kind: str
    entries: int
    """Tensors in the file, those that nothing reads included."""
    values: int
    """Numbers in the tensors that are read."""
    precision: dict[str, int]
    """Those numbers by data type, most frequent first."""
    text: TextSizes | None
    text_heads: str
    """Where the number of text heads is from."""
    image: ImageSizes | None
    latent: int | None
    skipped: dict[str, str]
    """Names that nothing reads, each with the reason."""

    def lines(self) -> list[str]:
        """A short account for a terminal."""
        shown = ", ".join(f"{name} ({count:,})" for name, count in self.precision.items())
        lines = [f"{self.path}: {self.kind}", f"entries: {self.entries}, {self.values:,} values read; precision: {shown}"]
        if (text := self.text) is not None:
            lines.append(
                f"text tower: {text.layers} x {text.width}, heads: {text.heads or '?'} ({self.text_heads}), feed-forward "
                f"{text.feed_forward}, {text.positions} positions, vocabulary of {text.vocabulary} tokens"
            )
        if (image := self.image) is not None:
            codes = f"{image.codes} codes" if image.quantised else "no codebook"
            lines.append(
                f"image tower: {image.spatial_layers} + {image.temporal_layers} layers x {image.width}, {image.heads} heads x "
                f"{image.head_width}, {codes}, patches of {image.patch_slices} x {image.patch} x {image.patch}, "
                f"slices of {image.pixels} x {image.pixels}"
            )
        if self.latent is not None:
            lines.append(f"latent: {self.latent}")
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            lines.append(f"skipped: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "") + f" ({reason})")
        return lines + [f"loads as: {use}" for use in self.uses()]

    def uses(self) -> list[str]:
        """What reads the file, with the fields that it calls for."""
        uses = []
        if (text := self.text) is not None:
            fields = {"layers": text.layers, "width": text.width, "heads": text.heads or "?", "feed_forward": text.feed_forward}
            fields |= {"positions": text.positions} | ({"latent": self.latent} if self.latent else {})
            uses.append("text_encoder {use: ct-clip, " + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}")
        if self.text is not None and self.image is not None and self.latent is not None:
            uses.append("both towers: ctgen_ctflow.ct_clip.CtClip.load")
        return uses or ["nothing on its own"]


def describe(path: Path, text_heads: int | None = None) -> Description:
    """CheckpointError, as from loading, if the file is unreadable, unsafe or not CT-CLIP's."""
    checkpoint = open_checkpoint(path, text_heads)
    precision: Counter[str] = Counter()
    for value in checkpoint.tensors.values():
        precision[str(value.dtype).removeprefix("torch.")] += value.numel()
    told = bool(text_heads) or checkpoint.heads_stated
    known = checkpoint.text is not None and checkpoint.text.heads
    return Description(
        path=checkpoint.path,
        kind=checkpoint.looks_like,
        entries=len(checkpoint.tensors) + len(checkpoint.skipped),
        values=sum(precision.values()),
        precision=dict(precision.most_common()),
        text=checkpoint.text,
        text_heads="stated" if told else f"assumed, {HEAD_WIDTH} channels each" if known else "in no tensor",
        image=checkpoint.image,
        latent=checkpoint.latent,
        skipped=dict(checkpoint.skipped),
    )
