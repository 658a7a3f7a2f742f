"""One simulated chest CT from (seed, index): anatomy, findings, scanner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.arms import lay_arms, wider
from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig, FindingName
from ctgen.data.atlas.deform import coordinates, range_within
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.findings import cardiomegaly, pleural_effusion
from ctgen.data.atlas.findings.registry import MODULES, ORDER, PRESSING
from ctgen.data.atlas.findings.scene import Drawing, Facts, Scene
from ctgen.data.atlas.image import Build, finish
from ctgen.data.atlas.patient import Patient, Scanner, draw_patient, draw_scanner
from ctgen.data.atlas.prevalence import draw_presence
from ctgen.data.atlas.tissue import (
    AIR_HU,
    NEAR_BODY,
    NEAR_IODINE,
    Tissue,
    load_guides,
    load_tissue,
    organ_gain,
    tone_curve,
)
from ctgen.volume import Volume


@dataclass(frozen=True)
class Simulated:
    """``volume`` int16 HU, canonical; ``findings`` are the facts of what is in it, by name; ``masks`` (D, H, W) bool.

    ``labels`` (D, H, W) uint8 are organs as in the atlas (``names``), deformed with the anatomy. ``masks`` also holds
    "atelectasis" where an effusion collapses lung. Both are None unless they were asked for.
    """

    volume: Volume
    findings: dict[str, Facts]
    patient: Patient
    scanner: Scanner
    cardiothoracic_ratio: float | None
    names: Mapping[int, str] = field(default_factory=dict)
    labels: NDArray[np.uint8] | None = None
    masks: dict[str, NDArray[np.bool_]] | None = None


def draw_findings(seed: int, index: int, config: AtlasThoraxConfig) -> tuple[dict[str, bool], dict[str, Facts]]:
    """Which findings the case has, and the facts of all: a finding's facts do not depend on which others are present."""
    patient = draw_patient(seed, _who(index, config))
    present = draw_presence(seed, index, config, patient)
    drawing = Drawing(seed, index, config, load_guides(), patient)
    facts: dict[str, Facts] = {}
    for finding in ORDER:
        facts[finding.NAME] = finding.draw(stream(seed, index, finding.NAME), facts, drawing)
    if config.labels.get("atelectasis") is False:
        facts[pleural_effusion.NAME]["collapse"] = False
    return present, facts


def _who(index: int, config: AtlasThoraxConfig) -> int:
    """The case whose anatomy this one has."""
    return index if config.patient is None else config.patient


def simulate(
    seed: int,
    index: int,
    config: AtlasThoraxConfig | None = None,
    *,
    present: Mapping[FindingName, bool] | None = None,
    with_masks: bool = False,
) -> Simulated:
    """The case ``index`` of data set ``seed``; equal bits in every process.

    ``present`` overrides which findings the case has (counterfactuals): all else, noise included, stays as it was. A finding
    that lies outside the field of view is not in ``findings``. Raises ValueError for one that is not simulated.
    """
    config = config or AtlasThoraxConfig()
    if missing := [name for name, value in (present or {}).items() if value and name not in MODULES]:
        raise ValueError(f"not simulated: {', '.join(missing)}; there are {', '.join(MODULES)}")
    tissue = load_tissue(config.spacing_mm)
    patient = draw_patient(seed, _who(index, config))
    scanner = draw_scanner(
        seed, index, contrast=config.contrast, couch=config.table, noise_hu=config.noise_hu, step_mm=config.spacing_mm[0],
        circle=config.circle, motion=config.motion, cropped=config.cropped,
    )  # fmt: skip
    length, whole = config.size[0] * config.spacing_mm[0], len(tissue.labels) * tissue.spacing_mm[0]
    scanner = replace(scanner, range_mm=range_within(scanner.range_mm, patient, load_guides(), length, whole))
    has, facts = draw_findings(seed, index, config)
    # Also what is not among ``kinds`` may be asked for here.
    has |= {str(name): value for name, value in (present or {}).items()}

    heart = facts[cardiomegaly.NAME]["scale"] if has[cardiomegaly.NAME] else patient.heart
    for _ in range(3):
        scene, cells = _deform(seed, index, config, patient, heart, scanner.contrast, scanner.range_mm)
        ratio = cardiomegaly.cardiothoracic_ratio(scene)
        heart, before = cardiomegaly.corrected(heart, ratio, scene, enlarged=has[cardiomegaly.NAME]), heart
        if heart == before:
            break

    for pressing in PRESSING:
        if has[pressing.NAME] and pressing.press(scene, facts[pressing.NAME]):
            cells = _cells(scene.coordinates, tissue)
            scene.relabel(cells.astype(np.uint8))
            ratio = cardiomegaly.cardiothoracic_ratio(scene)
    scene.hu = _sample(scene, cells, patient, scanner)
    if patient.arms == "down":
        lay_arms(scene, patient)
    seen: dict[str, Facts] = {}
    for finding in ORDER:
        if has[finding.NAME] and (shown := finding.paint(scene, facts[finding.NAME])) is not None:
            seen[finding.NAME] = shown

    hu = finish(
        scene.hu, scene.labels > 0, _build(scene, patient), config.spacing_mm, scanner, stream(seed, index, "noise"),
        stream(seed, index, "artefacts"),
    )  # fmt: skip
    origin = tuple(-(count - 1) / 2 * step for count, step in zip(config.size[::-1], config.spacing_mm[::-1], strict=True))
    volume = Volume.canonical(hu, config.spacing_mm, (origin[0], origin[1], origin[2]))
    ordered: dict[str, Facts] = {name: seen[name] for name in FINDINGS if name in seen}
    if not with_masks:
        return Simulated(volume, ordered, patient, scanner, ratio)
    masks = {name: mask for name, mask in scene.masks.items() if name in ordered or name == "atelectasis"}
    return Simulated(volume, ordered, patient, scanner, ratio, dict(tissue.names), scene.labels, masks)


