"""The shipped mini CT-CLIP on simulated chests of a seed that it was not trained on."""

from __future__ import annotations

import pytest
import torch
from ctgen_ctflow.ct_clip import CtClip
from ctgen_ctflow.ct_clip_layout import MINI_PAIR

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.dataset import AtlasThorax, case_from
from ctgen.data.atlas.facts import LABEL_OF
from ctgen.data.atlas.scan import simulate
from ctgen.interfaces import Report

SEED = 90001


@pytest.fixture(scope="module")
def model() -> CtClip:
    return CtClip.load("mini", vocabulary="mini")


def test_it_is_small_and_labelled_as_what_it_is(model: CtClip) -> None:
    assert model.weights.label == "MINI"
    assert MINI_PAIR.stat().st_size < 8_000_000
    card = MINI_PAIR.with_suffix(".md").read_text(encoding="utf-8")
    assert "recipes/mini/clip-images-more.yaml" in card


@pytest.mark.parametrize("finding", ["pleural_effusion", "cardiomegaly", "interlobular_septal_thickening"])
def test_the_same_patient_with_a_finding_scores_higher_for_it(model: CtClip, finding: str) -> None:
    config = AtlasThoraxConfig(prevalence=0.1)
    higher = 0
    for index in range(6):
        scores = []
        for there in (True, False):
            made = simulate(SEED, index, config, present={**dict.fromkeys(FINDINGS, False), finding: there})
            found = model.zero_shot(model.prepare(made.volume)[None], [LABEL_OF[finding]])
            scores.append(found.item())
        higher += scores[0] > scores[1]
    assert higher >= 5


def test_reports_are_told_apart_by_what_they_say(model: CtClip) -> None:
    """A volume is nearer to its own report than to those of others, far more often than by chance (1 in 12)."""
    dataset = AtlasThorax(AtlasThoraxConfig(cases=12, seed=SEED))
    cases = [dataset[index] for index in range(12)]
    images = torch.cat([model.encode_image(model.prepare(case.volume)[None]) for case in cases])
    texts = model.encode_reports([case.report or Report("") for case in cases])
    ranks = (images @ texts.T).argsort(dim=1, descending=True).argsort(dim=1).diagonal()
    assert ranks.float().mean() < 3.5  # 5.5 by chance


def test_words_of_presence_and_absence_differ(model: CtClip) -> None:
    """Reports of a case with an effusion and of the same case without are on the right sides of the prompts."""
    right = 0
    for index in range(6):
        sides = []
        for there in (True, False):
            made = simulate(SEED, index, present={**dict.fromkeys(FINDINGS, False), "pleural_effusion": there})
            report = case_from(made, SEED, index, AtlasThoraxConfig()).report
            assert report is not None
            present, absent = model.encode_text(["Pleural effusion is present.", "Pleural effusion is not present."])
            sides.append(float(model.encode_reports([report])[0] @ (present - absent)))
        right += sides[0] > sides[1]
    assert right >= 5
