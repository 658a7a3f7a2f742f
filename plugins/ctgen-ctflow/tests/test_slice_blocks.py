from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from ctflow_fixtures import LATENT, TEXT, draw, tensors
from ctgen_ctflow.configs import FlowMatchingConfig, SliceBlocksConfig, StditConfig
from ctgen_ctflow.flow_matching import FlowMatching
from ctgen_ctflow.slice_blocks import SliceBlocks
from ctgen_ctflow.stdit import Stdit
from torch import Tensor

from ctgen.errors import ConfigError, CtgenError
from ctgen.interfaces import Condition, Markers, TextFeatures

SHAPE = (2, 3, 3)
BLACK, WHITE = -5.0, 99.0


def markers() -> Markers:
    return Markers(torch.full((2, 1, 3, 3), BLACK), torch.full((2, 1, 3, 3), WHITE))


def ramp(depth: int) -> Tensor:
    """Slice i is filled with i, so that a block tells where it was cut."""
    return torch.arange(depth, dtype=torch.float32)[None, :, None, None].expand(2, -1, 3, 3)


def values(latent: Tensor) -> list[float]:
    assert (latent == latent[:1, :, :1, :1]).all()
    return latent[0, :, 0, 0].tolist()


def counting(end_at: int | None = None, calls: list[dict[str, object]] | None = None) -> Callable[..., Tensor]:
    """A model that draws slice i as i, and end slices from ``end_at`` on."""

    def denoise(
        *, shape: tuple[int, int, int, int], context: Tensor | None, start: int, depth: int | None, generator: object
    ) -> Tensor:
        if calls is not None:
            calls.append({"context": context, "start": start, "depth": depth})
        block = ramp(start + shape[1])[:, start:].clone()
        if end_at is not None:
            block[:, max(end_at - start, 0) :] = WHITE
        return block

    return denoise


def generate(rollout: SliceBlocks, denoise: Callable[..., Tensor], depth: int | None, head: Tensor | None = None):
    return rollout.generate(denoise, shape=SHAPE, depth=depth, markers=markers(), head=head, generator=torch.Generator())


def test_examples_are_cut_with_black_below_and_white_above() -> None:
    rollout = SliceBlocks(SliceBlocksConfig(block=4, context=3))
    generator = torch.Generator().manual_seed(0)
    starts = Counter()
    for _ in range(600):
        example = rollout.example(ramp(10), markers(), generator)
        starts[example.start] += 1
        expected = [BLACK] * 3 + list(map(float, range(10))) + [WHITE] * 20
        assert values(example.target) == expected[example.start + 3 : example.start + 7]
        assert values(example.context) == expected[example.start : example.start + 3]
        assert example.depth == 10
    assert set(starts) == set(range(13)), "up to 12, where generation finds nothing but end slices"
    assert 0.45 < starts[0] / 600 < 0.62


def test_batches_have_blocks_of_one_drawn_length_and_as_many_slices() -> None:
    rollout = SliceBlocks(SliceBlocksConfig(block=6, train_blocks=(2, 6, 4)))
    generator = torch.Generator().manual_seed(0)
    drawn = [rollout.for_batch(3, generator) for _ in range(60)]
    assert {(cut.config.block, size) for cut, size in drawn} == {(2, 9), (6, 3), (4, 4)}
    for cut, _ in drawn:
        found = cut.example(ramp(20), markers(), generator)
        assert found.target.shape[1] == cut.config.block == found.context.shape[1], "context=None: as long as the block"
    same = SliceBlocks(SliceBlocksConfig(block=6))
    assert same.for_batch(3, generator) == (same, 3)
    with pytest.raises(ValueError, match="overlap 2 must be smaller than block 2"):
        SliceBlocksConfig(block=6, train_blocks=(2,), overlap=2)


def test_no_boost_and_only_boost() -> None:
    generator = torch.Generator().manual_seed(0)
    only = SliceBlocks(SliceBlocksConfig(block=4, start_probability=1.0))
    assert {only.example(ramp(10), markers(), generator).start for _ in range(20)} == {0}
    none = SliceBlocks(SliceBlocksConfig(block=4, start_probability=0.0))
    assert sum(none.example(ramp(10), markers(), generator).start == 0 for _ in range(100)) < 25


def test_a_volume_shorter_than_a_block() -> None:
    example = SliceBlocks(SliceBlocksConfig(block=8, start_probability=1.0)).example(ramp(3), markers(), torch.Generator())
    assert values(example.target) == [0, 1, 2] + [WHITE] * 5 and values(example.context) == [BLACK] * 8


