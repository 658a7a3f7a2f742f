"""How often and how often together findings occur, and data sets that force them or keep the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from ctgen.commands.simulating import _with_findings
from ctgen.data.atlas.config import FINDINGS, REALISTIC, AtlasThoraxConfig
from ctgen.data.atlas.dataset import AtlasThorax
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.patient import draw_patient
from ctgen.data.atlas.prevalence import TOGETHER, draw_presence
from ctgen.data.atlas.reports.parser import parse
from ctgen.data.atlas.scan import simulate
from ctgen.errors import ConfigError

TINY = {"size": (24, 32, 32), "spacing_mm": (12.0, 12.0, 12.0)}


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    config = AtlasThoraxConfig(prevalence="realistic", findings={"hiatal_hernia": 0.6})
    cases = [draw_presence(7, index, config, draw_patient(7, index)) for index in range(1500)]
    return {name: np.array([case[name] for case in cases]) for name in FINDINGS}


def test_realistic_shares_are_kept(drawn: dict[str, np.ndarray]) -> None:
    assert set(REALISTIC) == set(FINDINGS)
    wanted = {**REALISTIC, "hiatal_hernia": 0.6}
    for name, there in drawn.items():
        assert there.mean() == pytest.approx(wanted[name], abs=0.05), name


def test_findings_come_together(drawn: dict[str, np.ndarray]) -> None:
    for one, other in (
        ("cardiomegaly", "pleural_effusion"),
        ("consolidation", "lung_opacity"),
        ("emphysema", "peribronchial_thickening"),
        ("pleural_effusion", "interlobular_septal_thickening"),
    ):
        assert drawn[other][drawn[one]].mean() > 1.4 * drawn[other].mean()
    assert abs(np.corrcoef(drawn["emphysema"], drawn["pericardial_effusion"])[0, 1]) < 0.1


def test_weights_leave_something_of_its_own() -> None:
    assert {name for table in TOGETHER.values() for name in table} <= set(FINDINGS)
    assert all(sum(table.get(name, 0) ** 2 for table in TOGETHER.values()) < 0.9 for name in FINDINGS)


def test_numeric_prevalence_draws_as_ever() -> None:
    config = AtlasThoraxConfig(prevalence=0.35, findings={"emphysema": 0.9})
    for index in range(30):
        chances = stream(2, index, "presence").uniform(size=len(FINDINGS))
        present = draw_presence(2, index, config, draw_patient(2, index))
        for name, chance in zip(FINDINGS, chances, strict=True):
            limit = 0.9 if name == "emphysema" else 0.35
            assert present[name] == (chance < limit)


def test_forced_labels_are_counterfactual_pairs(coarse: AtlasThoraxConfig) -> None:
    usual = {"cases": 2, "seed": 3, "size": coarse.size, "spacing_mm": coarse.spacing_mm, "prevalence": 0.2}
    ill = AtlasThorax(AtlasThoraxConfig(**usual, labels={"lung_nodule": True}))[1]
    well = AtlasThorax(AtlasThoraxConfig(**usual, labels={"lung_nodule": False}))[1]
    assert ill.labels is not None and well.labels is not None and ill.report is not None
    assert {name for name in ill.labels if ill.labels[name] != well.labels[name]} == {"Lung nodule"}
    assert parse(ill.report) == ill.labels
    config = AtlasThoraxConfig(**usual, labels={"lung_nodule": True})
    masks = simulate(3, 1, config, with_masks=True).masks
    assert masks is not None
    far = ndimage.distance_transform_edt(~masks["lung_nodule"], sampling=coarse.spacing_mm) > 25
    assert np.array_equal(ill.volume.hu[far], well.volume.hu[far]) and (ill.volume.hu != well.volume.hu).any()


def test_an_effusion_without_atelectasis() -> None:
    config = AtlasThoraxConfig(cases=12, **TINY, labels={"pleural_effusion": True, "atelectasis": False})
    data = AtlasThorax(config)
    for index in range(len(data)):
        labels = data[index].labels
        assert labels is not None and labels["Pleural effusion"] and not labels["Atelectasis"]


def test_one_patient_for_all_cases(coarse: AtlasThoraxConfig) -> None:
    same = coarse.model_copy(update={"patient": 4, "prevalence": 0.0})
    first, second = (simulate(1, index, same, with_masks=True) for index in (0, 1))
    assert first.patient == second.patient == draw_patient(1, 4)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert (first.volume.hu != second.volume.hu).any(), "another scanner and other noise"


def test_mistakes() -> None:
    with pytest.raises(ValidationError):
        AtlasThoraxConfig(prevalence="often")
    with pytest.raises(ValidationError):
        AtlasThoraxConfig(labels={"flu": True})
    plain = AtlasThoraxConfig()
    with pytest.raises(ConfigError, match="both with and without"):
        _with_findings(plain, "emphysema", "emphysema", None, None)
    with pytest.raises(ConfigError, match="flu"):
        _with_findings(plain, "flu", None, None, None)
    with pytest.raises(ConfigError, match="often"):
        _with_findings(plain, None, None, None, "often")
    told = _with_findings(plain, "emphysema, cardiomegaly", "lung_nodule", 3, "realistic")
    assert dict(told.labels) == {"emphysema": True, "cardiomegaly": True, "lung_nodule": False}
    assert told.patient == 3 and told.prevalence == "realistic"


def test_words_of_the_command_reach_the_cases(tmp_path: Path) -> None:
    import csv

    from typer.testing import CliRunner

    from ctgen.commands.data import app

    out = tmp_path / "ill"
    words = ["simulate", str(out), "--cases", "2", "--size", "24,24,24", "--with", "pleural_effusion", "--without", "emphysema"]
    result = CliRunner().invoke(app, [*words, "--prevalence", "realistic", "--patient", "1", "--masks", "--quiet"])
    assert result.exit_code == 0, result.output
    with (out / "reports.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["Pleural effusion"], row["Emphysema"]) for row in rows] == [("1", "0")] * 2
    assert len(list(out.glob("masks/*/pleural_effusion.nii.gz"))) == len(list(out.glob("masks/*/organs.nii.gz"))) == 2


def test_reports_differ_and_are_read_back() -> None:
    data = AtlasThorax(AtlasThoraxConfig(cases=60, seed=23, **TINY, prevalence="realistic"))
    cases = [data[index] for index in range(len(data))]
    assert all(case.report is not None and parse(case.report) == dict(case.labels or {}) for case in cases)
    texts = {case.report.findings for case in cases if case.report}
    assert len(texts) >= 58
    assert 70 <= np.median([len(text.split()) for text in texts]) <= 200
