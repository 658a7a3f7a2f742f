"""The pixel mapping: window ends, white, clipping, and the way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.flux_vae_pixels import PixelMap
from ctgen_ctflow.taef1_config import Taef1Config
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

RANGES = [(0.0, 0.8333), (-1.0, 1.0), (0.0, 1.0), (-0.37, 0.61)]
WINDOWS = [(-1000.0, 1000.0), (-1350.0, 150.0), (-1024.0, 3071.0)]


@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("window", WINDOWS)
def test_every_whole_hu_from_black_to_white_comes_back(ends: tuple[float, float], window: tuple[float, float]) -> None:
    mapping = PixelMap(window, ends)
    black, white = mapping.markers_hu
    assert black == window[0] and white >= window[1] - 1e-6
    hu = torch.arange(int(black), int(white) + 1, dtype=torch.float32)
    back = mapping.to_hu(mapping.to_pixels(hu))
    assert torch.equal(back.round(), hu)
    assert (back - hu).abs().max() <= (white - black) * 2**-22


@given(
    hu=st.lists(st.floats(-1e5, 1e5, width=32), min_size=1, max_size=50),
    low=st.floats(-2000, 500),
    span=st.floats(100, 5000),
    start=st.floats(-2, 0.5),
    share=st.floats(0.1, 1.0),
)
def test_any_window_and_range(hu: list[float], low: float, span: float, start: float, share: float) -> None:
    """Inside, it inverts; below, HU become the window's lower end; above white, white."""
    mapping = PixelMap((low, low + span), (start, start + share * (1.0 - start)))
    given_hu = torch.tensor(hu, dtype=torch.float64)
    pixels = mapping.to_pixels(given_hu)
    assert pixels.min() >= start and pixels.max() <= 1.0
    wanted = given_hu.clamp(*mapping.markers_hu)
    torch.testing.assert_close(mapping.to_hu(pixels), wanted, rtol=0, atol=1e-9 * (span + abs(low)) / share)
    back = mapping.to_hu(mapping.to_pixels(given_hu.float()))
    torch.testing.assert_close(back.double(), wanted, rtol=0, atol=(span + abs(low)) / share * 2**-20)


@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("window", WINDOWS)
def test_the_windows_ends_land_on_the_ranges(ends: tuple[float, float], window: tuple[float, float]) -> None:
    mapping = PixelMap(window, ends)
    low, high = mapping.to_pixels(torch.tensor(window)).tolist()
    assert low == np.float32(ends[0]) and high == pytest.approx(ends[1], abs=2e-7)
    assert mapping.to_pixels(torch.tensor([window[0] - 1, -30000.0])).tolist() == [low, low]
    assert mapping.to_pixels(torch.tensor([30000.0])).tolist() == [1.0]
    assert [mapping.to_hu(end) for end in ends] == pytest.approx(window)


def test_white_is_kept_free_in_the_release_and_not_by_flux() -> None:
    assert PixelMap((-1000.0, 1000.0), (0.0, 0.8333)).markers_hu == (-1000.0, pytest.approx(1400.1, abs=0.1))
    assert PixelMap((-1000.0, 1000.0), (-1.0, 1.0)).markers_hu == (-1000.0, 1000.0)


@pytest.mark.parametrize("config", [FluxVaeConfig, Taef1Config])
@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"range": (0.0, 255.0)}, "range", "ends at 255.0"),
        ({"range": (1.0, -1.0)}, "range", "out of order: 1.0 .. -1.0"),
        ({"window_hu": (100.0, 100.0)}, "window_hu", "out of order: 100.0 .. 100.0 HU"),
    ],
)
def test_what_cannot_be_a_mapping_is_said(config: Any, fields: dict[str, Any], key: str, words: str) -> None:
    problems = dict(config(weights="random", **fields).check(None))
    assert words in problems[key]


@pytest.mark.parametrize("config", [FluxVaeConfig, Taef1Config])
def test_fields_that_slice_codecs_share(config: Any) -> None:
    made = config(weights="random")
    assert (made.chunk, made.precision, made.range) == ("auto", "float32", (0.0, 0.8333))
    assert config(weights="random", chunk=3).identity() == made.identity()
    assert config(weights="random", precision="bfloat16").identity() != made.identity()
    for wrong in ({"chunk": 0}, {"chunk": "most"}, {"precision": "auto"}, {"range": (0.0,)}):
        with pytest.raises(ValidationError):
            config(weights="random", **wrong)
