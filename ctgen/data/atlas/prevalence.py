"""Which findings a case has: independent draws, or about as often and as often together as in clinical chest CT.

``REALISTIC`` approximates the shares of CT-RATE's 18 labels, rounded, and is no copy of any table; ``TOGETHER`` is our own
choice of what goes with what. With it, each finding has a normal score, a weighted sum of what is its own and of four
properties of the patient, and is there where the score is over the threshold that its probability sets: each finding keeps its
own prevalence, whatever it goes with.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.patient import Patient

TOGETHER: dict[str, dict[str, float]] = {
    "age": {
        "arterial_wall_calcification": 0.65, "coronary_artery_wall_calcification": 0.6, "hiatal_hernia": 0.35,
        "cardiomegaly": 0.3, "pulmonary_fibrotic_sequela": 0.3, "medical_material": 0.25, "emphysema": 0.2,
        "bronchiectasis": 0.15, "lung_nodule": 0.15,
    },
    "heart failure": {
        "pleural_effusion": 0.6, "cardiomegaly": 0.55, "pericardial_effusion": 0.5, "interlobular_septal_thickening": 0.5,
        "atelectasis": 0.4, "medical_material": 0.35, "coronary_artery_wall_calcification": 0.3,
        "peribronchial_thickening": 0.2, "mosaic_attenuation_pattern": 0.2,
    },
    "smoking": {
        "emphysema": 0.65, "peribronchial_thickening": 0.45, "bronchiectasis": 0.3, "lung_nodule": 0.25,
        "arterial_wall_calcification": 0.2, "coronary_artery_wall_calcification": 0.2, "mosaic_attenuation_pattern": 0.2,
        "pulmonary_fibrotic_sequela": 0.2,
    },
    "infection": {
        "consolidation": 0.6, "lung_opacity": 0.55, "lymphadenopathy": 0.4, "peribronchial_thickening": 0.35,
        "pleural_effusion": 0.3, "interlobular_septal_thickening": 0.3, "atelectasis": 0.25, "bronchiectasis": 0.2,
        "lung_nodule": 0.15,
    },
}  # fmt: skip
"""Property of a patient -> by how much it goes into a finding's score; squares of a finding sum to less than 1."""


def draw_presence(seed: int, index: int, config: AtlasThoraxConfig, patient: Patient) -> dict[str, bool]:
    """Every finding of ``FINDINGS``; ``config.labels`` go before what is drawn."""
    chances = stream(seed, index, "presence").uniform(size=len(FINDINGS))
    if config.prevalence == "realistic":
        chances = _together(seed, index, chances, patient)
    present = {name: bool(chance < config.probability(name)) for name, chance in zip(FINDINGS, chances, strict=True)}
    return present | {str(name): value for name, value in config.labels.items()}


def _together(seed: int, index: int, chances: np.ndarray, patient: Patient) -> np.ndarray:
    """Uniform numbers that are no longer independent: low for what the patient is prone to."""
    traits = dict(zip(TOGETHER, stream(seed, index, "presence", 1).standard_normal(len(TOGETHER)), strict=True))
    # Age is known: 24 to 87, as often each.
    traits["age"] = float(special.ndtri(np.clip((patient.age - 23.5) / 64, 0.01, 0.99)))
    own = -special.ndtri(np.clip(chances, 1e-12, 1 - 1e-12))
    scores = []
    for name, score in zip(FINDINGS, own, strict=True):
        weights = {trait: table.get(name, 0.0) for trait, table in TOGETHER.items()}
        rest = 1 - sum(weight**2 for weight in weights.values())
        scores.append(np.sqrt(rest) * score + sum(weight * traits[trait] for trait, weight in weights.items()))
    return np.asarray(special.ndtr(-np.array(scores)))
