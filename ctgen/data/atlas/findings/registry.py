"""The findings that can be painted, in the order in which they are drawn and painted.

To add a finding (its name is in ``config.FINDINGS`` and its random stream in ``draws`` already):

1. ``findings/<name>.py`` with ``NAME``, ``draw``, ``paint`` and ``rows`` as in ``Finding`` below. Draw everything from
   ``rng``, and draw it all in any case: facts must not depend on presence. ``others`` holds the facts of those before it in
   ``ORDER``. Define sizes in mm and places by organ labels (``scene.of``), atlas points (``scene.voxel_of``) or atlas
   positions (``scene.atlas_mm``); textures come from ``scene.rng(NAME)`` and ``deform.smooth_field``. Change ``scene.hu``
   in a small box only, keep out of ``scene.free``, set ``scene.masks[NAME]``, and measure what the facts state.
2. Add the module to ``ORDER`` below: after what it depends on, and where its paint belongs (air and density first, then
   what fills lung, then what lies on top). A finding that moves anatomy before voxels are sampled has ``press`` as well and
   is named in ``PRESSING``.
3. ``reports/<name>.py`` with ``present`` and ``impression`` beside ``absent`` and ``SPEAKS`` (see ``reports/registry.py``),
   and its place in a section of ``reports/compose.py``.
4. Tests in ``tests/unit/data/atlas``; those of ``test_every_finding.py`` run for every finding of ``ORDER`` by themselves.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ctgen.data.atlas.findings import (
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
from ctgen.data.atlas.findings.scene import Drawing, Facts, Others, Scene


class Finding(Protocol):
    """A module of this package."""

    NAME: str

    def draw(self, rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
        """JSON-ready facts, with ``name``; the same whether or not the case has the finding."""

    def paint(self, scene: Scene, facts: Facts) -> Facts | None:
        """Changes ``scene.hu`` and sets ``scene.masks[NAME]``; the facts with what was measured, or None if nothing shows."""

    def rows(self, facts: Facts) -> list[Facts]:
        """One mapping per lesion and side, of what ``paint`` returned: ``name``, ``size`` (small, moderate, large), and
        where they apply ``side``, ``lobe``, ``size_mm``, ``severity``."""


class Pressing(Finding, Protocol):
    """A finding that moves the anatomy around it."""

    def press(self, scene: Scene, facts: Facts) -> bool:
        """Before ``scene.hu`` is sampled: changes ``scene.coordinates``. True if organs moved, so that ``scene.labels`` are to
        be looked up again; False if only what lies within a lung did."""


ORDER: tuple[Finding, ...] = (
    cardiomegaly,
    emphysema,
    pleural_effusion,
    pericardial_effusion,
    hiatal_hernia,
    lymphadenopathy,
    consolidation,
    lung_nodule,
    mosaic_attenuation_pattern,
    lung_opacity,
    interlobular_septal_thickening,
    pulmonary_fibrotic_sequela,
    atelectasis,
    peribronchial_thickening,
    bronchiectasis,
    arterial_wall_calcification,
    coronary_artery_wall_calcification,
    medical_material,
)
PRESSING: tuple[Pressing, ...] = (emphysema, pleural_effusion)
MODULES: dict[str, Finding] = {module.NAME: module for module in ORDER}
