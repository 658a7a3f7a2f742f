"""A radiology report in CT-RATE's four parts from the facts of a case; nothing in it contradicts the facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from ctgen.data.atlas.config import FINDINGS
from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.patient import Patient, Scanner
from ctgen.data.atlas.reports import boilerplate
from ctgen.data.atlas.reports.impressions import impressions
from ctgen.data.atlas.reports.length import Lengths, Remark, fitted, paired
from ctgen.data.atlas.reports.normal import normals
from ctgen.data.atlas.reports.registry import DENIERS, TELLERS, deniable
from ctgen.data.atlas.reports.words import NOT_SEEN, About, Row, Rows
from ctgen.interfaces import Report

FINDINGS_LENGTH = Lengths((105, 145), (6.15, 6.35), (9.4, 10.6))
IMPRESSIONS_LENGTH = Lengths((22, 42), (7.5, 8.0), (4.3, 5.3))
"""Nearly all that is ever found can be told in the least."""

IN_LUNGS = (
    "emphysema",
    "consolidation",
    "lung_nodule",
    "atelectasis",
    "lung_opacity",
    "pulmonary_fibrotic_sequela",
    "mosaic_attenuation_pattern",
    "peribronchial_thickening",
    "bronchiectasis",
    "interlobular_septal_thickening",
)
"""What makes lungs not clear; told in the section of the lungs."""
DENIED: dict[str, dict[str, float]] = {
    "airways": {"bronchiectasis": 0.2, "peribronchial_thickening": 0.12},
    "heart": {"cardiomegaly": 0.95, "pericardial_effusion": 0.7, "coronary_artery_wall_calcification": 0.4},
    "mediastinum": {
        "arterial_wall_calcification": 0.35,
        "lymphadenopathy": 0.85,
        "hiatal_hernia": 0.55,
        "medical_material": 0.1,
    },
    "lungs": {
        "emphysema": 0.5,
        "consolidation": 0.5,
        "lung_nodule": 0.5,
        "atelectasis": 0.25,
        "lung_opacity": 0.5,
        "pulmonary_fibrotic_sequela": 0.5,
        "mosaic_attenuation_pattern": 0.08,
        "interlobular_septal_thickening": 0.12,
    },
    "pleura": {"pleural_effusion": 0.95},
    "abdomen": {},
    "bones": {},
}
"""Where each finding is denied, and how usual that is."""
OPENINGS: dict[str, dict[Callable[[Speaker, About], str], float]] = {
    "airways": {boilerplate.central_airways: 0.95},
    "mediastinum": {boilerplate.enhancement: 0.55, boilerplate.vessels: 0.8},
    "abdomen": {boilerplate.abdomen: 0.8},
    "bones": {boilerplate.bones: 0.8},
}
_NORMAL = 0.1


def section(name: str, say: Speaker, about: About) -> list[Remark]:
    """All that can be said of a region, in order; found ones always are."""
    out = [Remark(partial(tell, say, about), usual) for tell, usual in OPENINGS.get(name, {}).items()]
    denials = [
        Remark(partial(DENIERS[denied].absent, say, about), usual)
        for denied, usual in DENIED[name].items()
        if deniable(denied, about)
    ]
    if name == "lungs":
        sick = say.shuffled([found for found in IN_LUNGS if about.found.get(found)])
        tell, usual = (boilerplate.lung_window, 0.4) if sick else (boilerplate.clear_lungs, 1.0)
        out.append(Remark(partial(tell, say), usual))
        denials = say.shuffled(denials)
    else:
        sick = [found for found in DENIED[name] if about.found.get(found) and found not in IN_LUNGS]
    out += [Remark(partial(_told, found, say, about)) for found in sick]
    if name == "pleura" and sick:
        denials.append(Remark(partial(say.say, "no pneumothorax " + NOT_SEEN, "there is no pneumothorax"), 0.3))
    return out + paired(say, denials + normals(name, _NORMAL, say, about))


def _told(name: str, say: Speaker, about: About) -> str:
    return " ".join(TELLERS[name].present(say, about.found[name], about))


def write_report(
    rows: list[Row],
    *,
    patient: Patient,
    scanner: Scanner,
    ratio: float | None,
    slice_mm: float,
    speaker: Speaker,
    kinds: Sequence[str] = FINDINGS,
) -> Report:
    """``rows`` as ``facts.listed`` gives them; ``ratio`` is the cardiothoracic ratio; ``kinds`` as in the config."""
    long, short = FINDINGS_LENGTH.draw(speaker), IMPRESSIONS_LENGTH.draw(speaker)
    found: Rows = defaultdict(list)
    for row in rows:
        found[row["name"]].append(row)
    about = About(dict(found), patient, scanner, ratio, slice_mm, kinds)
    order = ["airways", *speaker.shuffled(["heart", "mediastinum"])]
    chest = speaker.shuffled(["lungs", "pleura"])
    order = [*chest, *order] if speaker.chance(0.35) else [*order, *chest]
    order += ["abdomen", "bones"] if speaker.chance(0.75) else ["bones", "abdomen"]
    return Report(
        findings=fitted(speaker, [remark for name in order for remark in section(name, speaker, about)], long),
        impressions=impressions(speaker, about, short),
        clinical_information=boilerplate.clinical(speaker, about),
        technique=boilerplate.technique(speaker, about),
    )