def test_example_copies_no_more_than_a_block() -> None:
    latent = torch.empty(2, 10**6, 3, 3, device="meta")
    example = SliceBlocks(SliceBlocksConfig()).example(latent, Markers(latent[:, :1], latent[:, :1]), torch.Generator())
    assert example.target.shape == example.context.shape == (2, 16, 3, 3)


@pytest.mark.parametrize("depth", [1, 4, 10, 12])
def test_explicit_length(depth: int) -> None:
    calls: list[dict[str, object]] = []
    result = generate(SliceBlocks(SliceBlocksConfig(block=4, max_blocks=1)), counting(calls=calls), depth)
    assert values(result.latent) == list(range(depth)) and result.stopped_by == "length" and not result.note
    assert result.boundaries == tuple(range(4, depth, 4))
    assert all(call["depth"] == depth for call in calls) and len(calls) == -(-depth // 4)
    assert values(calls[0]["context"]) == [BLACK] * 4
    if len(calls) > 1:
        assert values(calls[1]["context"]) == [0, 1, 2, 3]


def test_explicit_length_goes_past_the_models_end_and_says_so() -> None:
    result = generate(SliceBlocks(SliceBlocksConfig(block=4)), counting(end_at=6), 12)
    assert result.latent.shape[1] == 12 and "slices 6 to 11 are end slices" in result.note


@pytest.mark.parametrize(("redraws", "drawn", "ended"), [(0, 3, True), (1, 4, True), (2, 5, False), (5, 5, False)])
def test_a_block_that_ends_too_early_is_drawn_anew(redraws: int, drawn: int, ended: bool) -> None:
    """The second block would end at slice 6 the first two times it is drawn."""
    calls: list[dict[str, object]] = []

    def hasty(*, start: int, **given: Any) -> Tensor:
        again = sum(call["start"] == 4 for call in calls)
        return counting(end_at=6 if start == 4 and again < 2 else None, calls=calls)(start=start, **given)

    result = generate(SliceBlocks(SliceBlocksConfig(block=4, end_redraws=redraws)), hasty, 10)
    assert len(calls) == drawn and result.latent.shape[1] == 10
    assert (WHITE in values(result.latent)) == ended
    # where the model decides on the length, its end is the end
    calls.clear()
    rollout = SliceBlocks(SliceBlocksConfig(block=4, end_redraws=redraws))
    assert generate(rollout, counting(end_at=6, calls=calls), None).latent.shape[1] == 6 and len(calls) == 3


def test_end_slices_inside_a_block_are_seen_as_well() -> None:
    """A weak network can go on with a chest above them."""

    def banded(*, start: int, **given: Any) -> Tensor:
        block = counting()(start=start, **given)
        if start == 4 and 4 not in calls:
            block[:, 1:3] = WHITE
        calls.append(start)
        return block

    calls: list[int] = []
    result = generate(SliceBlocks(SliceBlocksConfig(block=4)), banded, 8)
    assert values(result.latent)[5:7] == [WHITE] * 2 and "slices 5 to 6 are end slices" in result.note
    calls.clear()
    result = generate(SliceBlocks(SliceBlocksConfig(block=4, end_redraws=1)), banded, 8)
    assert values(result.latent) == list(range(8)) and not result.note


@pytest.mark.parametrize("end_at", [3, 4, 5, 8])
def test_the_model_ends_the_volume(end_at: int) -> None:
    result = generate(SliceBlocks(SliceBlocksConfig(block=4)), counting(end_at=end_at), None)
    assert values(result.latent) == list(range(end_at)) and result.stopped_by == "end-marker"
    assert result.boundaries == tuple(range(4, end_at, 4))


def test_the_limit_is_told() -> None:
    result = generate(SliceBlocks(SliceBlocksConfig(block=4, max_blocks=3)), counting(), None)
    assert result.latent.shape[1] == 12 and result.stopped_by == "limit" and "limit of 3 blocks (12 slices)" in result.note


def test_nothing_but_end_slices_is_an_error() -> None:
    with pytest.raises(CtgenError, match="before its first slice"):
        generate(SliceBlocks(SliceBlocksConfig(block=4)), counting(end_at=0), None)


@pytest.mark.parametrize("overlap", [0, 2])
def test_head_is_kept_and_continued(overlap: int) -> None:
    calls: list[dict[str, object]] = []
    head = ramp(3) + 0.25
    rollout = SliceBlocks(SliceBlocksConfig(block=4, overlap=overlap))
    result = generate(rollout, counting(end_at=9, calls=calls), None, head)
    assert torch.equal(result.latent[:, :3], head)
    assert values(result.latent[:, 3:]) == list(range(3, 9)) and result.boundaries[0] == 3
    assert values(calls[0]["context"]) == [BLACK, 0.25, 1.25, 2.25] and calls[0]["start"] == 3
    alone = generate(rollout, counting(end_at=3), None, head)
    assert torch.equal(alone.latent, head) and alone.stopped_by == "end-marker" and alone.boundaries == ()
    with pytest.raises(ConfigError, match="more than the 2 asked for"):
        generate(rollout, counting(), 2, head)


def test_overlap_blends_linearly() -> None:
    calls: list[dict[str, object]] = []

    def constant(*, start: int, shape: tuple[int, int, int, int], **given: object) -> Tensor:
        calls.append({"start": start, **given})
        return torch.full(shape, float(len(calls) - 1))

    result = generate(SliceBlocks(SliceBlocksConfig(block=5, overlap=3)), constant, 9)
    assert values(result.latent) == pytest.approx([0, 0, 0.25, 0.5, 1.0625, 1.5, 1.75, 2, 2])
    assert [call["start"] for call in calls] == [0, 2, 4] and result.boundaries == (2, 4)
    assert values(calls[1]["context"]) == [BLACK] * 3 + [0, 0], "the context lies below the block, as in training"


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    SliceBlocks(SliceBlocksConfig(block=4)).generate(
        counting(),
        shape=SHAPE,
        depth=10,
        markers=markers(),
        head=None,
        generator=torch.Generator(),
        progress=lambda done, expected: seen.append((done, expected)),
    )
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ConfigError, match="head is"):
        generate(SliceBlocks(SliceBlocksConfig()), counting(), 4, torch.zeros(2, 2, 3, 4))
    with pytest.raises(ValueError, match="overlap 16 must be smaller than block 16"):
        SliceBlocksConfig(overlap=16)


