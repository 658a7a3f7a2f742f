"""A radiology report in CT-RATE's four parts from the facts of a case; nothing in it contradicts the facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from ctgen.data.atlas.config import FINDINGS
from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.patient import Patient, Scanner
from ctgen.data.atlas.reports import boilerplate
from ctgen.data.atlas.reports.registry import DENIERS, TELLERS
from ctgen.data.atlas.reports.words import NOT_SEEN, About, Row, Rows
from ctgen.interfaces import Report

Part = Callable[[Speaker, About], list[str]]


def finding(name: str, denied: float, *, elsewhere: bool = False) -> Part:
    """Tells the finding if the case has it (unless that is told ``elsewhere``), or denies it with probability ``denied``."""

    def part(say: Speaker, about: About) -> list[str]:
        if rows := about.found.get(name):
            return [] if elsewhere else TELLERS[name].present(say, rows, about)
        if not _deniable(name, about) or (denied < 1 and not say.chance(denied)):
            return []
        return [DENIERS[name].absent(say, about)]

    return part


_ALWAYS_DENIABLE = frozenset(
    (
        "pericardial_effusion",
        "lymphadenopathy",
        "hiatal_hernia",
        "medical_material",
        "bronchiectasis",
        "peribronchial_thickening",
        "interlobular_septal_thickening",
        "mosaic_attenuation_pattern",
        "atelectasis",
    )
)
"""Denied also by data sets that cannot have them."""


def _deniable(name: str, about: About) -> bool:
    return name in about.kinds or name in _ALWAYS_DENIABLE


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
_DENIED_IN_LUNGS = ("emphysema", "consolidation", "lung_nodule", "lung_opacity", "pulmonary_fibrotic_sequela")
_RARELY_DENIED: tuple[Part, ...] = (
    finding("interlobular_septal_thickening", 0.12, elsewhere=True),
    finding("mosaic_attenuation_pattern", 0.08, elsewhere=True),
)


def _lungs(say: Speaker, about: About) -> list[str]:
    sick = [name for name in IN_LUNGS if about.found.get(name)]
    deniable = [name for name in _DENIED_IN_LUNGS if name not in sick and _deniable(name, about)]
    if not sick:
        out = [boilerplate.clear_lungs(say)]
        out += [DENIERS[name].absent(say, about) for name in say.shuffled(deniable) if say.chance(0.4)]
        if not about.found.get("pleural_effusion") and say.chance(0.25):
            out.append(DENIERS["atelectasis"].absent(say, about))
        return out
    out = [boilerplate.lung_window(say)] if say.chance(0.4) else []
    for name in say.shuffled(sick):
        out += TELLERS[name].present(say, about.found[name], about)
    out += [DENIERS[name].absent(say, about) for name in say.shuffled(deniable) if say.chance(0.55)]
    if "atelectasis" in about.kinds and "atelectasis" not in sick and say.chance(0.25):
        out.append(DENIERS["atelectasis"].absent(say, about))
    for part in _RARELY_DENIED:
        out += part(say, about)
    return out


def _pneumothorax(say: Speaker, about: About) -> list[str]:
    if not about.found.get("pleural_effusion") or not say.chance(0.3):
        return []
    return [say.say("no pneumothorax " + NOT_SEEN, "there is no pneumothorax")]


SECTIONS: dict[str, tuple[Part, ...]] = {
    "airways": (
        boilerplate.central_airways,
        finding("bronchiectasis", 0.2, elsewhere=True),
        finding("peribronchial_thickening", 0.12, elsewhere=True),
    ),
    "heart": (
        finding("cardiomegaly", 1.0),
        finding("pericardial_effusion", 0.7),
        finding("coronary_artery_wall_calcification", 0.4),
    ),
    "mediastinum": (
        boilerplate.enhancement,
        boilerplate.vessels,
        finding("arterial_wall_calcification", 0.35),
        finding("lymphadenopathy", 0.85),
        finding("hiatal_hernia", 0.55),
        finding("medical_material", 0.1),
    ),
    "lungs": (_lungs,),
    "pleura": (finding("pleural_effusion", 1.0), _pneumothorax),
    "abdomen": (boilerplate.abdomen,),
    "bones": (boilerplate.bones,),
}


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
    found: Rows = defaultdict(list)
    for row in rows:
        found[row["name"]].append(row)
    about = About(dict(found), patient, scanner, ratio, slice_mm, kinds)
    order = ["airways", *speaker.shuffled(["heart", "mediastinum"])]
    chest = speaker.shuffled(["lungs", "pleura"])
    order = [*chest, *order] if speaker.chance(0.35) else [*order, *chest]
    order += ["abdomen", "bones"] if speaker.chance(0.75) else ["bones", "abdomen"]
    sentences = [sentence for section in order for part in SECTIONS[section] for sentence in part(speaker, about)]
    return Report(
        findings=" ".join(sentences),
        impressions=_impressions(speaker, about),
        clinical_information=boilerplate.clinical(speaker, about),
        technique=boilerplate.technique(speaker, about),
    )


def _impressions(say: Speaker, about: About) -> str:
    told = [(teller, about.found[name]) for name, teller in TELLERS.items() if about.found.get(name)]
    lines = [line for teller, rows in told for line in teller.impression(say, rows, about)]
    return " ".join(say.shuffled(lines)) if lines else boilerplate.nothing(say)
