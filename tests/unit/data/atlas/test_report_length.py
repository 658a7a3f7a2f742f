from __future__ import annotations

import numpy as np
import pytest

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.facts import labels_of, listed
from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.patient import draw_patient, draw_scanner
from ctgen.data.atlas.reports.compose import FINDINGS_LENGTH, IMPRESSIONS_LENGTH, write_report
from ctgen.data.atlas.reports.length import Length, Remark, fitted, measure, paired
from ctgen.data.atlas.reports.normal import NORMAL
from ctgen.data.atlas.reports.parser import parse, sentences, statements
from ctgen.data.atlas.reports.registry import DENIERS
from ctgen.data.atlas.scan import simulate
from ctgen.interfaces import Report

SEED, TIMES = 4, 16


@pytest.fixture(scope="module")
def sick() -> list[list[dict]]:
    config = AtlasThoraxConfig(size=(24, 32, 32), spacing_mm=(12.0, 12.0, 12.0), prevalence=0.35)
    return [listed(simulate(SEED, index, config).findings) for index in range(12)]


def report_of(index: int, rows: list[dict]) -> Report:
    return write_report(
        rows,
        patient=draw_patient(SEED, index),
        scanner=draw_scanner(SEED, index, contrast=0.5, couch=1.0, noise_hu=(5, 20)),
        ratio=0.57 if any(row["name"] == "cardiomegaly" for row in rows) else 0.44,
        slice_mm=3.0,
        speaker=Speaker(stream(SEED, index, "report")),
    )


def test_length_is_the_one_that_was_drawn_whatever_is_found(sick: list[list[dict]]) -> None:
    off, counts = [], []
    for index in range(TIMES * len(sick)):
        say = Speaker(stream(SEED, index, "report"))
        drawn = FINDINGS_LENGTH.draw(say), IMPRESSIONS_LENGTH.draw(say)
        for rows in (sick[index % len(sick)], []):
            report = report_of(index, rows)
            assert parse(report) == labels_of(rows)
            lengths = measure(report.findings), measure(report.impressions)
            off.append([got.words - wanted.words for got, wanted in zip(lengths, drawn, strict=True)])
            counts.append((bool(rows), lengths[0].sentences, lengths[1].sentences))
    assert np.quantile(np.abs(off), 0.99) <= 1
    assert (np.array(off) == 0).mean() > 0.9
    table = np.array(counts)
    ill, well = table[table[:, 0] == 1, 1:].mean(0), table[table[:, 0] == 0, 1:].mean(0)
    assert (np.abs(ill / well - 1) < 0.15).all(), "as many sentences, too"


def test_lengths_vary() -> None:
    drawn = [FINDINGS_LENGTH.draw(Speaker(np.random.default_rng(seed))).words for seed in range(400)]
    assert (min(drawn), max(drawn)) == FINDINGS_LENGTH.words
    assert np.std(drawn) > 8


def test_normal_organs_are_no_finding() -> None:
    say = Speaker(np.random.default_rng(0))
    for normals in NORMAL.values():
        for normal in normals:
            assert set(normal.spoilt_by) <= set(DENIERS)
            for _ in range(20):
                text = say.say(*normal.templates)
                assert not statements(text) and len(sentences(text)) == 1, text


def test_spoilt_remarks_are_not_made(sick: list[list[dict]]) -> None:
    for index in range(TIMES * len(sick)):
        rows = sick[index % len(sick)]
        names, text = {row["name"] for row in rows}, report_of(index, rows).findings
        assert not (names & {"pleural_effusion"} and "costophrenic" in text)
        assert not (names & {"lymphadenopathy"} and ("hila are" in text or "axillae are" in text))
        assert not (names & {"medical_material"} and "ternum is" in text)


def test_fitting_keeps_what_must_be_told_and_meets_the_length() -> None:
    say = Speaker(np.random.default_rng(1))
    remarks = [
        Remark(lambda: say.say("a nodule [of 5 mm |]is seen")),
        *(Remark(lambda: say.say("no [large |][pleural |][or pericardial |]effusion is seen"), 0.5) for _ in range(9)),
    ]
    for words in (4, 10, 23):
        text = fitted(say, remarks, Length(words, 6 * words, words // 4))
        assert text.startswith("A nodule") and len(text.split()) == words
    assert fitted(say, remarks, Length(1, 4, 1)) == "A nodule is seen.", "too short for what is found"


def test_pairs_hold_both_in_one_sentence_or_in_two_or_one_alone() -> None:
    say = Speaker(np.random.default_rng(2))
    (pair,) = paired(say, [Remark(lambda: "First.", 0.2), Remark(lambda: "Second.", 0.6)])
    assert pair.usual == 0.6
    told = [pair.tell() for _ in range(300)]
    assert set(told) == {"First.", "Second.", "First. Second.", "First, and second.", "First; second."}
    assert told.count("Second.") > told.count("First.")
