"""What the backbones of all plugins check alike."""

from __future__ import annotations

import pytest

from ctgen.backbone_checks import misfits, text_width, undivided
from ctgen.errors import ConfigError
from ctgen.interfaces import LatentSpec, Sizes, TextSpec

POOLED, TOKENS = TextSpec(8, 16, 24), TextSpec(8, 16)


def sizes(text: TextSpec) -> Sizes:
    return Sizes((32, 64, 72), LatentSpec(4, (4, 8, 8)), text, (8, 8, 9), 6)


def test_each_axis_that_a_step_does_not_divide_is_named() -> None:
    assert list(undivided(sizes(POOLED), (2, 4, 3))) == []
    assert list(undivided(sizes(POOLED), (4, 8, 2))) == [(4, "block of 6 latent slices"), (2, "latent width 9")]


def test_one_number_or_one_per_channel_and_a_vector_where_one_is_wanted() -> None:
    assert list(misfits(sizes(POOLED), latent_std=(1.0,), text="pooled")) == []
    assert list(misfits(sizes(TOKENS), latent_std=(1.0,) * 4, text="tokens")) == []
    found = dict(misfits(sizes(TOKENS), latent_std=(1.0, 2.0), text="pooled"))
    assert found["latent_std"] == "2 numbers for 4 latent channels" and "write text: tokens" in found["text"]


def test_the_width_of_what_is_read() -> None:
    assert (text_width("net", "tokens", POOLED), text_width("net", "pooled", POOLED)) == (8, 24)
    with pytest.raises(ConfigError, match="net: text 'pooled' needs"):
        text_width("net", "pooled", TOKENS)
