"""The impression: every finding, at length or in two words; then denials, normal organs and advice where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports import boilerplate
from ctgen.data.atlas.reports.length import Length, Remark, fitted
from ctgen.data.atlas.reports.normal import normals
from ctgen.data.atlas.reports.registry import DENIERS, TELLERS, deniable
from ctgen.data.atlas.reports.words import NOT_SEEN, About

_BRIEF = {
    "pleural_effusion": "[{side} |]pleural effusion{s}{also}",
    "cardiomegaly": "cardiomegaly",
    "consolidation": "[{extent} |]consolidation",
    "lung_nodule": "[lung |pulmonary |]nodule{s}",
    "emphysema": "emphysema",
    "atelectasis": "atelectasis",
    "lung_opacity": "ground-glass opacity",
    "pulmonary_fibrotic_sequela": "fibrotic sequela",
    "mosaic_attenuation_pattern": "mosaic attenuation",
    "peribronchial_thickening": "peribronchial thickening",
    "bronchiectasis": "bronchiectasis",
    "interlobular_septal_thickening": "[interlobular |]septal thickening",
    "pericardial_effusion": "pericardial effusion",
    "hiatal_hernia": "hiatal hernia",
    "lymphadenopathy": "lymphadenopathy",
    "medical_material": "medical material",
    "arterial_wall_calcification": "arterial [wall |]calcification",
    "coronary_artery_wall_calcification": "coronary [artery |]calcification",
}
_DENIED = {
    "pleural_effusion": 0.4,
    "consolidation": 0.3,
    "lung_nodule": 0.3,
    "lymphadenopathy": 0.3,
    "lung_opacity": 0.2,
    "pericardial_effusion": 0.2,
    "cardiomegaly": 0.2,
    "emphysema": 0.15,
    "atelectasis": 0.15,
    "bronchiectasis": 0.1,
    "pulmonary_fibrotic_sequela": 0.1,
}
_TOGETHER = 4
"""Findings that one sentence can name."""
_NOTHING_ELSE = ("no other significant [abnormality|finding|pathology] " + NOT_SEEN + "[ in the chest|]",)
_ADVICE = (
    ("[clinical correlation|correlation with clinical findings] is recommended",),
    ("[control|follow-up] is recommended if there is clinical suspicion", "follow-up is recommended if clinically suspected"),
    ("there is no previous [study|examination] for comparison",),
)


def impressions(say: Speaker, about: About, length: Length) -> str:
    """Of about this length, whatever is found."""
    # A passive atelectasis has no sentence: it is told with its effusion.
    found = [name for name in TELLERS if about.found.get(name) and TELLERS[name].impression(say, about.found[name], about)]
    found = say.shuffled(found)
    head = []
    while found:
        many = int(say.rng.integers(1, _TOGETHER + 1))
        head.append(Remark(partial(_told, say, tuple(found[:many]), about)))
        found = found[many:]
    rest = [Remark(partial(_denied, say, name, about), usual) for name, usual in _DENIED.items() if deniable(name, about)]
    rest += normals("impressions", 0.15, say, about)
    if head:
        rest.append(Remark(partial(say.say, *_NOTHING_ELSE), 0.3))
    else:
        head = [Remark(partial(boilerplate.nothing, say))]
    advice = [Remark(partial(say.say, *templates), 0.15) for templates in _ADVICE]
    return fitted(say, [*head, *say.shuffled(rest), *advice], length)


def _told(say: Speaker, names: Sequence[str], about: About) -> str:
    """Each at length, or all in one sentence, or each in one of its own."""
    if say.chance(0.4):
        return " ".join(line for name in names for line in TELLERS[name].impression(say, about.found[name], about))
    brief = [_brief(say, name, about) for name in names]
    if len(brief) > 1 and say.chance(0.85):
        text = ", ".join(brief[:-1]) + " and " + brief[-1]
        if _spoken(text) == set().union(*map(_spoken, brief)):
            return say.say(text)
    return " ".join(map(say.say, brief))


def _denied(say: Speaker, name: str, about: About) -> str:
    if say.chance(0.5):
        return DENIERS[name].absent(say, about)
    return say.say("no " + _BRIEF[name], s="", side="", extent="", also="")


def _brief(say: Speaker, name: str, about: About) -> str:
    rows = about.found[name]
    several = len(rows) > 1
    return say.phrase(
        _BRIEF[name],
        s="s" if several else "",
        side="bilateral" if several else rows[0].get("side", ""),
        extent=rows[0].get("extent", ""),
        also=" with atelectasis" if any(row["kind"] == "passive" for row in about.found.get("atelectasis", [])) else "",
    )


def _spoken(text: str) -> set[str]:
    """Findings that a parser would find in it: some do not go together in one sentence."""
    return {name for name, module in DENIERS.items() if module.SPEAKS.search(text)}