def _deform(
    seed: int,
    index: int,
    config: AtlasThoraxConfig,
    patient: Patient,
    heart_scale: float,
    contrast: float,
    range_mm: float = 0.0,
) -> tuple[Scene, NDArray[np.uint16]]:
    """The case's scene before any voxel is sampled, and ``Tissue.cells`` at the nearest atlas voxel."""
    guides, tissue = load_guides(), load_tissue(config.spacing_mm)
    where = coordinates(
        seed, _who(index, config), patient, guides, heart_scale=heart_scale, size=config.size, spacing_mm=config.spacing_mm,
        atlas_shape=_shape(tissue.labels), atlas_spacing=tissue.spacing_mm, range_mm=range_mm,
    )  # fmt: skip
    cells = _cells(where, tissue)
    return Scene(seed, index, config.spacing_mm, where, cells.astype(np.uint8), tissue, guides, contrast), cells


def _build(scene: Scene, patient: Patient) -> Build:
    heights = scene.coordinates[0, :, 0, 0].astype(float)  # a corner: no finding moves it
    sections = np.interp(heights, np.arange(len(scene.guides.area_mm2)), scene.guides.area_mm2)
    steps = scene.spacing_mm[1:]
    middle = [
        (count - 1) / 2 + shift / step for count, shift, step in zip(scene.shape[1:], patient.shift_mm[1:], steps, strict=True)
    ]
    half = [
        mm * scale / step
        for mm, scale, step in zip(scene.guides.body_half_mm, (patient.depth, patient.width), steps, strict=True)
    ]
    return Build(wider(sections * patient.width * patient.depth, patient), (middle[0], middle[1]), (half[0], half[1]))


def _shape(array: NDArray[Any]) -> tuple[int, int, int]:
    d, h, w = array.shape
    return d, h, w


def _cells(where: NDArray[np.float32], tissue: Tissue) -> NDArray[np.uint16]:
    """``Tissue.cells`` at the nearest atlas voxel."""
    return np.asarray(np.take(tissue.cells.ravel(), _nearest(where, tissue.cells.shape)))


def _nearest(where: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Flat index of the nearest atlas voxel, at the border where ``where`` is outside."""
    flat = np.zeros(where.shape[1:], np.int32)
    for axis, count in zip(where, shape, strict=True):
        cell = np.rint(axis).astype(np.int32)
        np.clip(cell, 0, count - 1, out=cell)
        flat *= count
        flat += cell
    return flat


def _sample(scene: Scene, cells: NDArray[np.uint16], patient: Patient, scanner: Scanner) -> NDArray[np.float32]:
    """HU of this patient without findings: the atlas at ``scene.coordinates``, where there is body; air elsewhere."""
    tissue: Tissue = scene.tissue
    near = cells.ravel()
    body = np.flatnonzero(near & NEAR_BODY)
    near = near[body]
    where = scene.coordinates.reshape(3, -1)[:, body]
    plain = ndimage.map_coordinates(tissue.plain, where, order=1, mode="nearest", output=np.float32)
    plain += 1024.5
    seen = tone_curve(patient)[np.clip(plain, 0, 4095).astype(np.int32)]
    if scene.contrast > 0:
        bright = np.flatnonzero(near & NEAR_IODINE)
        added = ndimage.map_coordinates(tissue.iodine, where[:, bright], order=1, mode="nearest", output=np.float32)
        seen[bright] += np.float32(scene.contrast) * added
    seen += organ_gain(tissue, patient, scanner.phase)[near.astype(np.uint8)]
    hu = np.full(cells.size, AIR_HU, np.float32)
    hu[body] = seen
    return hu.reshape(scene.shape)
