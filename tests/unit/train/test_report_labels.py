from __future__ import annotations

import pytest
import torch
from torch import nn

from ctgen.data.labels import LABELS
from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import Objective, Prompt, Report, TextFeatures, TextSpec
from ctgen.train.batches import generator_for
from ctgen.train.checkpoint import load_weights
from ctgen.train.composed_texts import FACTS
from ctgen.train.configs import ReportLabelsConfig
from ctgen.train.log import read_metrics
from ctgen.train.loop import fit
from ctgen.train.report_labels import ReportLabels, facts

from .toys import settings


class Encoder(nn.Module):
    """A bag of characters; the pooled vector has unit length, as CT-CLIP's."""

    def __init__(self, pooled: bool = True) -> None:
        super().__init__()
        self.text = TextSpec(16, 8, 16 if pooled else None)
        self.table = nn.Embedding(128, 16)
        nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(0))

    def encode(self, prompts: list[Prompt]) -> TextFeatures:
        self.prompts = prompts
        rows = [self.table(torch.tensor(list(prompt.report.findings.encode()))) for prompt in prompts]
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        pooled = nn.functional.normalize(torch.stack([row.mean(0) for row in rows]), dim=1)
        return TextFeatures(tokens, mask, pooled if self.text.pooled_width else None)


class Source:
    """Case i is positive for label i; every third has no labels, every fourth no report."""

    def __init__(self, count: int = 18) -> None:
        self.ids = [str(number) for number in range(count)]

    def record(self, index):
        report = {"findings": chr(65 + index) * 3, "impressions": "", "clinical_information": "", "technique": ""}
        labels = {name: int(number == index) for number, name in enumerate(LABELS)}
        side = "left" if index % 2 else "right"
        return {
            "id": str(index), "shape": [40, 8, 8], "report": None if index % 4 == 3 else report,
            "labels": None if index % 3 == 2 else labels,
            "meta": {"findings": [{"name": LABELS[index].replace(" ", "_").lower(), "side": side, "size": "large"}]},
        }  # fmt: skip


def build(pooled: bool = True, **fields) -> ReportLabels:
    return ReportLabels(ReportLabelsConfig(**fields), components={"text_encoder": Encoder(pooled)}, schedule=None, rollout=None)


def test_prompts_and_plain_texts_are_learnt_where_they_are_asked_for():
    class Reading(Encoder):
        def encode_texts(self, texts):
            self.read = [*getattr(self, "read", []), *texts]
            return super().encode([Prompt(Report(findings=text)) for text in texts])

    made = {"components": {"text_encoder": Reading()}, "schedule": None, "rollout": None}
    objective = ReportLabels(ReportLabelsConfig(plain_text=0.5, prompt_weight=1.0, facts=0.0), **made)
    batch = objective.batch(Source(), 40, generator_for(1))
    plain = [prompt for prompt in batch["prompts"] if isinstance(prompt, str)]
    assert 8 < len(plain) < 32
    terms = objective.loss(batch, 1, generator_for(1))
    assert terms["loss"].item() == pytest.approx(float((terms["labels"] + terms["prompts"]).detach()), rel=1e-6)
    assert objective.model.read == [*plain, *objective.asked]
    assert objective.asked[0] == "Medical material is present."
    # only what a prompt speaks of counts: a head that says yes to everything is wrong about every second one
    with torch.no_grad():
        objective.extra[1].bias.fill_(20.0)
    assert objective.loss(batch, 1, generator_for(1))["prompts"] == pytest.approx(10.0, rel=0.01)

    with pytest.raises(ConfigError, match="Encoder does not"):
        build(prompt_weight=1.0)
    assert [place for place, _ in ReportLabelsConfig(prompts=("{}", "no")).check(None)] == ["prompts.1"]


