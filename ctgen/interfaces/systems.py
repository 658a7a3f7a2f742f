"""What stands at both ends: data sets, generators and exporters.

Shapes and conventions: see ctgen.interfaces. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ctgen.interfaces.values import Case, Report, Skipped

if TYPE_CHECKING:
    from ctgen.volume import Volume


@runtime_checkable
class Dataset(Protocol):
    """Cases by index. ``ids`` and ``skipped`` are cheap; ``__getitem__`` reads or makes the volume.

    May also have ``origin(index) -> Origin``: when scans are added later, the prepared cases whose origin is unchanged are
    taken over; without it every case is prepared again.
    """

    ids: Sequence[str]
    skipped: Sequence[Skipped]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Case: ...


@runtime_checkable
class Exporter(Protocol):
    suffix: str
    """File suffix with its dot, such as ".nii.gz"."""

    def write(self, volume: Volume, path: Path) -> Path:
        """Write atomically; returns the path written."""


@dataclass(frozen=True)
class CaseRequest:
    """What a generator is asked for: ``slices`` of the result (None: the model decides), spacing (D, H, W) in mm (None: the
    model's own), ``head``, a scan whose first block is kept and continued, or ``teacher``, a scan whose real slices are the
    context of every block (block-wise; not together with a head)."""

    id: str
    report: Report
    slices: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    head: Volume | None = None
    teacher: Volume | None = None


@runtime_checkable
class Generator(Protocol):
    """A whole report-to-volume system. The draw depends on ``seed`` and ``request.id`` alone."""

    def generate(self, request: CaseRequest, seed: int) -> Volume: ...


@runtime_checkable
class NeedsData(Protocol):
    """A Generator that looks at real cases, such as the mean of the training volumes.

    Whoever runs it calls ``prepare`` once, before the first ``generate``; ``generate`` before that is a DataError. It then
    answers for any request, with volumes on the grid of the cases it was shown, and draws as every Generator does.
    """

    def prepare(self, train: Dataset, held_out: Dataset) -> None:
        """``train``: what a model may learn from. ``held_out``: the cases whose reports will be asked for, by the same ids
        (CaseRequest.id); only a generator that by its nature must see the real scan (a reconstruction) may read them.

        Volumes are canonical and prepared, all of one grid. Both may be large: cases are read one at a time, each as often as
        wanted, and the data sets outlive the generator. An empty ``train`` is a DataError if it is needed.
        """
