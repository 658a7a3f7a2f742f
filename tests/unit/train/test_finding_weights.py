from __future__ import annotations

import math

import pytest
import torch

from ctgen.errors import DataError
from ctgen.train.batches import generator_for
from ctgen.train.finding_weights import check_masks, finding_weights
from ctgen.train.latent_flow import LatentFlow

from .test_latent_flow import Recorder, Source, build, draw

NODULE, EFFUSION = 1 << 9, 1 << 12


def bits() -> torch.Tensor:
    """Latent cells of 1 x 4 x 4 voxels, 3 x 4 of them: one voxel of a nodule, a slice and a half of fluid from slice 3 on."""
    found = torch.zeros(6, 12, 16, dtype=torch.int32)
    found[1, 5, 2] |= NODULE
    found[3] |= EFFUSION
    found[4, :, :8] |= EFFUSION
    return found


def weigh(start: int, depth: int = 4, share: float = 0.25, cap: float = 10.0, of: torch.Tensor | None = None):
    return finding_weights(bits() if of is None else of, start, (depth, 3, 4), (1, 4, 4), share=share, cap=cap)


def test_each_finding_gets_its_share_and_no_cell_more_than_the_cap():
    weights, held = weigh(0)
    assert weights.mean().item() == pytest.approx(1)
    assert held.sum() == 1 + 12 and held[1, 1, 0] and held[3].all()
    plain = weights[0, 0, 0]
    # one cell of 48 is capped; fluid fills a quarter already
    assert (weights[1, 1, 0] / plain).item() == pytest.approx(10)
    assert torch.allclose(weights[3], plain)
    uncapped, _ = weigh(0, cap=1000.0)
    assert (uncapped[1, 1, 0] / uncapped[0, 0, 0]).item() == pytest.approx(0.25 * 48)


def test_the_larger_weight_counts_where_findings_meet():
    both = bits()
    both[3, 5, 2] |= NODULE
    weights, _ = weigh(2, of=both, share=0.6)
    fluid = 0.6 / (18 / 48)
    assert (weights[1, 0, 0] / weights[0, 0, 0]).item() == pytest.approx(fluid)
    assert (weights[1, 1, 0] / weights[0, 0, 0]).item() == pytest.approx(10)


def test_slices_after_the_volume_and_blocks_without_findings_weigh_the_same():
    weights, held = weigh(5)
    assert torch.equal(weights, torch.ones(4, 3, 4)) and not held.any()
    weights, held = weigh(4)
    assert held[0].sum() == 6 and not held[1:].any()
    assert weights.mean().item() == pytest.approx(1)
    assert torch.equal(weigh(0, of=bits()[:0])[0], torch.ones(4, 3, 4))


def test_a_latent_with_a_stride_along_the_slices():
    weights, held = finding_weights(bits(), 1, (2, 3, 4), (2, 4, 4), share=0.5, cap=10.0)
    assert held[0].all() and held[1].sum() == 6, "latent slice 1 is slices 2 and 3, slice 2 is 4 and 5"
    assert weights.mean().item() == pytest.approx(1)


class Masked(Source):
    def masks(self, index: int):
        return None if index == 4 else (bits(), torch.ones(18, dtype=torch.bool))

    def record(self, index: int):
        return super().record(index) | ({} if index == 4 else {"masks": ["Lung nodule", "Pleural effusion"]})


def test_the_loss_weighs_cells_and_tells_what_it_is_without():
    objective = build(Recorder(), finding_share=0.25)
    objective.prepare(Masked())
    batch = draw(objective, 32, source=Masked())
    assert batch["cell_weight"].shape == batch["finding"].shape == (32, 2, 3, 4)
    parts = objective.loss(batch, 0, generator_for(0, "loss"))
    plain = build(Recorder()).loss({key: batch[key] for key in draw(build(), 2)}, 0, generator_for(0, "loss"))
    assert parts["loss_even"].item() == pytest.approx(plain["loss"].item())
    squares = velocity_squares(objective, batch)
    assert parts["loss"].item() == pytest.approx((squares * batch["cell_weight"]).mean().item(), rel=1e-5)
    assert parts["loss_findings"].item() == pytest.approx(squares[batch["finding"]].mean().item(), rel=1e-5)
    assert not math.isclose(parts["loss"].item(), parts["loss_even"].item(), rel_tol=1e-4)


def velocity_squares(objective: LatentFlow, batch) -> torch.Tensor:
    """The error of a network that says 0, from the same random numbers: what is left is the velocity itself."""
    generator = generator_for(0, "loss")
    time = objective.schedule.training_times(len(batch["target"]), generator)
    noise = torch.randn(batch["target"].shape, generator=generator)
    at = objective.schedule.coefficients(time)
    rate = [value.float().reshape(-1, 1, 1, 1, 1) for value in (at.d_alpha, at.d_sigma)]
    return (rate[0] * batch["target"] + rate[1] * noise).square().mean(1)


def test_without_the_option_nothing_reads_masks_and_with_it_data_without_them_are_refused():
    assert "cell_weight" not in draw(build())
    with pytest.raises(DataError, match=r"finding_share is set, but none of the first 5 cases has masks"):
        build(finding_share=0.1).prepare(Source())
    check_masks(Masked())
