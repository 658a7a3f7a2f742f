"""What a finding sees and changes: a case between deformation and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.patient import Patient
from ctgen.data.atlas.tissue import Guides, Tissue

Array = NDArray[Any]
Facts = dict[str, Any]
"""JSON-ready: what was drawn about one finding, and after painting what can be measured."""
Box = tuple[slice, slice, slice]
SIZE_OF = {"mild": "small", "moderate": "moderate", "marked": "large", "severe": "large"}
"""Severity -> the size that a row of facts states."""


@dataclass
class Scene:
    """Arrays are (D, H, W) on the case's grid; ``coordinates`` (3, D, H, W) are widened-atlas voxels."""

    seed: int
    index: int
    spacing_mm: tuple[float, float, float]
    coordinates: NDArray[np.float32]
    labels: NDArray[np.uint8]
    tissue: Tissue
    guides: Guides
    contrast: float
    hu: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    fluid: NDArray[np.float32] | None = None
    """0 ... 1: pleural fluid and what ``take`` added; whatever is painted later stays out of it."""
    collapsed: NDArray[np.float32] | None = None
    """0 ... 1: lung that the fluid presses airless."""
    lowered_mm: float = 0.0
    """By how much the domes of the diaphragm were lowered, in mm of the atlas."""
    masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """By finding. What a finding paints later may change voxels of an earlier one, never its mask."""

    @property
    def shape(self) -> tuple[int, int, int]:
        d, h, w = self.labels.shape
        return d, h, w

    def rng(self, finding: str, part: int = 1) -> np.random.Generator:
        """For textures: another generator than that of the finding's draw; equal at every call."""
        return stream(self.seed, self.index, finding, part)

    def of(self, *parts: str) -> NDArray[np.bool_]:
        """Voxels of the structures whose name contains one of ``parts``."""
        table = np.zeros(256, bool)
        for label, name in self.tissue.names.items():
            table[label] = any(part in name for part in parts)
        return np.asarray(table[self.labels])

    def in_box(self, box: Box, *parts: str) -> NDArray[np.bool_]:
        """``of`` in a part of the volume."""
        table = np.zeros(256, bool)
        for label, name in self.tissue.names.items():
            table[label] = any(part in name for part in parts)
        return np.asarray(table[self.labels[box]])

    def atlas_mm(self, box: Box) -> NDArray[np.float32]:
        """(3, ...) the atlas position in mm of each voxel in ``box``."""
        scale = np.array(self.tissue.spacing_mm, np.float32).reshape(3, 1, 1, 1)
        return np.asarray(self.coordinates[(slice(None), *box)] * scale)

    def voxel_of(self, atlas_mm: Array) -> NDArray[np.float64]:
        """(3,) the voxel position, in fractions, that shows an atlas point; may lie outside the volume."""
        goal = np.asarray(atlas_mm, float) / np.array(self.tissue.spacing_mm)
        position = (np.array(self.shape) - 1) / 2
        for _ in range(12):
            low = np.clip(np.floor(position).astype(int), 0, np.array(self.shape) - 2)
            here = self.coordinates[:, low[0], low[1], low[2]].astype(float)
            corners = [self.coordinates[(slice(None), *(low + step))] for step in np.eye(3, dtype=int)]
            slopes = np.stack(corners, 1).astype(float) - here[:, None]
            position = low + np.linalg.solve(slopes, goal - here)
        return np.asarray(position)

    def voxels_of(self, atlas_mm: Array) -> NDArray[np.float64]:
        """(N, 3) as ``voxel_of``, for many points at once."""
        goal = np.asarray(atlas_mm, float) / np.array(self.tissue.spacing_mm)
        last = np.array(self.shape) - 2
        position = np.tile((np.array(self.shape) - 1) / 2, (len(goal), 1))
        for _ in range(12):
            low = np.clip(np.floor(position).astype(int), 0, last)
            here = self.coordinates[:, low[:, 0], low[:, 1], low[:, 2]].T.astype(float)
            corners = [self.coordinates[:, d, h, w].T for d, h, w in ((low + step).T for step in np.eye(3, dtype=int))]
            slopes = np.stack(corners, 2).astype(float) - here[:, :, None]
            # Beside an effusion lung is pressed flat: no step is longer than the volume, and none divides by zero.
            slopes[np.abs(np.linalg.det(slopes)) < 1e-4] = np.eye(3)
            step = np.linalg.solve(slopes, (goal - here)[:, :, None])[:, :, 0]
            position = low + np.clip(step, -last, last)
        return np.asarray(position)

    def free(self, box: Box) -> NDArray[np.float32] | float:
        """1 where no fluid is."""
        return 1.0 if self.fluid is None else 1.0 - self.fluid[box]

    def take(self, box: Box, amount: NDArray[np.float32]) -> None:
        """Nothing that is painted later changes these voxels, by ``amount`` (0 ... 1)."""
        if self.fluid is None:
            self.fluid = np.zeros(self.shape, np.float32)
        np.maximum(self.fluid[box], amount, out=self.fluid[box])

    def fill(self, box: Box, amount: NDArray[np.float32], value_hu: float, *, seal: bool = True) -> None:
        """Blend lung towards ``value_hu`` by ``amount`` (0 ... 1); denser tissue stays.

        ``seal``: also the voxels next to it that are half lung and half wall, or a dark line would stay along the pleura.
        """
        part = self.hu[box]
        np.copyto(part, part + amount * np.maximum(value_hu - part, 0))
        if seal:
            wall = ~self.of_lungs[box] & (part < -150)
            grown = ndimage.maximum_filter(amount, 3)
            np.copyto(part, np.where(wall, part + grown * (value_hu - part), part))

    def relabel(self, labels: NDArray[np.uint8]) -> None:
        """After ``coordinates`` moved organs."""
        self.labels = labels
        self._cache.clear()

    @property
    def of_lungs(self) -> NDArray[np.bool_]:
        if "lungs" not in self._cache:
            self._cache["lungs"] = self.of("lung_")
        return self._cache["lungs"]

    _cache: dict[str, NDArray[np.bool_]] = field(default_factory=dict)


def box_of(mask: NDArray[np.bool_], margin: int = 0) -> Box | None:
    """The smallest box around ``mask``, widened by ``margin`` voxels within the array; None if it is empty."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(mask.any(others))
        if not len(found):
            return None
        sides.append(slice(max(0, int(found[0]) - margin), min(mask.shape[axis], int(found[-1]) + 1 + margin)))
    return sides[0], sides[1], sides[2]


def ramp(value: Array, low: float, high: float) -> Array:
    """Smooth step: 0 below ``low``, 1 above ``high``."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


Others = Mapping[str, Facts]
"""Facts of the findings drawn before, whether or not the case has them: constraints never depend on presence."""


@dataclass(frozen=True)
class Drawing:
    """What a finding may look at when it is drawn: nothing of the image."""

    seed: int
    index: int
    config: AtlasThoraxConfig
    guides: Guides
    patient: Patient

    @property
    def smallest_mm(self) -> float:
        """What two voxels still show."""
        return 2 * max(self.config.spacing_mm)
