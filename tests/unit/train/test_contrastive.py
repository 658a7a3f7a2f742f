from __future__ import annotations

import pytest
import torch
from torch import nn

from ctgen.data.labels import LABELS
from ctgen.errors import ConfigError, DataError, Interrupted
from ctgen.interfaces import PairEncoder, Prompt, Sizes
from ctgen.testing import MemorySource, check_objective
from ctgen.train.batches import generator_for
from ctgen.train.checkpoint import read_weights
from ctgen.train.contrastive import Contrastive
from ctgen.train.contrastive_config import ContrastiveConfig
from ctgen.train.log import read_metrics
from ctgen.train.loop import fit

from .toys import settings

SIZE = (4, 6, 8)


class Pair(nn.Module):
    """Bags of letters, and the means of a volume's eight corners."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(128, 8)
        self.corners = nn.Linear(8, 8)
        state = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=state)
        self.logit_scale = nn.Parameter(torch.tensor(5.0))
        self.heard: list[str] = []

    def report_text(self, prompt: Prompt) -> str:
        return f"Findings: {prompt.report.findings} Length: {prompt.slices}"

    def embed_texts(self, texts):
        self.heard = list(texts)
        rows = [self.letters(torch.tensor(list(text.encode()))).mean(0) for text in texts]
        return nn.functional.normalize(torch.stack(rows), dim=1)

    def embed_volumes(self, volume):
        means = nn.functional.adaptive_avg_pool3d(volume / 100, 2).flatten(1)
        return nn.functional.normalize(self.corners(means), dim=1)


class Source:
    """Case i has label i % 3, whose letters fill its report and whose corner of the volume is bright."""

    def __init__(self, count: int = 24, unlabelled: bool = False, without: int = 0) -> None:
        self.ids = [str(number) for number in range(count)]
        self.unlabelled, self.without = unlabelled, without

    def volume(self, index, slices=None):
        state = torch.Generator().manual_seed(index)
        volume = torch.zeros(SIZE)
        for place in (index % 3, 3 + index % 4):
            down, row, column = place // 4, place // 2 % 2, place % 2
            volume[2 * down : 2 * down + 2, 3 * row : 3 * row + 3, 4 * column : 4 * column + 4] = 100.0
        return volume + torch.randn(SIZE, generator=state)

    def record(self, index):
        text = "xyz"[index % 3] * 4 + "abcd"[index % 4] * 4
        report = {"findings": text, "impressions": "ok", "clinical_information": "", "technique": ""}
        labels = {LABELS[number]: int(number == index % 3) for number in range(3)}
        return {
            "id": str(index), "shape": list(SIZE), "report": None if index < self.without else report,
            "labels": None if self.unlabelled else labels, "meta": {},
        }  # fmt: skip


def build(**fields) -> Contrastive:
    return Contrastive(ContrastiveConfig(**fields), components={"text_encoder": Pair()})


def test_it_is_an_objective():
    assert isinstance(Pair(), PairEncoder)
    check_objective(build(label_weight=1.0, shift_voxels=(1, 2, 2), noise_hu=5, offset_hu=5), MemorySource(cases=4))


def test_a_batch_holds_different_cases_and_what_is_known_of_them():
    batch = build().batch(Source(), 12, generator_for(3))
    assert batch["volume"].shape == (12, 1, *SIZE)
    assert len({tuple(volume.flatten().tolist()) for volume in batch["volume"]}) == 12
    assert batch["labels"].shape == batch["known"].shape == (12, 18)
    assert batch["labels"].sum(1).tolist() == [1] * 12
    assert batch["known"].sum(0).tolist() == [12] * 3 + [0] * 15


def test_a_source_smaller_than_the_batch_gives_cases_again_and_one_without_reports_says_so():
    assert len(build().batch(Source(3), 8, generator_for(3))["texts"]) == 8
    assert build().batch(Source(8, without=6), 4, generator_for(0))["labels"].shape == (4, 18)
    with pytest.raises(DataError, match="0 of 2 cases drawn from 4 have a report"):
        build().batch(Source(4, without=4), 2, generator_for(0))


def test_reports_are_read_in_both_ways():
    texts = build(plain_text=0.5).batch(Source(64), 32, generator_for(1))["texts"]
    plain = [text for text in texts if "Findings" not in text]
    assert 5 < len(plain) < 27
    assert all(text.endswith(" ok") for text in plain)
    assert all("Findings" in text for text in build(plain_text=0).batch(Source(), 8, generator_for(1))["texts"])


def test_loss_is_that_of_clip_and_falls_to_zero_for_a_perfect_pair():
    objective = build()
    batch = objective.batch(Source(), 6, generator_for(0))
    terms = objective.loss(batch, 1, generator_for(0))
    volumes, texts = objective.model.embed_volumes(batch["volume"]), objective.model.embed_texts(batch["texts"])
    logits = 5 * volumes @ texts.T
    by_hand = -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()).mean() / 2
    assert torch.allclose(terms["loss"], by_hand)
    eye = torch.eye(6, 8)
    objective.model.embed_volumes = lambda volume: eye
    objective.model.embed_texts = lambda texts: eye
    objective.model.logit_scale.data.fill_(100.0)
    perfect = objective.loss(batch, 1, generator_for(0))
    assert float(perfect["loss"].detach()) < 1e-6
    assert float(perfect["found"]) == 1


def test_label_loss_asks_in_prompts_and_only_of_what_is_known():
    objective = build(label_weight=1.0, prompts=("has {}", "no {}"))
    batch = objective.batch(Source(), 6, generator_for(0))
    terms = objective.loss(batch, 1, generator_for(0))
    assert objective.model.heard[0] == f"has {LABELS[0]}"
    assert objective.model.heard[18] == f"no {LABELS[0]}"
    assert {"labels", "text_labels"} <= set(terms)
    assert torch.allclose(terms["loss"], terms["pairs"] + terms["labels"] + terms["text_labels"])
    flipped = {**batch, "labels": torch.where(batch["known"] > 0, batch["labels"], 1 - batch["labels"])}
    assert torch.equal(objective.loss(flipped, 1, generator_for(0))["labels"], terms["labels"])
    unknown = objective.batch(Source(unlabelled=True), 6, generator_for(0))
    assert objective.loss(unknown, 1, generator_for(0))["labels"].item() == 0


def test_training_finds_the_reports_and_a_resumed_run_equals_one_that_was_not_broken_off(tmp_path):
    fields = {"label_weight": 1.0, "candidates": 8, "noise_hu": 2.0}
    chosen = settings(steps=120, batch=8, lr=3e-2, checkpoint_every=40, log_every=40)
    source, held_out = Source(48), Source(16)
    before = build(**fields).validate(held_out)
    fit(build(**fields), source, chosen, tmp_path / "whole", spec={}, valid_source=held_out)
    calls = iter(range(200))
    with pytest.raises(Interrupted):
        fit(
            build(**fields), source, chosen, tmp_path / "broken", spec={}, valid_source=held_out,
            should_stop=lambda: next(calls) == 70,
        )  # fmt: skip
    fit(build(**fields), source, chosen, tmp_path / "broken", spec={}, valid_source=held_out)
    rows = read_metrics(tmp_path / "whole")
    scores = rows[-1]
    assert scores["valid_auroc"] > 0.95 > before["auroc"]
    assert scores["valid_retrieval"] > before["retrieval"] + 0.2
    assert scores[f"valid_auroc {LABELS[1]}"] > 0.9
    assert f"valid_auroc {LABELS[5]}" not in scores, "nothing is known of it"
    whole, broken = (
        read_weights(tmp_path / name / "checkpoints" / "step-120" / "ema.safetensors") for name in ("whole", "broken")
    )
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    same = [{key: value for key, value in row.items() if key != "seconds"} for row in read_metrics(tmp_path / "broken")]
    assert same == [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_an_encoder_without_volumes_is_refused():
    with pytest.raises(ConfigError, match="also embeds volumes; Linear does not"):
        Contrastive(ContrastiveConfig(), components={"text_encoder": nn.Linear(1, 1)})


def test_config_names_what_does_not_fit():
    config = ContrastiveConfig(prompts=("is it", "no {}"), shift_voxels=(0, 9, 0))
    sizes = Sizes(volume=SIZE, latent=None, text=None, grid=SIZE, block=1)  # type: ignore[arg-type]
    assert [field for field, _ in config.check(sizes)] == ["prompts.0", "shift_voxels"]


def test_the_head_reads_labels_of_volumes_reports_and_prompts_and_gradients_reach_both_towers():
    objective = build(head_weight=2.0)
    batch = objective.batch(Source(), 6, generator_for(0))
    terms = objective.loss(batch, 1, generator_for(0))
    read = terms["head_volumes"] + terms["head_texts"] + terms["head_prompts"]
    assert terms["loss"].item() == pytest.approx((terms["pairs"] + 2 * read).item(), rel=1e-5)
    terms["loss"].backward()
    assert objective.extra["head"].weight.grad.abs().sum() > 0
    # A prompt says something of its own label alone.
    objective.head.bias.data[4] += 100.0
    more = objective.loss(batch, 1, generator_for(0))
    assert more["head_prompts"] > terms["head_prompts"]
    assert more["head_texts"].item() == pytest.approx(terms["head_texts"].item(), rel=1e-6)
