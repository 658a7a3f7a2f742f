"""Random numbers of a case: one stream per purpose, so that a change to one finding moves nothing else."""

from __future__ import annotations

import numpy as np

_STREAMS = (
    "presence",
    "patient",
    "warp",
    "scanner",
    "noise",
    "report",
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
    "nodule_kind",
    "anatomy",
    "protocol",
    "artefacts",
    "range",
)
"""Positions are part of the data set's definition: append, never reorder."""


def stream(seed: int, index: int, purpose: str, *part: int) -> np.random.Generator:
    """The generator of one purpose in case ``index``; independent of every other (seed, index, purpose, part)."""
    return np.random.default_rng(np.random.SeedSequence((seed, index, _STREAMS.index(purpose), *part)))


def bounded_normal(rng: np.random.Generator, mean: float, deviation: float, low: float, high: float) -> float:
    """A normal draw, clipped to [low, high]."""
    return float(np.clip(rng.normal(mean, deviation), low, high))
