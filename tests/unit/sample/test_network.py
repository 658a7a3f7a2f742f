"""Questions of several cases in one call of the network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ctgen.host import Host
from ctgen.interfaces import Condition, LatentSpec, TextFeatures, TextSpec
from ctgen.sample.network import Network, Question, join
from ctgen.stages.components import seeded

HOST = Host.discover()


class Recorder(torch.nn.Module):
    """A backbone that keeps what it was called with, and predicts something of everything."""

    predicts = "velocity"

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, noisy, time, condition):
        self.calls.append((noisy, time, condition))
        words = (condition.text.tokens * condition.text.mask[:, :, None]).sum((1, 2))
        if condition.drop is not None:
            words = torch.where(condition.drop, torch.zeros_like(words), words)
        return noisy * time.view(-1, 1, 1, 1, 1) + words.view(-1, 1, 1, 1, 1)


def question(seed, *, length=3, depth=2, context=2, time=0.5, guided=False):
    random = torch.Generator().manual_seed(seed)
    text = TextFeatures(torch.randn(1, length, 4, generator=random), torch.ones(1, length, dtype=torch.bool))
    condition = Condition(
        text=text,
        context=None if context is None else torch.randn(1, 3, context, 4, 4, generator=random),
        position=torch.tensor([[float(seed), 9.0]]),
        spacing=torch.tensor([[3.0, 2.0, 2.0]]),
        context_level=torch.tensor([0.1 * seed]),
    )
    return Question(torch.randn(1, 3, depth, 4, 4, generator=random), time, condition, guided)


def network():
    backbone = Recorder()
    return backbone, Network(backbone, torch.device("cpu"))


def test_answers_are_those_of_each_alone():
    questions = [question(seed, length=2 + seed, time=0.1 * seed, guided=seed % 2 == 0) for seed in range(1, 5)]
    backbone, asked = network()
    together = asked.answer(questions)
    assert len(backbone.calls) == 1
    for one, answer in zip(questions, together, strict=True):
        assert len(answer.predictions) == one.rows() == (2 if one.guided else 1)
        alone = network()[1].answer([one])[0]
        for found, expected in zip(answer.predictions, alone.predictions, strict=True):
            assert torch.allclose(found, expected, atol=1e-6)
            assert found.shape == one.z.shape
    assert sum(answer.seconds for answer in together) > 0


def test_both_evaluations_of_guidance_are_one_call_and_only_the_second_drops_the_text():
    backbone, asked = network()
    with_report, without = asked.answer([question(1, guided=True)])[0].predictions
    ((noisy, time, condition),) = backbone.calls
    assert noisy.shape[0] == time.shape[0] == 2
    assert condition.drop.tolist() == [False, True]
    assert not torch.allclose(with_report, without)


def test_a_negative_report_takes_the_place_of_none():
    one, other = question(1, guided=True), question(2, length=5)
    backbone, asked = network()
    away = replace(one.condition, text=other.condition.text)
    with_report, against = asked.answer([replace(one, negative=away)])[0].predictions
    ((noisy, _, condition),) = backbone.calls
    assert len(noisy) == 2
    assert condition.drop is None
    assert torch.allclose(with_report, network()[1].answer([replace(one, guided=False)])[0].predictions[0], atol=1e-6)
    alone = Question(one.z, one.time, away)
    assert torch.allclose(against, network()[1].answer([alone])[0].predictions[0], atol=1e-6)


def test_without_guidance_nothing_is_dropped():
    backbone, asked = network()
    asked.answer([question(1), question(2)])
    assert backbone.calls[0][2].drop is None


def test_other_shapes_are_other_calls_and_answers_keep_their_order():
    questions = [question(1), question(2, depth=4), question(3, context=None), question(4), question(5, context=1)]
    backbone, asked = network()
    answers = asked.answer(questions)
    assert sorted(len(noisy) for noisy, _, _ in backbone.calls) == [1, 1, 1, 2]
    for one, answer in zip(questions, answers, strict=True):
        assert torch.allclose(answer.predictions[0], network()[1].answer([one])[0].predictions[0], atol=1e-6)


def test_a_batch_has_every_field_of_its_conditions():
    joined = join([(question(seed, length=seed).condition, False) for seed in (1, 3)])
    assert joined.text.tokens.shape == (2, 3, 4)
    assert joined.text.mask.tolist() == [[True, False, False], [True, True, True]]
    assert joined.context.shape == (2, 3, 2, 4, 4)
    assert joined.position[:, 0].tolist() == [1.0, 3.0]
    assert joined.context_level.tolist() == pytest.approx([0.1, 0.3])


def test_conditions_are_put_together_once_per_block():
    backbone, asked = network()
    first, second = question(1), question(2)
    for time in (0.9, 0.5):
        asked.answer([Question(one.z, time, one.condition) for one in (first, second)])
    asked.answer([Question(first.z, 0.1, question(1).condition), Question(second.z, 0.1, second.condition)])
    conditions = [condition for _, _, condition in backbone.calls]
    assert conditions[0] is conditions[1]
    assert conditions[2] is not conditions[1]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tiny-conv", {"width": 8, "layers": 1}),
        ("stdit", {"layers": 2, "width": 16, "heads": 2}),
        ("stdit", {"layers": 2, "width": 16, "heads": 2, "text": "tokens"}),
    ],
)
def test_a_case_is_the_same_alone_and_in_company(name, fields):
    with seeded("network"):
        config = HOST.configure("backbone", name, **fields)
        backbone = HOST.build("backbone", name, config, latent=LatentSpec(3, (1, 8, 8)), text=TextSpec(4, 8, 4)).eval()
        for parameter in backbone.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    asked = Network(backbone, torch.device("cpu"))

    def pooled(one):
        text = one.condition.text
        text = TextFeatures(text.tokens, text.mask, text.tokens.mean(1))
        return Question(one.z, one.time, Condition(**{**vars(one.condition), "text": text}), one.guided)

    questions = [pooled(question(seed, length=seed, time=0.2 * seed, guided=True)) for seed in range(1, 5)]
    with torch.no_grad():
        for one, answer in zip(questions, asked.answer(questions), strict=True):
            alone = asked.answer([one])[0]
            for found, expected in zip(answer.predictions, alone.predictions, strict=True):
                assert (found - expected).norm() <= 1e-5 * expected.norm()
            assert not torch.equal(*answer.predictions)
