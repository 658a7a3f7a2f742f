"""Volumes that somebody made: found by case id, read, checked against the real scan, put on its grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import numpy as np

from ctgen.errors import DataError, VolumeError
from ctgen.interfaces import Skipped
from ctgen.volume import Volume
from ctgen.volume.header import is_volume_file, volume_stem
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import crop_or_pad, resample

AGREE, DIFFER = 0.05, 0.15
"""Relative difference of extents up to which they agree, and from which they do not."""
SHORTEST = 0.6
"""Of the real scan's length; a shorter volume is truncated."""
FILL_HU = -1000.0


def volume_files(folder: Path) -> dict[str, Path]:
    """File stem -> path, of the volume files right in ``folder``, or below it if there is none. DataError if two share one."""
    found = [path for path in sorted(folder.iterdir()) if is_volume_file(path)]
    if not found:
        found = [path for path in sorted(folder.rglob("*")) if is_volume_file(path) and not path.name.startswith(".")]
    files: dict[str, Path] = {}
    for path in found:
        stem = volume_stem(path)
        if stem in files:
            raise DataError(f"{files[stem]} and {path} are both case {stem!r}", hint="keep one of them")
        files[stem] = path
    if not files:
        raise DataError(f"no volume in {folder} (looked for .nii.gz, .nii, .mha, .mhd, .nrrd)")
    return files


@dataclass
class Matched:
    """``files`` of the wanted cases that are there; ``left_out``: the others with the reason; ``unknown``: files of no case."""

    files: dict[str, Path]
    left_out: list[Skipped] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def match(folder: Path, ids: Sequence[str]) -> Matched:
    files = volume_files(folder)
    there = {case_id: files[case_id] for case_id in ids if case_id in files}
    if not there:
        names = ", ".join(list(files)[:4])
        raise DataError(
            f"no file of {folder} is named after a case",
            hint=f"files: {names}, ...; cases: {', '.join(list(ids)[:4])}, ... Name each volume CASE.nii.gz",
        )
    missing = [Skipped(case_id, f"missing: no file {case_id}.* in {folder}") for case_id in ids if case_id not in files]
    return Matched(there, missing, sorted(files.keys() - set(ids)))


def read_matching(path: Path, real: Volume) -> Volume:
    """The volume in canonical orientation. VolumeError: unreadable, or not a volume of this part of a body."""
    volume = to_canonical(read_volume(path))[0]
    if reason := geometry_problem(volume, real) or content_problem(volume, real):
        raise VolumeError(path, reason)
    return volume


def geometry_problem(volume: Volume, real: Volume) -> str:
    """Why ``volume`` cannot be set against ``real`` (both canonical), by their extents; "" if it can."""
    own, wanted = extent_mm(volume), extent_mm(real)
    apart = _apart(own, wanted)
    if apart > DIFFER:
        for order in permutations(range(3)):
            turned = (own[order[0]], own[order[1]], own[order[2]])
            if order != (0, 1, 2) and _apart(turned, wanted) <= AGREE:
                axes = "".join("DHW"[axis] for axis in order)
                return (
                    f"wrong orientation: it covers {_text(own)} mm (D x H x W), the real scan {_text(wanted)} mm; "
                    f"its axes fit in the order {axes}, so the file's affine contradicts its voxels"
                )
    if own[0] < SHORTEST * wanted[0]:
        return f"truncated: {volume.shape[0]} slices, {own[0]:.0f} mm of the real scan's {wanted[0]:.0f} mm"
    return ""


def content_problem(volume: Volume, real: Volume) -> str:
    """Whether the body lies as in ``real``: a flip that explains much more of it than no flip is a wrong orientation."""
    one, other = _coarse(volume), _coarse(real)
    straight = _correlation(one, other)
    for axis, what in ((0, "upside down"), (1, "back to front")):
        flipped = _correlation(np.flip(one, axis), other)
        if flipped > 0.5 and flipped - straight > 0.15:
            return (
                f"wrong orientation: it lies {what} although its affine says otherwise (likeness to the real scan "
                f"{straight:.2f}, flipped along {'DHW'[axis]} {flipped:.2f})"
            )
    return ""


def on_grid_of(volume: Volume, real: Volume) -> tuple[Volume, str]:
    """``volume`` on the voxel grid of ``real`` around its own middle, and what was done ("" if nothing); int16 if it was."""
    done = []
    if not np.allclose(volume.spacing_mm, real.spacing_mm, rtol=1e-4):
        spacing = " x ".join(f"{value:.4g}" for value in volume.spacing_mm)
        volume = resample(volume, real.spacing_mm)
        done.append(f"resampled from {spacing} mm")
    if volume.shape != real.shape:
        done.append(f"cropped or padded from {volume.shape} voxels")
        volume = crop_or_pad(volume, real.shape, fill_hu=FILL_HU)
    if not done:
        return volume, ""
    return Volume(np.rint(volume.hu).astype(np.int16), volume.affine, volume.meta), "; ".join(done)


def shifted(cuts: Sequence[int], before: Volume, after: Volume) -> tuple[int, ...]:
    """Slice numbers of ``before`` as slice numbers of ``after``, which lies around the same middle."""
    ratio = before.spacing_mm[0] / after.spacing_mm[0]
    start = (after.shape[0] - before.shape[0] * ratio) / 2
    return tuple(cut for cut in (round(start + one * ratio) for one in cuts) if 0 < cut < after.shape[0])


def extent_mm(volume: Volume) -> tuple[float, float, float]:
    """(D, H, W), voxel edge to voxel edge."""
    d, h, w = (size * spacing for size, spacing in zip(volume.shape, volume.spacing_mm, strict=True))
    return d, h, w


def _apart(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) / b for a, b in zip(one, other, strict=True))


def _text(extent: Sequence[float]) -> str:
    return " x ".join(f"{value:.0f}" for value in extent)


def _coarse(volume: Volume, side: int = 24) -> np.ndarray:
    """(side, side, side) float64: the nearest voxels at evenly spaced fractions, clipped to what all of a body has."""
    at = [np.minimum(((np.arange(side) + 0.5) / side * size).astype(int), size - 1) for size in volume.shape]
    return np.clip(np.asarray(volume.hu[np.ix_(*at)], np.float64), -1000, 300)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / norm) if norm else 0.0


def listed(left_out: Sequence[Skipped]) -> Mapping[str, str]:
    return {entry.id: entry.reason for entry in left_out}
