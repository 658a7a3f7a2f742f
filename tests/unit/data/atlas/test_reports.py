from __future__ import annotations

import re

import numpy as np
import pytest

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.facts import LABEL_OF, labels_of, listed
from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.patient import draw_patient, draw_scanner
from ctgen.data.atlas.reports.compose import write_report
from ctgen.data.atlas.scan import draw_findings
from ctgen.data.labels import LABELS
from ctgen.interfaces import Report

FIRST = ("pleural_effusion", "cardiomegaly", "lung_nodule", "consolidation", "emphysema")
WORDS = {
    "pleural_effusion": r"effusion|pleural fluid|fluid \w+ in (?:either|the) pleural",
    "cardiomegaly": r"cardiomegaly|heart is \w+ enlarged|(?:heart size|dimensions) (?:is|are) \w+ increased|"
    r"enlargement of the heart",
    "lung_nodule": r"nodule",
    "consolidation": r"consolidation",
    "emphysema": r"emphysem",
    "atelectasis": r"atelecta",
}
DENIAL = re.compile(r"\b(?:no|not|without|absent|absence|free of)\b", re.IGNORECASE)


def rows_of(seed: int, index: int) -> list[dict]:
    """Facts as a full scan would give them, without making the scan."""
    present, facts = draw_findings(seed, index, AtlasThoraxConfig(kinds=FIRST))
    found = {name: facts[name] for name in FINDINGS if present[name]}
    for part in found.get("pleural_effusion", {"parts": []})["parts"]:
        part["size_mm"] = round(part["depth_mm"])
    if "consolidation" in found:
        found["consolidation"]["size_mm"] = 40
    if "emphysema" in found:
        found["emphysema"]["percent"] = 12.0
    return listed(found)


def report_of(seed: int, index: int, rows: list[dict]) -> Report:
    scanner = draw_scanner(seed, index, contrast=0.5, couch=1.0, noise_hu=(5, 20))
    ratio = 0.57 if any(row["name"] == "cardiomegaly" for row in rows) else 0.44
    speaker = Speaker(stream(seed, index, "report"))
    return write_report(rows, patient=draw_patient(seed, index), scanner=scanner, ratio=ratio, slice_mm=3.0, speaker=speaker)


@pytest.fixture(scope="module")
def reports() -> list[tuple[list[dict], Report]]:
    return [(rows, report_of(6, index, rows)) for index in range(400) for rows in [rows_of(6, index)]]


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=\.) (?=[A-Z0-9])", text) if part]


def denied(sentence: str, pattern: str) -> bool:
    """A denial before the word, or "was not ..." after it."""
    hit = re.search(pattern, sentence, re.IGNORECASE)
    return bool(hit and DENIAL.search(sentence))


def about(name: str, text: str) -> list[str]:
    """Sentences that speak of a finding; pericardial effusions are another matter."""
    found = [sentence for sentence in sentences(text) if re.search(WORDS[name], sentence, re.IGNORECASE)]
    if name == "pleural_effusion":
        found = [sentence for sentence in found if not re.search("pericardi", sentence, re.IGNORECASE)]
    return found


@pytest.mark.parametrize("name", WORDS)
def test_positive_statements_for_what_is_there_and_only_for_that(name: str, reports: list[tuple[list[dict], Report]]) -> None:
    counts = {True: 0, False: 0}
    for rows, report in reports:
        present = any(row["name"] == name for row in rows)
        counts[present] += 1
        for text in (report.findings, report.impressions):
            lines = about(name, text)
            positive = [line for line in lines if not denied(line, WORDS[name])]
            negative = [line for line in lines if denied(line, WORDS[name])]
            if present:
                assert positive, text
                assert not negative, text
            elif name != "pleural_effusion":
                assert not positive, text
            else:
                assert not [line for line in positive if "atelecta" not in line.lower()], text
    assert min(counts.values()) > 20


def test_sides_lobes_and_sizes(reports: list[tuple[list[dict], Report]]) -> None:
    for rows, report in reports:
        text = report.findings.lower()
        for row in rows:
            name = row["name"]
            lines = " ".join(about(name, report.findings)).lower()
            if row.get("side") in ("left", "right"):
                assert re.search(rf"\b{row['side']}\b|bilateral|both", lines), (row, text)
                others = {other["side"] for other in rows if other["name"] == name} | {"bilateral"}
                wrong = {"left", "right"} - others
                # Only the effusion's sentence may name the healthy side, and only to call it clear; that is another sentence.
                assert not any(re.search(rf"\b{side}\b", lines) for side in wrong if len(others) == 2), (row, text)
            if name in ("lung_nodule", "consolidation"):
                assert row["lobe"].split("_")[0] in lines
            if name == "lung_nodule":
                assert f"{row['size_mm']} mm" in lines


def test_reports_differ(reports: list[tuple[list[dict], Report]]) -> None:
    assert len({report.findings for _, report in reports}) > 0.97 * len(reports)
    words = np.array([len(report.findings.split()) for _, report in reports])
    assert 50 < np.median(words) < 160
    healthy = [report for rows, report in reports if not rows]
    assert len({report.findings for report in healthy}) > 0.9 * len(healthy)


def test_no_template_debris(reports: list[tuple[list[dict], Report]]) -> None:
    for _, report in reports:
        for text in (report.findings, report.impressions, report.technique):
            assert text and not re.search(r"[\[\]{}|]|  |\.\.| ,| \.|\bis is\b|\bthe the\b", text), text
            assert all(sentence[0].isupper() or sentence[0].isdigit() for sentence in sentences(text))


def test_technique_tells_contrast() -> None:
    for index in range(40):
        scanner = draw_scanner(6, index, contrast=0.5, couch=1.0, noise_hu=(5, 20))
        words = report_of(6, index, []).technique.lower()
        assert (scanner.contrast > 0) != bool(re.search("without|non-contrast", words))


def test_labels_are_those_of_the_facts() -> None:
    for index in range(60):
        rows = rows_of(8, index)
        labels = labels_of(rows)
        assert tuple(labels) == LABELS
        assert {label for label, value in labels.items() if value} == {LABEL_OF[row["name"]] for row in rows}


def test_unclosed_bracket_is_an_error() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        Speaker(np.random.default_rng(0)).say("a [b|c")
