"""Config of ``atlas-thorax``; imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes

FindingName = Literal[
    "pleural_effusion",
    "cardiomegaly",
    "lung_nodule",
    "consolidation",
    "emphysema",
    "medical_material",
    "arterial_wall_calcification",
    "pericardial_effusion",
    "coronary_artery_wall_calcification",
    "hiatal_hernia",
    "lymphadenopathy",
    "atelectasis",
    "lung_opacity",
    "pulmonary_fibrotic_sequela",
    "mosaic_attenuation_pattern",
    "peribronchial_thickening",
    "bronchiectasis",
    "interlobular_septal_thickening",
]
FINDINGS: tuple[FindingName, ...] = get_args(FindingName)
"""CT-RATE's labels in snake case, all of which are painted by ``findings/registry.py``. Positions are part of the data set's
definition: presence is drawn in this order."""

REALISTIC: Mapping[FindingName, float] = {
    "medical_material": 0.12,
    "arterial_wall_calcification": 0.28,
    "cardiomegaly": 0.11,
    "pericardial_effusion": 0.07,
    "coronary_artery_wall_calcification": 0.25,
    "hiatal_hernia": 0.14,
    "lymphadenopathy": 0.26,
    "emphysema": 0.19,
    "atelectasis": 0.22,
    "lung_nodule": 0.45,
    "lung_opacity": 0.37,
    "pulmonary_fibrotic_sequela": 0.27,
    "pleural_effusion": 0.12,
    "mosaic_attenuation_pattern": 0.08,
    "peribronchial_thickening": 0.1,
    "consolidation": 0.18,
    "bronchiectasis": 0.1,
    "interlobular_septal_thickening": 0.08,
}
"""About how often CT-RATE's labels are found there; approximations. Effusions add some atelectasis to its share."""

LONGEST_SCAN_MM = 290.0
"""The atlas is 332 mm long and shrinks to 0.89 of that in the shortest patient."""

NoduleKind = Literal["solid", "ground-glass", "part-solid", "calcified"]
NODULE_KINDS: tuple[NoduleKind, ...] = get_args(NoduleKind)

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class AtlasThoraxConfig(ComponentConfig):
    """Simulated chest CT. A case depends on ``seed``, its index and the fields below, never on ``cases``."""

    cases: Annotated[int, Field(ge=1)] = 64
    seed: Annotated[int, Field(ge=0)] = 0
    size: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] = (96, 128, 128)
    """Voxels (D, H, W)."""
    spacing_mm: tuple[Positive, Positive, Positive] = (3.0, 3.0, 3.0)
    """(D, H, W)."""
    valid_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.125
    kinds: tuple[FindingName, ...] = FINDINGS
    """Findings that can occur; leaving one out moves no draw of another. Atelectasis also arises beside an effusion."""
    nodule_kinds: Annotated[tuple[NoduleKind, ...], Field(min_length=1)] = NODULE_KINDS
    """What lung nodules can be; solid ones are most frequent."""
    prevalence: Probability | Literal["realistic"] = 0.35
    """Probability of each finding, drawn independently; "realistic": about as in CT-RATE, and together with what goes with it
    (age, heart failure, smoking, infection)."""
    findings: Mapping[FindingName, Probability] = {}
    """Probabilities of single findings, instead of ``prevalence``."""
    labels: Mapping[FindingName, bool] = {}
    """Findings that every case has (true) or that none has (false); all else of a case stays as it was, so that two data sets
    that differ in this alone hold the same patients with and without. What the field of view does not show is not there."""
    patient: Annotated[int, Field(ge=0)] | None = None
    """Every case has the anatomy of the case with this index; findings and scanner vary as they do without."""
    contrast: Probability = 0.55
    """Fraction of scans with intravenous contrast."""
    table: Probability = 0.85
    """Fraction of scans that show the couch."""
    noise_hu: tuple[Annotated[float, Field(ge=0.0)], Annotated[float, Field(ge=0.0)]] = (6.0, 22.0)
    """Range of the noise's standard deviation in the middle of the chest; the sharpest kernels double it."""
    circle: Probability = 0.15
    """Fraction of scans that end at the circle within the field of view; -1024 HU around it."""
    motion: Probability = 0.05
    """Fraction of scans during which the patient breathes."""
    cropped: Probability = 0.1
    """Fraction of scans whose range lies higher or lower than usual by 20 to 90 mm: it begins above the lung bases, or ends
    below the apices and shows more of the abdomen; ``size`` stays. The range moves no farther than the atlas reaches, which is
    more in taller patients: any scan of up to 190 mm moves, by 16 mm or more; with 96 slices of 3 mm one that is to move down
    does by 26 mm in the middle, and one that is to move up stays where it was in two of three patients."""
    masks: bool = False
    """Cases also carry the mask of each finding."""

    @field_validator("kinds")
    @classmethod
    def _in_order(cls, value: tuple[FindingName, ...]) -> tuple[FindingName, ...]:
        return tuple(name for name in FINDINGS if name in value)

    @field_validator("noise_hu")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the lower end {value[0]} is above the upper end {value[1]}")
        return value

    @field_validator("spacing_mm")
    @classmethod
    def _sampled(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if max(value) > 20:
            raise ValueError(f"{max(value)} mm between voxels is more than 20 mm")
        return value

    def identity(self) -> dict[str, Any]:
        """Masks that are not asked for leave no trace."""
        return {name: value for name, value in super().identity().items() if name != "masks" or value}

    def probability(self, finding: FindingName) -> float:
        """0 for what is not among ``kinds``."""
        if finding not in self.kinds:
            return 0.0
        usual = REALISTIC[finding] if self.prevalence == "realistic" else self.prevalence
        return self.findings.get(finding, usual)

    def check(self, sizes: Sizes | None = None) -> Iterable[tuple[str, str]]:
        length = self.size[0] * self.spacing_mm[0]
        if length > LONGEST_SCAN_MM:
            yield (
                "size",
                f"{self.size[0]} slices x {self.spacing_mm[0]:g} mm = {length:g} mm is longer than the {LONGEST_SCAN_MM:g} mm "
                "that the atlas covers",
            )
