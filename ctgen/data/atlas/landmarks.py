"""Places of the mediastinum that several findings need: found once in the atlas, in mm (D, H, W) from its first voxel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.atlas import load_atlas
from ctgen.data.atlas.tissue import widen

Array = NDArray[Any]

_AROUND: dict[str, tuple[float, float, float]] = {
    "paratracheal right": (248.0, 158.0, 200.0),
    "paratracheal left": (240.0, 160.0, 241.0),
    "subcarinal": (199.0, 177.0, 223.0),
    "hilar right": (200.0, 168.0, 186.0),
    "hilar left": (203.0, 176.0, 288.0),
    "prevascular": (232.0, 116.0, 254.0),
    "axillary right": (272.0, 170.0, 122.0),
    "axillary left": (272.0, 170.0, 352.0),
}
"""Where to look for room at each station of lymph nodes."""
_SEARCH_MM = 17.0
_APART_MM = 15.0
_SLOTS = 3
STATIONS = tuple(_AROUND)


@dataclass(frozen=True)
class Landmarks:
    """``vessels`` is (D, H, W) on the widened atlas: everything that holds contrast, labelled or not."""

    oesophagus_mm: NDArray[np.float64]
    """(N, 3) its middle, slice by slice, from below."""
    vessels: NDArray[np.bool_]
    stations_mm: dict[str, NDArray[np.float64]]
    """Station -> (3, 3) places with most room for a node, the best first."""


@lru_cache(maxsize=1)
def load_landmarks() -> Landmarks:
    """0.5 s, once per process, and only if a finding needs it."""
    atlas = load_atlas()
    hu, labels = widen(atlas.hu, atlas.labels)
    spacing = np.array(atlas.volume.spacing_mm)
    bones = np.isin(labels, atlas.ids("rib_", "vertebra", "scapula", "clavicula", "humerus", "sternum", "costal_cart", "hip"))
    # Marrow and cartilage around a bone are as bright as a vessel.
    vessels = (hu > 140) & ~ndimage.binary_dilation(bones, iterations=2)
    vessels &= ~np.isin(labels, atlas.ids("lung_", "liver", "spleen", "kidney", "bowel", "colon"))
    found = np.argwhere(np.isin(labels, atlas.ids("esophagus")))
    middle = np.array([found[found[:, 0] == level].mean(0) for level in np.unique(found[:, 0])]) * spacing
    middle[:, 1:] = ndimage.gaussian_filter1d(middle[:, 1:], 2.0, axis=0, mode="nearest")
    kept = vessels | bones
    kept |= np.isin(labels, atlas.ids("trachea", "heart", "esophagus", "aorta", "vein", "vena", "artery", "trunk", "atrial"))
    stations = {name: _slots(name, hu, labels, kept, np.isin(labels, atlas.ids("lung_")), spacing) for name in STATIONS}
    return Landmarks(middle.round(2), vessels, stations)


def _slots(
    name: str, hu: Array, labels: Array, kept: NDArray[np.bool_], lungs: NDArray[np.bool_], spacing: Array
) -> NDArray[np.float64]:
    """The points near a station that are farthest from what a node cannot take the place of; not deep in the lung."""
    goal = np.array(_AROUND[name])
    low = np.maximum(np.rint((goal - 2 * _SEARCH_MM) / spacing).astype(int), 0)
    high = np.minimum(np.rint((goal + 2 * _SEARCH_MM) / spacing).astype(int) + 1, hu.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    solid = kept[box]
    if name.startswith("axillary"):
        # Between muscles, in fat: neither they nor the lung give way.
        solid = solid | (ndimage.gaussian_filter(hu[box].astype(np.float32), 1.0) > -40) | lungs[box] | (labels[box] == 0)
    room = ndimage.distance_transform_edt(~solid, sampling=spacing)
    depth = ndimage.distance_transform_edt(lungs[box], sampling=spacing)
    where = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1) * spacing
    far = np.sqrt(((where - goal) ** 2).sum(-1))
    score = np.minimum(room, 9.0) - 0.25 * far - 1.6 * np.maximum(depth - 2.5, 0)
    score[far > _SEARCH_MM] = -np.inf
    slots = []
    for _ in range(_SLOTS):
        best = where[np.unravel_index(int(score.argmax()), score.shape)]
        slots.append(best)
        score[np.sqrt(((where - best) ** 2).sum(-1)) < _APART_MM] -= 1000
    return np.array(slots).round(2)
