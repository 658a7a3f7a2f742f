"""The sentences of each finding.

A module has ``NAME``; ``absent``; ``SPEAKS``, which matches every sentence that is about the finding, told or denied, and no
other; and for findings that are simulated ``present`` and ``impression``. The parser takes a sentence that ``SPEAKS`` matches
for a denial if it has a word of denial anywhere: positive sentences hold no "no", "not", "without", "absent", "free of", and
one sentence never tells one finding and denies another. ``absent`` of the older findings keeps its sentences, in order: the
shipped text encoder learned them.
"""

from __future__ import annotations

import re
from typing import Protocol

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports import (
    arterial_wall_calcification,
    atelectasis,
    bronchiectasis,
    cardiomegaly,
    consolidation,
    coronary_artery_wall_calcification,
    emphysema,
    hiatal_hernia,
    interlobular_septal_thickening,
    lung_nodule,
    lung_opacity,
    lymphadenopathy,
    medical_material,
    mosaic_attenuation_pattern,
    peribronchial_thickening,
    pericardial_effusion,
    pleural_effusion,
    pulmonary_fibrotic_sequela,
)
from ctgen.data.atlas.reports.words import About, Row


class Denier(Protocol):
    NAME: str
    SPEAKS: re.Pattern[str]

    def absent(self, say: Speaker, about: About) -> str:
        """A sentence that says that the finding is not there, or that its organ is normal."""


class Teller(Denier, Protocol):
    def present(self, say: Speaker, rows: list[Row], about: About) -> list[str]:
        """Sentences for "findings", from the rows of this finding (at least one)."""

    def impression(self, say: Speaker, rows: list[Row], about: About) -> list[str]:
        """Sentences for "impressions"; none if another finding's sentence says it."""


TELLERS: dict[str, Teller] = {
    module.NAME: module
    for module in (
        pleural_effusion,
        cardiomegaly,
        consolidation,
        lung_nodule,
        emphysema,
        atelectasis,
        lung_opacity,
        pulmonary_fibrotic_sequela,
        mosaic_attenuation_pattern,
        peribronchial_thickening,
        bronchiectasis,
        interlobular_septal_thickening,
        pericardial_effusion,
        hiatal_hernia,
        lymphadenopathy,
        medical_material,
        arterial_wall_calcification,
        coronary_artery_wall_calcification,
    )
}
"""In the order in which impressions are drawn: append."""

_ALL: tuple[Denier, ...] = (
    pleural_effusion,
    cardiomegaly,
    lung_nodule,
    consolidation,
    emphysema,
    medical_material,
    arterial_wall_calcification,
    pericardial_effusion,
    coronary_artery_wall_calcification,
    hiatal_hernia,
    lymphadenopathy,
    atelectasis,
    lung_opacity,
    pulmonary_fibrotic_sequela,
    mosaic_attenuation_pattern,
    peribronchial_thickening,
    bronchiectasis,
    interlobular_septal_thickening,
)
DENIERS: dict[str, Denier] = {module.NAME: module for module in _ALL}

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


def deniable(name: str, about: About) -> bool:
    """The case does not have the finding, and it is known that it does not."""
    if about.found.get(name):
        return False
    if name == "atelectasis" and about.found.get("pleural_effusion"):
        return name in about.kinds
    return name in about.kinds or name in _ALWAYS_DENIABLE
