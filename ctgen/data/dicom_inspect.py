"""DICOM series for ``ctgen data inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from ctgen.dicom.plane import Plane
from ctgen.dicom.reading import WHATEVER_IS_THERE, read_series
from ctgen.dicom.series import find_series
from ctgen.dicom.tree import scan
from ctgen.errors import VolumeError
from ctgen.volume.header import Header
from ctgen.volume.volume import Volume


def dicom_series(
    root: Path, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Path, Header | None, Volume | None, str]]:
    """(folder and name, header, volume, error) of every CT series below ``root``, usable or not, then of the other files.

    The volume is None where there is an error.
    """
    tree = scan(root)
    found, left = find_series(tree, WHATEVER_IS_THERE)
    for number, series in enumerate(found):
        if progress is not None:
            progress(number, len(found))
        place = _place(root, series.first, series.name)
        try:
            volume = read_series(series, WHATEVER_IS_THERE)
        except VolumeError as error:
            yield place, None, None, error.message.removeprefix(f"{series.case_id()}: ")
            continue
        header = Header(place, "DICOM", volume.shape, volume.hu.dtype, volume.affine, tuple(volume.meta["notes"]))
        yield place, header, volume, ""
    if progress is not None and found:
        progress(len(found), len(found))
    for item in left:
        yield _place(root, item.first, item.name), None, None, f"{item.slices} slices: {item.reason}"
    for reason, count in Counter(item.reason for item in tree.rejected).most_common():
        yield root, None, None, f"{count} files: {reason}"


def _place(root: Path, first: Plane, name: str) -> Path:
    return root / PurePosixPath(first.file).parent / f"[{name.replace('/', '_')}]"
