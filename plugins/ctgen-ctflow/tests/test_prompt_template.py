from __future__ import annotations

import pytest
from ctgen_ctflow.prompt_template import Template, render

from ctgen.interfaces import Prompt, Report

REPORT = Report(findings='No "effusion" (right or left). It\'s clear.', impressions="Normal.")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("findings", "No effusion right or left. Its clear."),
        ("findings+impression", "No effusion right or left. Its clear.Normal."),
        ("ctflow", "Findings: No effusion right or left. Its clear. Impressions: Normal. Length: 96"),
    ],
)
def test_templates(template: Template, expected: str) -> None:
    assert render(Prompt(REPORT, slices=96), template) == expected


def test_unknown_parts_are_left_out() -> None:
    assert render(Prompt(Report("Clear.", "Not given.")), "ctflow") == "Findings: Clear."
    assert render(Prompt(Report("Clear.", "Not given.")), "findings+impression") == "Clear."
    assert render(Prompt(Report(""), slices=8), "ctflow") == "Length: 8"


def test_only_a_whole_part_is_not_given() -> None:
    assert render(Prompt(Report("Contrast: Not given. Clear.")), "findings") == "Contrast: Not given. Clear."