def test_stop_rule_of_the_release(shared_folder: Path) -> None:
    io = tensors(shared_folder / "fixtures" / "ctflow-rollout" / "io.safetensors")
    rollout = SliceBlocks(SliceBlocksConfig())
    white = Markers(io["black_block_scaled"][:, :1], io["white_latent_scaled"][:, None])
    for name in "ab":
        block = io[f"stop_block_{name}"]
        assert rollout.is_end(block[:, :1], white) == bool(io[f"stop_{name}_is_stop"])
        assert rollout.kept_slices(block, white) == int(io[f"stop_{name}_kept_slices"])


@pytest.mark.parametrize(("steps", "suffix"), [(25, "_25"), (200, "")])
@torch.no_grad()
def test_three_blocks_of_the_released_sampler(shared_folder: Path, steps: int, suffix: str) -> None:
    fixtures = shared_folder / "fixtures"
    io = tensors(fixtures / "ctflow-rollout" / "io.safetensors")
    weights = str(fixtures / "ctflow-stdit" / "denoiser_ema")
    config = StditConfig(layers=3, width=64, heads=4, attention_transpose="released", weights=weights)
    model = Stdit(config, latent=LATENT, text=TEXT).eval()
    text = TextFeatures(io["text"], torch.ones(1, 1, dtype=torch.bool), io["text"][:, 0])
    times = FlowMatching(FlowMatchingConfig()).sampling_times(steps, 0)
    calls: list[int] = []

    def denoise(*, context: Tensor, **_: object) -> Tensor:
        z = io["noise"][len(calls)][None]
        calls.append(1)
        for now, after in pairwise(times):
            z = z + (after - now).float() * model(z, now, Condition(text, context=context[None]))
        return z[0]

    ends = Markers(io["black_block_scaled"][:, :1], io["white_latent_scaled"][:, None])
    rollout = SliceBlocks(SliceBlocksConfig(max_blocks=3))
    shape = (16, 8, 8)
    full = rollout.generate(denoise, shape=shape, depth=None, markers=ends, head=None, generator=torch.Generator())
    assert full.stopped_by == "limit"
    expected = io[f"blocks{suffix}"].transpose(0, 1).flatten(1, 2)
    assert (full.latent - expected).abs().max() < 1e-4
    if suffix:
        calls.clear()
        given = io[f"gt_head_blocks{suffix}"]
        result = rollout.generate(denoise, shape=shape, depth=48, markers=ends, head=given[0], generator=torch.Generator())
        assert (result.latent - given.transpose(0, 1).flatten(1, 2)).abs().max() < 1e-4


def test_draws_are_needed_only_from_the_generator() -> None:
    rollout, latent = SliceBlocks(SliceBlocksConfig(block=4)), draw(2, 20, 3, 3)
    starts = [rollout.example(latent, markers(), torch.Generator().manual_seed(5)).start for _ in range(3)]
    assert len(set(starts)) == 1
