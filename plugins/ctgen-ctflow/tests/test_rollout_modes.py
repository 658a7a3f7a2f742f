"""Teacher forcing, overlap that continues what is there, and limits in every mode, with a network that is exactly right.

The network is the exact velocity of a Gaussian in which neighbouring slices are alike (correlation RHO per slice). It sees its
block alone: whatever joins two blocks is the rollout's doing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ctgen_ctflow.configs import FlowMatchingConfig, SliceBlocksConfig
from ctgen_ctflow.flow_matching import FlowMatching
from ctgen_ctflow.slice_blocks import SliceBlocks
from torch import Tensor

from ctgen.errors import ConfigError
from ctgen.interfaces import Markers
from ctgen.sample.known import continuing
from ctgen.sample.solvers import SOLVERS

CHANNELS, HEIGHT, WIDTH = 4, 12, 12
SHAPE = (CHANNELS, HEIGHT, WIDTH)
RHO = 0.97
MARKERS = Markers(torch.full((CHANNELS, 1, HEIGHT, WIDTH), -50.0), torch.full((CHANNELS, 1, HEIGHT, WIDTH), 50.0))
SCHEDULE = FlowMatching(FlowMatchingConfig())


def covariance(depth: int) -> Tensor:
    place = torch.arange(depth, dtype=torch.float64)
    return RHO ** (place[:, None] - place).abs()


def real(depth: int, seed: int = 0) -> Tensor:
    """(c, d, h, w) drawn from the Gaussian."""
    noise = torch.randn(CHANNELS, depth, HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.einsum("de,cehw->cdhw", torch.linalg.cholesky(covariance(depth)), noise).float()


def exact(z: Tensor, now: float) -> Tensor:
    """E[d_alpha x + d_sigma eps | z], block by block."""
    at = SCHEDULE.coefficients(torch.tensor(now, dtype=torch.float64))
    spread, one = covariance(z.shape[2]), torch.eye(z.shape[2], dtype=torch.float64)
    of_z = torch.linalg.inv(at.alpha**2 * spread + at.sigma**2 * one)
    gain = at.d_alpha * at.alpha * spread @ of_z + at.d_sigma * at.sigma * of_z
    return torch.einsum("de,bcehw->bcdhw", gain.float(), z)


def denoiser(solver: str = "euler", steps: int = 40, calls: list[dict[str, Any]] | None = None) -> Callable[..., Tensor]:
    def denoise(*, shape: Any, generator: torch.Generator, known: Tensor | None = None, **asked: Any) -> Tensor:
        if calls is not None:
            calls.append({"known": known, **asked})
        noise = torch.randn((1, *shape), generator=generator)
        velocity = exact if known is None else continuing(exact, known[None], noise, SCHEDULE.coefficients)
        return SOLVERS[solver](velocity, noise, SCHEDULE.sampling_times(steps, 0))[0]

    return denoise


def made(depth: int | None = 24, head: Tensor | None = None, teacher: Tensor | None = None, **fields: Any) -> Any:
    calls: list[dict[str, Any]] = []
    solver = fields.pop("solver", "euler")
    rollout = SliceBlocks(SliceBlocksConfig(**{"block": 8, **fields}))
    generator = torch.Generator().manual_seed(3)
    result = rollout.generate(
        denoiser(solver, calls=calls),
        shape=SHAPE,
        depth=depth,
        markers=MARKERS,
        head=head,
        generator=generator,
        teacher=teacher,
    )
    return result, calls


def jump(latent: Tensor, at: int) -> float:
    """Change across slice ``at``, in units of the change between neighbours of the Gaussian: 1 is seamless."""
    return float((latent[:, at] - latent[:, at - 1]).square().mean().sqrt()) / (2 - 2 * RHO) ** 0.5


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_renoised_overlap_continues_and_blending_only_fades(solver: str) -> None:
    plain, _ = made(solver=solver)
    blend, _ = made(solver=solver, overlap=4)
    renoise, _ = made(solver=solver, overlap=4, overlap_mode="renoise")
    assert (plain.boundaries, blend.boundaries, renoise.boundaries) == ((8, 16), (4, 8, 12, 16), (8, 12, 16, 20))
    assert min(jump(plain.latent, at) for at in (8, 16)) > 5, "independent blocks: sqrt(2) against sqrt(2 - 2 RHO) = 5.8"
    # replacement forgets part of what it knows while there is much noise: the seam is halved, not gone
    assert max(jump(renoise.latent, at) for at in renoise.boundaries) < 2.9
    assert max(jump(renoise.latent, at) for at in range(1, 24) if at not in renoise.boundaries) < 1.3
    # what is shared is kept as it was; mixing it with an independent draw loses half of its variance
    assert torch.equal(renoise.latent[:, :8], plain.latent[:, :8])
    assert float(blend.latent[:, 5:7].var()) < 0.65 * float(plain.latent[:, 5:7].var())
    assert max(jump(blend.latent, at) for at in range(1, 24)) < 1.6


def test_without_overlap_both_modes_are_the_same() -> None:
    plain, _ = made()
    renoise, calls = made(overlap_mode="renoise")
    assert torch.equal(plain.latent, renoise.latent) and all(call["known"] is None for call in calls)


def test_what_is_kept_is_kept_exactly_and_shown_to_the_next_block() -> None:
    result, calls = made(overlap=3, overlap_mode="renoise")
    assert [call["start"] for call in calls] == [0, 5, 10, 15, 20]
    for call in calls[1:]:
        start = call["start"]
        assert torch.equal(call["known"], result.latent[:, start : start + 3])
        below = result.latent[:, max(start - 8, 0) : start]
        assert torch.equal(call["context"][:, 8 - below.shape[1] :], below), "the context lies below the shared slices"


@pytest.mark.parametrize("given", [2, 6])
def test_a_head_is_continued_from_its_last_slices(given: int) -> None:
    head = real(given)
    result, calls = made(16, head=head, overlap=4, overlap_mode="renoise")
    shared = min(given, 4)
    assert torch.equal(result.latent[:, :given], head) and result.boundaries[0] == given
    assert torch.equal(calls[0]["known"], head[:, -shared:]) and calls[0]["start"] == given - shared
    assert jump(result.latent, given) < 0.6 * jump(made(16, head=head)[0].latent, given)


@pytest.mark.parametrize("fields", [{}, {"overlap": 3}, {"overlap": 3, "overlap_mode": "renoise"}])
def test_block_wise_sees_the_real_slices_only(fields: dict[str, Any]) -> None:
    teacher = real(21)
    result, calls = made(None, teacher=teacher, **fields)
    assert result.latent.shape[1] == 21 and result.stopped_by == "length"
    for call in calls:
        start, depth = call["start"], call["depth"]
        below = teacher[:, max(start - 8, 0) : start]
        assert depth == 21 and torch.equal(call["context"][:, 8 - below.shape[1] :], below)
        assert (call["context"][:, : 8 - below.shape[1]] == -50).all()
        if call["known"] is not None:
            assert torch.equal(call["known"], teacher[:, start : start + 3])
    assert (calls[-1]["known"] is not None) == (fields.get("overlap_mode") == "renoise")
    shorter, _ = made(10, teacher=teacher, **fields)
    assert shorter.latent.shape[1] == 10
    with pytest.raises(ConfigError, match="teacher has 21 latent slices, fewer than the 30"):
        made(30, teacher=teacher)
    with pytest.raises(ConfigError, match="teacher is"):
        made(8, teacher=teacher[:2])


@pytest.mark.parametrize("mode", ["full-body", "gt-head"])
@pytest.mark.parametrize(
    ("fields", "slices"),
    [({}, 24), ({"overlap": 2}, 20), ({"overlap": 2, "overlap_mode": "renoise"}, 20)],
)
def test_the_limit_is_told_in_every_mode(mode: str, fields: dict[str, Any], slices: int) -> None:
    head = real(8) if mode == "gt-head" else None
    result, calls = made(None, head=head, max_blocks=3, **fields)
    # after a head, mode renoise makes step slices with its first block too
    wanted = slices if head is None else 8 + slices - (2 if fields.get("overlap_mode") == "renoise" else 0)
    assert len(calls) == 3 and result.stopped_by == "limit" and result.latent.shape[1] == wanted
    assert f"limit of 3 blocks ({wanted} slices)" in result.note and "rollout.max_blocks" in result.note
    # a real volume and an explicit length know where they end: no limit
    assert made(None, teacher=real(40), max_blocks=3, **fields)[0].stopped_by == "length"
    assert made(40, head=head, max_blocks=3, **fields)[0].stopped_by == "length"


def test_an_end_slice_after_renoised_overlap_ends_the_volume() -> None:
    """The paper's rule looks at the first slice of the block: here, at the first that is new."""

    def ending(*, start: int, shape: Any, **asked: Any) -> Tensor:
        block = torch.zeros(shape)
        block[:, max(11 - start, 0) :] = 50.0
        return block

    rollout = SliceBlocks(SliceBlocksConfig(block=8, overlap=3, overlap_mode="renoise"))
    for head, slices in ((None, 11), (torch.zeros(CHANNELS, 11, HEIGHT, WIDTH), 11)):
        result = rollout.generate(
            ending, shape=SHAPE, depth=None, markers=MARKERS, head=head, generator=torch.Generator(), teacher=None
        )
        assert result.stopped_by == "end-marker" and result.latent.shape[1] == slices
