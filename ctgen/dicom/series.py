"""From the planes of a tree to series that can be read, and those that are left out with their reason."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ctgen.dicom.config import DicomReading
from ctgen.dicom.plane import NO_HU, Plane
from ctgen.dicom.stack import Grid, Stack, Unusable, check_planes, even_grid, stack_of
from ctgen.dicom.tree import Tree

SPLITS: tuple[tuple[str, Callable[[Plane], object]], ...] = (
    ("AcquisitionNumber", lambda plane: plane.acquisition),
    ("TemporalPosition", lambda plane: plane.temporal),
    ("ConvolutionKernel", lambda plane: plane.kernel),
    ("ImageType", lambda plane: plane.image_type),
)
"""What may tell apart images of one series that share their positions."""


@dataclass(frozen=True)
class Series:
    """Slices of one geometry from one series. ``part`` counts from 1 if the series holds several; ``key`` names it for good."""

    root: Path
    key: str
    part: int
    stack: Stack
    grid: Grid
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Plane:
        """What the header says of all slices alike."""
        return self.stack.planes[0]

    @property
    def files(self) -> list[str]:
        """Below root, each once."""
        extra = [plane.file for group in self.stack.duplicates for plane in group]
        return sorted({plane.file for plane in self.stack.planes} | set(extra))

    @property
    def name(self) -> str:
        """For people: number, description and kernel."""
        return _name(self.first)

    def case_id(self, secret: bytes = b"") -> str:
        """File-name safe, from a hash of the key; with a ``secret`` nobody can get it from the UID alone."""
        return f"ct-{pseudonym(self.key, secret)}" + (f"-{self.part}" if self.part > 1 else "")

    def patient(self, secret: bytes = b"") -> str:
        """A pseudonym: of the patient's id, or of the study or the series where the files have none."""
        first = self.first
        return f"p-{pseudonym(first.patient or first.study or self.key, secret)}"


@dataclass(frozen=True)
class LeftOut:
    """A series, or a part of one, that is not read."""

    key: str
    part: int
    first: Plane
    slices: int
    reason: str

    @property
    def name(self) -> str:
        return _name(self.first)

    def case_id(self, secret: bytes = b"") -> str:
        return f"ct-{pseudonym(self.key, secret)}" + (f"-{self.part}" if self.part > 1 else "")


def pseudonym(text: str, secret: bytes = b"") -> str:
    """12 hex digits."""
    return hashlib.blake2b(text.encode(), key=secret, digest_size=6).hexdigest()


def find_series(tree: Tree, options: DicomReading) -> tuple[list[Series], list[LeftOut]]:
    """Every CT series of a tree under ``options``, in the order of its first file."""
    groups: dict[str, list[Plane]] = {}
    for plane in tree.planes:
        groups.setdefault(_group(plane), []).append(plane)
    found: list[Series] = []
    left: list[LeftOut] = []
    for planes in groups.values():
        _take(tree.root, planes, options, found, left)
    return found, left


def _group(plane: Plane) -> str:
    """By SeriesInstanceUID; where anonymisation blanked it, by folder, frame of reference and series number."""
    if plane.series:
        return plane.series
    return "\x1f".join([PurePosixPath(plane.file).parent.as_posix(), plane.reference, plane.number, plane.description])


def _key(planes: Sequence[Plane]) -> str:
    """The series' UID; without one the lowest instance UID, without that the first file's name."""
    return (
        planes[0].series or min((plane.sop for plane in planes if plane.sop), default="") or min(plane.file for plane in planes)
    )


