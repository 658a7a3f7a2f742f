"""The second loss of latent-flow: where findings are, told by hidden tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import Condition
from ctgen.train.batches import generator_for
from ctgen.train.finding_head import FindingHead
from ctgen.train.latent_flow import LatentFlow

from .test_finding_weights import EFFUSION, NODULE, Masked, bits
from .test_latent_flow import Recorder, Source, build, draw


class Telling(Recorder):
    """Tokens of 2 x 3 x 2 latent cells, with the first channels of the noisy block as hidden ones."""

    hidden_width = 5
    token_cells = (2, 3, 2)
    weights = None

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(2, 5)

    def forward_hidden(self, noisy: Tensor, time: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        tokens = torch.nn.functional.avg_pool3d(noisy, self.token_cells).movedim(1, -1)
        return self(noisy, time, condition), self.mix(tokens)


class Voxels(Masked):
    def volume(self, index: int, slices: slice | None = None) -> Tensor:
        return torch.zeros(6, 12, 16)


def head() -> FindingHead:
    return FindingHead(Telling(), (1, 4, 4))


def test_tokens_hold_what_masks_say_of_their_voxels():
    """A token is 2 slices x 12 rows x 8 columns of voxels, counted from the block's first slice."""
    found = head().holds(bits(), 1, (4, 3, 4))
    assert found.shape == (2, 1, 2, 18)
    nodule, fluid = (found[..., label.bit_length() - 1] for label in (NODULE, EFFUSION))
    assert nodule.nonzero().tolist() == [[0, 0, 0]], "slice 1 is in the first token of a block from slice 1 on"
    assert fluid.nonzero().tolist() == [[1, 0, 0], [1, 0, 1]], "slices 3 and 4"
    assert not head().holds(bits(), 5, (4, 3, 4)).any()
    assert head().holds(bits(), 3, (4, 3, 4))[..., EFFUSION.bit_length() - 1].nonzero().tolist() == [[0, 0, 0], [0, 0, 1]]


def test_the_loss_falls_where_tokens_learn_to_tell_and_reaches_the_network():
    objective = build(Telling(), finding_head=0.5)
    objective.prepare(Voxels())
    assert objective.extra.head.measured
    batch = draw(objective, 8, source=Voxels())
    assert batch["holds"].shape == (8, 1, 1, 2, 18) and batch["known"].shape == (8, 18)
    assert not batch["known"][batch["spacing"][:, 2] == 5].any(), "case 4 has no masks"
    parts = objective.loss(batch, 0, generator_for(0, "loss"))
    assert parts["loss"].item() == pytest.approx(parts["loss_even"].item() + 0.5 * parts["finding_head"].item(), rel=1e-5)
    parts["loss"].backward()
    assert objective.model.mix.weight.grad.abs().sum() > 0
    assert "cell_weight" not in batch and "loss_findings" not in parts


def test_hidden_tokens_of_any_size_say_the_same():
    one = head()
    tokens, holds = torch.randn(2, 1, 1, 2, 5), torch.rand(2, 1, 1, 2, 18) < 0.3
    known = torch.ones(2, 18, dtype=torch.bool)
    assert one(tokens * 1000, holds, known).item() == pytest.approx(one(tokens, holds, known).item(), rel=1e-3)


def test_both_options_share_the_masks():
    objective = build(Telling(), finding_head=0.5, finding_share=0.2)
    objective.prepare(Voxels())
    batch = draw(objective, 8, source=Voxels())
    assert {"holds", "known", "cell_weight", "finding"} <= set(batch)
    parts = objective.loss(batch, 0, generator_for(0, "loss"))
    assert {"finding_head", "loss_findings", "loss_even"} <= set(parts)


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match="tells its hidden tokens; Recorder does not"):
        build(Recorder(), finding_head=0.5)

    class Bare(Voxels):
        def masks(self, index: int) -> None:
            return None

    with pytest.raises(DataError, match="finding_head is set, but none of the first 5 cases has masks"):
        build(Telling(), finding_head=0.5).prepare(Bare())
    plain: LatentFlow = build(Recorder())
    assert not hasattr(plain, "extra") and "holds" not in draw(plain, 2, source=Source())
