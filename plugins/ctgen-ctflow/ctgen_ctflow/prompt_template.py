"""How a report becomes the text that CT-CLIP reads. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from ctgen.interfaces import Prompt

Template = Literal["findings", "findings+impression", "ctflow"]

_REMOVED = str.maketrans("", "", "\"'()")
_MISSING = "Not given."


def render(prompt: Prompt, template: Template) -> str:
    """The prompt as one string, its parts cleaned as in CT-CLIP's code.

    "findings": what CT-CLIP was trained on. "findings+impression": its evaluation, with no separator.
    "ctflow": ``Findings: ... Impressions: ... Length: N``, N axial slices; parts that are not known are left out.
    """
    findings, impressions = (clean(part) for part in (prompt.report.findings, prompt.report.impressions))
    if template != "ctflow":
        return (findings if template == "findings" else findings + impressions).strip()
    parts = [
        ("Findings", findings),
        ("Impressions", impressions),
        ("Length", "" if prompt.slices is None else str(prompt.slices)),
    ]
    return " ".join(f"{name}: {value.strip()}" for name, value in parts if value.strip())


def clean(text: str) -> str:
    """CT-CLIP's cleaning of one part of a report: CT-RATE's "Not given." is empty; the characters ``" ' ( )`` go."""
    return "" if text.strip() == _MISSING else text.translate(_REMOVED)
