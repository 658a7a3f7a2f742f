"""What backbones' configs check alike, whichever plugin they come from. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from ctgen.errors import ConfigError
from ctgen.interfaces import Sizes, TextSpec

TextUse = Literal["pooled", "tokens"]
""""pooled": one vector per report; "tokens": a vector per token."""
NO_VECTOR = "text 'pooled' needs a text encoder with a pooled vector"
INSTEAD = "write text: tokens"


def undivided(sizes: Sizes, steps: Sequence[int]) -> Iterator[tuple[int, str]]:
    """(step, what it does not divide) for each axis (d, h, w) of the block that the backbone sees."""
    _, height, width = sizes.grid
    names = ("block of {} latent slices", "latent height {}", "latent width {}")
    for step, cells, name in zip(steps, (sizes.block, height, width), names, strict=True):
        if cells % step:
            yield step, name.format(cells)


def misfits(sizes: Sizes, *, latent_std: Sequence[float], text: TextUse) -> Iterator[tuple[str, str]]:
    """As ComponentConfig.check, for the fields ``latent_std`` (one number, or one per latent channel) and ``text``."""
    if len(latent_std) not in (1, sizes.latent.channels):
        yield "latent_std", f"{len(latent_std)} numbers for {sizes.latent.channels} latent channels"
    if text == "pooled" and sizes.text.pooled_width is None:
        yield "text", f"{NO_VECTOR}, this one has none; {INSTEAD}"


def text_width(component: str, text: TextUse, spec: TextSpec) -> int:
    """Of the vectors that the backbone is given; ConfigError if the encoder has none of the kind."""
    if text == "tokens":
        return spec.width
    if spec.pooled_width is None:
        raise ConfigError(f"{component}: {NO_VECTOR}", hint=INSTEAD)
    return spec.pooled_width
