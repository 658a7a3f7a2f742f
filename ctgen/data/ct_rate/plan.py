"""What a simulated copy of CT-RATE is made of, before anything is written: scans, reconstructions, and the traps in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ctgen.atomic import stable_hash
from ctgen.data.atlas.dataset import split_of
from ctgen.data.ct_rate.layout import SUFFIX
from ctgen.errors import ConfigError
from ctgen.interfaces import Split

Kind = Literal["raw", "fixed"]
VALID_FRACTION = 0.125
CORRUPT = ("truncated", "web-page", "empty", "bit-flip", "not-nifti", "zero-spacing", "nan")
"""Sorts of files that cannot be read."""
PER_CASES = 100
"""Every trap is planted once for so many cases."""


@dataclass(frozen=True)
class PlannedVolume:
    """One file and its rows. ``case``: of the simulator. ``harm``: what is done to the file, ``rows``: to its rows."""

    name: str
    side: Split
    case: int
    reconstruction: int
    harm: str = ""
    rows: str = ""
    folder: str = ""
    """Below the side's folder; default: where the name belongs."""

    @property
    def scan(self) -> str:
        return self.name.rpartition("_")[0]

    @property
    def patient(self) -> str:
        return self.scan.rpartition("_")[0]

    def path(self, kind: Kind) -> str:
        top = f"{self.side}_fixed" if kind == "fixed" else self.side
        return f"{top}/{self.folder or f'{self.patient}/{self.scan}'}/{self.name}{SUFFIX}"


@dataclass(frozen=True)
class Planted:
    """A trap: the ``kind`` and ``subject`` with which the audit must find it, and how it was made."""

    kind: str
    subject: str
    how: str


@dataclass
class Plan:
    """``extra``: path -> text of files that do not belong there; ``swapped``: splits with label columns in another order."""

    kind: Kind
    volumes: list[PlannedVolume]
    planted: list[Planted] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)
    swapped: tuple[Split, ...] = ()


def padded(seed: int, case: int) -> bool:
    """Whether the scan is padded with -8192 outside a circle and has the intercept -8192: a matter of the scanner."""
    return stable_hash("ct-rate padding", seed, case) % 8 == 0