def _take(root: Path, planes: list[Plane], options: DicomReading, found: list[Series], left: list[LeftOut]) -> None:
    key = _key(planes)
    notes = [] if planes[0].series else ["no SeriesInstanceUID in the files: grouped by folder and frame of reference"]
    planes, again = _without_copies(planes)
    if again:
        notes.append(f"{again} files repeat an instance (same SOPInstanceUID) and are compared with it when it is read")
    part = 0
    for candidate, why in _parts(planes, options):
        part += 1
        first = candidate[0]
        refused = _filtered(candidate, options)
        if refused:
            left.append(LeftOut(key, part, first, len(candidate), refused))
            continue
        try:
            check_planes(candidate)
            stack = stack_of(candidate)
            if len(stack.planes) < options.min_slices:
                raise Unusable(f"{len(stack.planes)} slices, fewer than min_slices = {options.min_slices}")
            series = _series(root, key, part, stack, options, [*notes, *([why] if why else [])])
        except Unusable as error:
            left.append(LeftOut(key, part, first, len(candidate), str(error)))
            continue
        found.append(series)


def _series(root: Path, key: str, part: int, stack: Stack, options: DicomReading, notes: list[str]) -> Series:
    """Checks that need the whole stack. Raises Unusable."""
    first, count = stack.planes[0], len(stack.planes)
    if stack.plane_name not in options.planes:
        raise Unusable(f"{stack.plane_name} slices; planes = {', '.join(options.planes)}")
    grid = even_grid(stack, options)
    spacing = float(np.linalg.norm(grid.step))
    if options.max_spacing_mm is not None and spacing > options.max_spacing_mm:
        raise Unusable(f"slices are {spacing:.4g} mm apart, more than max_spacing_mm = {options.max_spacing_mm:g}")
    if stack.tilt_degrees > options.tilt_tolerance_degrees:
        shift = float(np.linalg.norm(stack.drift))
        what = f"gantry tilt of {stack.tilt_degrees:.2f} degrees: {shift:.1f} mm in plane from the first to the last slice"
        if options.tilt == "refuse":
            raise Unusable(what)
        notes.append(
            f"{what}; " + ("kept as shear in the affine" if options.tilt == "keep" else "slices shifted back in plane")
        )
    bare = sum(plane.slope is None or plane.intercept is None for plane in stack.planes)
    if bare:
        what = f"no RescaleSlope and RescaleIntercept in {bare} of {count} slices"
        if options.missing_rescale == "refuse":
            raise Unusable(f"{what}: the stored values are not known to be HU (missing_rescale = refuse)")
        notes.append(f"{what}: stored values are taken as HU")
    kinds = {plane.rescale_type.upper() for plane in stack.planes}
    if wrong := sorted(kinds & set(NO_HU)):
        raise Unusable(f"RescaleType is {', '.join(wrong)}: the values are no HU")
    if "US" in kinds:
        notes.append("RescaleType is US (unspecified); the values are taken as HU")
    if len({(plane.slope, plane.intercept) for plane in stack.planes}) > 1:
        notes.append("RescaleSlope and Intercept differ between slices; each slice has its own")
    doubled = sum(map(len, stack.duplicates))
    if doubled:
        places = sum(bool(group) for group in stack.duplicates)
        notes.append(f"{doubled} duplicate images at {places} of {count} positions")
    if any(plane.lossy for plane in stack.planes):
        notes.append("lossy compressed at some time (LossyImageCompression = 01)")
    if first.burned_in:
        notes.append("BurnedInAnnotation is YES: text may be in the pixels")
    return Series(root, key, part, stack, grid, (*notes, *grid.notes))


def _without_copies(planes: list[Plane]) -> tuple[list[Plane], int]:
    """Planes that are in one order for good, and how many repeat an instance; repeats stay, as duplicates of a position."""
    ordered = sorted(planes, key=lambda plane: (plane.instance, plane.file, plane.frame))
    counts = Counter((plane.sop, plane.frame) for plane in ordered if plane.sop)
    return ordered, sum(count - 1 for count in counts.values())


