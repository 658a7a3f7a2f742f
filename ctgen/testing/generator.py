"""What every report-to-volume generator must do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ctgen.interfaces import Case, CaseRequest, NeedsData, Report, Skipped
from ctgen.testing.dataset import check_volume
from ctgen.testing.expect import equal, expect, global_rng_untouched
from ctgen.testing.volumes import phantom
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical

REQUESTS = (
    CaseRequest("case-a", Report("Right pleural effusion.", "Effusion."), slices=8),
    CaseRequest("case-b", Report("The lungs are clear.", "Normal."), slices=8),
)


class MemoryCases:
    """A Dataset of cases in memory."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases
        self.ids: Sequence[str] = [case.id for case in cases]
        self.skipped: Sequence[Skipped] = ()

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Case:
        return self.cases[index]


def check_generator(generator: Any, requests: Sequence[CaseRequest] = REQUESTS, *, draws: bool = True) -> None:
    """Canonical HU volumes that depend on seed and id alone, with the slices and spacing asked for.

    ``requests``: at least two, small, with different ids. ``draws=False`` for one that has a single answer per id.
    One that needs data (ctgen.interfaces.NeedsData) is given phantoms.
    """
    first, second = requests[:2]
    if isinstance(generator, NeedsData):
        train = [
            Case(f"phantom-{number}", phantom((12, 32, 32), seed=number), Report(f"Nodule of {4 + number} mm."), {})
            for number in range(3)
        ]
        # one of them must be there under a second name, see the draws below
        asked = [*requests, replace(first, id=f"{first.id}-2")]
        held_out = [
            Case(request.id, phantom((12, 32, 32), seed=9 + number), request.report, {}, "valid")
            for number, request in enumerate(asked)
        ]
        generator.prepare(MemoryCases(train), MemoryCases(held_out))
    with global_rng_untouched("generate"):
        volumes = [generator.generate(request, 11) for request in requests]
    for request, volume in zip(requests, volumes, strict=True):
        check_volume(volume, request.id)
        expect(
            to_canonical(volume)[1].is_canonical, f"{request.id}: orientation {to_canonical(volume)[1]}, wanted canonical (LPS)"
        )
        if request.slices is not None and request.spacing_mm is None:
            equal(f"{request.id}: slices", volume.shape[0], request.slices)
        if request.spacing_mm is not None:
            apart = max(abs(a - b) for a, b in zip(volume.spacing_mm, request.spacing_mm, strict=True))
            expect(apart < 1e-3, f"{request.id}: spacing {volume.spacing_mm} mm, asked for {request.spacing_mm}")
    equal(f"{second.id} generated before {first.id}: differing voxels", _apart(generator.generate(second, 11), volumes[1]), 0)
    equal(f"{first.id} generated twice: differing voxels", _apart(generator.generate(first, 11), volumes[0]), 0)
    if draws:
        expect(_apart(generator.generate(first, 12), volumes[0]) != 0, f"{first.id}: seeds 11 and 12 give the same volume")
        renamed = generator.generate(replace(first, id=f"{first.id}-2"), 11)
        expect(_apart(renamed, volumes[0]) != 0, f"ids {first.id} and {first.id}-2 give the same volume for one seed")


def _apart(one: Volume, other: Volume) -> int:
    """Voxels that differ; -1 if the shapes do."""
    return int(np.count_nonzero(one.hu != other.hu)) if one.shape == other.shape else -1