def test_batch_has_reports_with_their_labels_and_facts():
    objective = build()
    assert isinstance(objective, Objective)
    batch = objective.batch(Source(), 60, generator_for(0))
    seen = set()
    for prompt, target in zip(batch["prompts"], batch["targets"], strict=True):
        index = ord(prompt.report.findings[0]) - 65
        assert index % 4 != 3 and index % 3 != 2
        assert target.nonzero().flatten().tolist() == [index, 18 + 8 * index + (index % 2 == 0), 18 + 8 * index + 4]
        seen.add(index)
    assert len(seen) > 5
    assert batch["targets"].shape == batch["known"].shape == (60, 18 + 18 * len(FACTS))
    labels, told = batch["targets"][:, :18], batch["known"][:, 18:].unflatten(1, (18, len(FACTS)))
    # facts are known of what is there, and of nothing else
    assert batch["known"][:, :18].min() == 1 and torch.equal(told.amin(2), labels) and torch.equal(told.amax(2), labels)
    slices = [prompt.slices for prompt in batch["prompts"]]
    assert None in slices and 40 in slices and len(set(slices)) > 5
    again = objective.batch(Source(), 60, generator_for(0))
    assert again["prompts"] == batch["prompts"]


def test_composed_texts_stand_beside_reports_and_count_alike():
    objective = build(composed=0.5)
    batch = objective.batch(Source(), 80, generator_for(3))
    texts = [place for place, prompt in enumerate(batch["prompts"]) if isinstance(prompt, str)]
    assert 25 < len(texts) < 55
    for place in texts:
        labels, told = batch["targets"][place, :18], batch["known"][place, 18:].unflatten(0, (18, len(FACTS)))
        assert torch.equal(told.amin(1), labels) and bool((batch["known"][place, :18] == 1).all())
        for number, name in enumerate(LABELS):
            # every label that is there is named, and of those that are not some are denied
            assert not labels[number] or name.lower() in batch["prompts"][place].lower()
    # without them, the draws are those of before
    plain = [build().batch(Source(), 20, generator_for(5)), build(composed=0.0).batch(Source(), 20, generator_for(5))]
    assert plain[0]["prompts"] == plain[1]["prompts"]


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        ({"name": "pleural_effusion", "side": "bilateral", "parts": [{"side": "left", "size": "small"}]}, "left right small"),
        ({"name": "Lung nodule", "nodules": [{"lobe": "upper_left", "side": "left", "size_mm": 12}]}, "left moderate upper"),
        (
            {"name": "Consolidation", "extent": "extensive", "lobe": "lower_right", "size_mm": 8, "side": "right"},
            "right large lower",
        ),
        ({"name": "Emphysema", "severity": "mild", "lobe": "upper lobes"}, "small upper"),
        ({"name": "Cardiomegaly", "anchor_mm": [1.0, 2.0]}, ""),
        ({"name": "unheard of", "side": "left"}, None),
    ],
)
def test_facts_of_a_finding(finding, expected):
    for findings in ([finding], {"any": finding}):
        values = facts(findings)
        stated = {(LABELS[number // 8], FACTS[number % 8]) for number, value in enumerate(values) if value}
        label = finding["name"].replace("_", " ").capitalize()
        assert stated == ({(label, fact) for fact in expected.split()} if expected is not None else set())


def test_what_is_not_known_costs_nothing():
    class Partly(Source):
        def record(self, index):
            return {**super().record(0), "labels": {LABELS[0]: 1}, "meta": {}}

    objective = build()
    batch = objective.batch(Partly(), 4, generator_for(0))
    assert batch["known"].sum(1).tolist() == [1, 1, 1, 1]
    terms = objective.loss(batch, 1, generator_for(0))
    assert terms["labels"].item() == pytest.approx(0.6931, abs=1e-3)
    assert terms["facts"].item() == 0 and torch.isnan(terms["specificity"])


def test_a_data_set_without_labels_is_an_error():
    class Without(Source):
        def record(self, index):
            return {**super().record(index), "labels": None}

    with pytest.raises(DataError, match="has both a report and labels"):
        build().batch(Without(), 1, generator_for(0))


@pytest.mark.parametrize("pooled", [True, False])
def test_it_learns_and_saves_the_encoder_alone(tmp_path, pooled):
    objective = build(pooled)
    config = settings(steps=150, batch=16, lr=3e-2, log_every=50, checkpoint_every=150)
    result = fit(objective, Source(), config, tmp_path, spec={})
    lines = read_metrics(tmp_path)
    assert lines[0]["labels"] > 2 * lines[-1]["labels"]
    assert lines[-1]["recall"] > 0.9 and lines[-1]["specificity"] > 0.9
    fresh = Encoder(pooled)
    load_weights(fresh, result.checkpoint / "ema.safetensors")
    assert (result.checkpoint / "head.safetensors").is_file()