def _parts(planes: list[Plane], options: DicomReading) -> list[tuple[list[Plane], str]]:
    """Stacks within a series, the largest first: by geometry, then by what tells images at the same positions apart."""
    angle = np.cos(np.radians(options.orientation_tolerance_degrees))
    groups: list[list[Plane]] = []
    for plane in planes:
        for group in groups:
            if _alike(group[0], plane, float(angle)):
                group.append(plane)
                break
        else:
            groups.append([plane])
    groups.sort(key=len, reverse=True)
    several = f"{len(groups)} geometries in the series, {', '.join(str(len(group)) for group in groups[:4])} slices"
    return [
        (part, "; ".join(filter(None, [several if len(groups) > 1 else "", why])))
        for group in groups
        for part, why in _apart(group)
    ]


def _apart(planes: list[Plane]) -> list[tuple[list[Plane], str]]:
    """Several passes over the same positions (phases, kernels) become several stacks; copies of a file do not."""
    if not _overlap(planes):
        return [(planes, "")]
    for name, of in SPLITS:
        groups: dict[object, list[Plane]] = {}
        for plane in planes:
            groups.setdefault(of(plane), []).append(plane)
        if len(groups) > 1 and not any(_overlap(group) for group in groups.values()):
            why = f"the series covers its positions {len(groups)} times; split by {name}"
            return [(group, why) for group in groups.values()]
    return [(planes, "")]


def _overlap(planes: Sequence[Plane]) -> bool:
    """True if different instances are at one position."""
    places: dict[tuple[float, ...], str] = {}
    for plane in planes:
        place = tuple(round(value, 2) for value in plane.position)
        name = f"{plane.sop}/{plane.frame}" if plane.sop else f"{plane.instance}/{plane.frame}"
        if places.setdefault(place, name) != name:
            return True
    return False


def _alike(one: Plane, other: Plane, angle: float) -> bool:
    if (one.rows, one.columns) != (other.rows, other.columns) or len(one.orientation) != len(other.orientation):
        return False
    if len(one.spacing) != len(other.spacing) or one.reference != other.reference:
        return False
    if one.spacing != other.spacing and not np.allclose(one.spacing, other.spacing, rtol=1e-4, atol=0):
        return False
    if one.orientation == other.orientation or len(one.orientation) != 6:
        return True
    a, b = np.asarray(one.orientation), np.asarray(other.orientation)
    return float(a[:3] @ b[:3]) >= angle and float(a[3:] @ b[3:]) >= angle


def _filtered(planes: Sequence[Plane], options: DicomReading) -> str:
    """Why the options leave these planes out; the empty string if they do not."""
    first = planes[0]
    if kinds := sorted({kind for kind in first.image_type if kind in {name.upper() for name in options.exclude_types}}):
        return "localiser" if "LOCALIZER" in kinds else f"ImageType {', '.join(kinds)}"
    if first.synthetic and options.synthetic == "leave-out":
        return "it is labelled synthetic (synthetic = leave-out)"
    if options.series is not None and not re.search(options.series, first.description, re.IGNORECASE):
        return f"its description does not match series = {options.series!r}"
    if options.exclude_series is not None and re.search(options.exclude_series, first.description, re.IGNORECASE):
        return f"its description matches exclude_series = {options.exclude_series!r}"
    wanted = {kernel.upper() for kernel in options.kernels}
    if wanted and not wanted & {first.kernel.upper(), *first.kernel.upper().split("\\")}:
        return f"kernel {first.kernel or 'not stated'}; kernels = {', '.join(options.kernels)}"
    if options.contrast == "with" and not first.contrast:
        return "no ContrastBolusAgent; contrast = with"
    if options.contrast == "without" and first.contrast:
        return "it states a ContrastBolusAgent; contrast = without"
    return ""


def _name(first: Plane) -> str:
    parts = [f"series {first.number}" if first.number else "series", repr(first.description) if first.description else ""]
    return " ".join(filter(None, [*parts, f"kernel {first.kernel.partition(chr(92))[0]}" if first.kernel else ""]))
