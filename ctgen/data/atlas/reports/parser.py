"""Reads the 18 labels back from a report of this simulator: the reports are checked by it, both ways."""

from __future__ import annotations

import re

from ctgen.data.atlas.facts import LABEL_OF
from ctgen.data.atlas.reports.registry import DENIERS
from ctgen.interfaces import Report

DENIAL = re.compile(r"\b(?:no|not|without|absent|absence|free of)\b")


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=\.) (?=[A-Z0-9])", text) if part]


def statements(text: str) -> list[tuple[str, bool]]:
    """(finding, told or denied) of every sentence that is about a finding, in order."""
    out = []
    for sentence in sentences(text):
        words = sentence.lower()
        out += [(name, not DENIAL.search(words)) for name, module in DENIERS.items() if module.SPEAKS.search(words)]
    return out


def parse(report: Report) -> dict[str, int]:
    """All 18 labels: 1 where "findings" or "impressions" tell the finding. Raises ValueError if a part tells and denies one."""
    told: set[str] = set()
    for part in (report.findings, report.impressions):
        found = statements(part)
        yes, no = {name for name, there in found if there}, {name for name, there in found if not there}
        if yes & no:
            raise ValueError(f"told and denied in one text: {', '.join(sorted(yes & no))}: {part}")
        told |= yes
    return {label: int(name in told) for name, label in LABEL_OF.items()}