def plan(cases: int, seed: int, kind: Kind, *, damage: bool = False) -> Plan:
    """``cases`` scans, of which a longer plan begins with the shorter one unless there is ``damage``; nine in ten have two
    reconstructions, some patients have two scans.

    Raises ConfigError if there are too few scans for one of every trap.
    """
    made = Plan(kind, list(_volumes(cases, seed)))
    made.planted += [
        Planted("padding", one.path(kind), "-8192 outside a circle") for one in made.volumes if padded(seed, one.case)
    ]
    if damage:
        _plant(made, seed, max(1, cases // PER_CASES))
    return made


def _volumes(cases: int, seed: int) -> Iterator[PlannedVolume]:
    patients: dict[Split, int] = {"train": 0, "valid": 0}
    second: dict[Split, bool] = {"train": True, "valid": True}
    for case in range(cases):
        side = split_of(case, VALID_FRACTION)
        again = not second[side] and stable_hash("ct-rate patient", seed, case) % 6 == 0
        patients[side] += 0 if again else 1
        second[side] = again
        scan = f"{side}_{patients[side]}_{'b' if again else 'a'}"
        for number in (1, 2) if stable_hash("ct-rate reconstructions", seed, case) % 10 else (1,):
            yield PlannedVolume(f"{scan}_{number}", side, case, number)


def _plant(made: Plan, seed: int, times: int) -> None:
    """Every trap ``times`` times, each on a training scan of its own."""
    kind = made.kind
    by_scan: dict[str, list[int]] = {}
    for place, one in enumerate(made.volumes):
        if one.side == "train" and not padded(seed, one.case):
            by_scan.setdefault(one.scan, []).append(place)
    scans_of: dict[str, set[str]] = {}
    for one in made.volumes:
        scans_of.setdefault(one.patient, set()).add(one.scan)
    pool = [scan for scan in by_scan if len(scans_of[scan.rpartition("_")[0]]) == 1]
    order = np.random.Generator(np.random.PCG64(stable_hash("ct-rate damage", seed))).permutation(len(pool))
    free = [pool[place] for place in order]
    wanted = times * (len(CORRUPT) + 14)
    if len(free) < wanted:
        raise ConfigError(
            f"--damage needs {wanted} train scans to spoil, there are {len(free)}", hint=f"make at least {2 * wanted} cases"
        )

    def take() -> list[int]:
        return by_scan[free.pop()]

    def spoil(what: str, how: str, *, harm: str = "", rows: str = "", whole: bool = False) -> list[PlannedVolume]:
        places = take()
        changed = []
        for place in places if whole else places[:1]:
            made.volumes[place] = replace(made.volumes[place], harm=harm, rows=rows)
            changed.append(made.volumes[place])
        subjects = [one.path(kind) if harm else one.name for one in changed]
        made.planted += [Planted(what, subject, how) for subject in subjects]
        return changed

    for _ in range(times):
        spoil("hu-twice", "the rescale intercept -1024 subtracted once more", harm="hu-twice")
        if kind == "fixed":
            spoil("raw-in-fixed", "stored values, intercept not applied", harm="raw-in-fixed")
        else:
            spoil("hu-in-raw", "HU, in a folder of stored values", harm="hu-in-raw")
        spoil("implausible-hu", "normalised to [-1, 1]", harm="normalised")
        for sort in CORRUPT:
            spoil("unreadable", sort, harm=sort)
        spoil("no-chest", "a head", harm="head", whole=True)
        spoil("no-report", 'every part is "Not given."', rows="no-report", whole=True)
        spoil("no-report-row", "no row in the table of reports", rows="no-report-row")
        spoil("duplicate-row", "the same row twice", rows="duplicate-row")
        spoil("conflicting-rows", "two rows with different reports", rows="conflicting-rows")
        spoil("metadata-mismatch", "NumberofSlices is one more than the file has", rows="metadata-mismatch")
        absent = spoil("row-without-file", "rows, but no file", rows="row-without-file", harm="absent")
        made.planted[-1] = replace(made.planted[-1], subject=absent[0].name)
        misplaced = take()[0]
        made.volumes[misplaced] = replace(made.volumes[misplaced], folder="train_1/train_1_a")
        made.planted.append(Planted("misplaced", made.volumes[misplaced].path(kind), "in another patient's folder"))
        _plant_leaks(made, take)
    _plant_extra(made)
    made.swapped = ("valid",) if any(one.side == "valid" for one in made.volumes) else ("train",)
    made.planted += [Planted("label-columns", side, "the first two label columns swapped") for side in made.swapped]


def _plant_leaks(made: Plan, take: Callable[[], list[int]]) -> None:
    """A train patient whose folder is in valid too, and train volumes under new patients' names on either side."""
    kind = made.kind
    places = take()
    patient = made.volumes[places[0]].patient
    made.volumes += [replace(made.volumes[place], side="valid") for place in places]
    made.planted.append(Planted("both-sides", patient, "its folder is in train and in valid"))
    for side in ("valid", "train"):
        original = made.volumes[take()[0]]
        copy = replace(original, name=f"{side}_{_next_patient(made.volumes, side)}_a_1", side=side)  # type: ignore[arg-type]
        made.volumes.append(copy)
        what = "copy-in-other-split" if side == "valid" else "copy-in-same-split"
        made.planted.append(Planted(what, original.path(kind), f"the same voxels as {copy.path(kind)}"))


def _plant_extra(made: Plan) -> None:
    top = "train_fixed" if made.kind == "fixed" else "train"
    files = {
        f"{top}/train_1/train_1_a/notes.txt": "extra-file",
        f"{top}/train_2/train_2_a/train_2_a_1{SUFFIX}.incomplete": "extra-file",
        f"{top}/train_3/train_3_a/train_3_a_1 (1){SUFFIX}": "foreign-name",
        f"{top}/train_3/train_3_a/scan{SUFFIX}": "foreign-name",
    }
    for path, what in files.items():
        made.extra[path] = "left behind\n"
        made.planted.append(Planted(what, path, "a file that does not belong here"))


def _next_patient(volumes: Sequence[PlannedVolume], side: str) -> int:
    numbers = [int(one.patient.rpartition("_")[2]) for one in volumes if one.patient.startswith(f"{side}_")]
    return max(numbers, default=0) + 1
