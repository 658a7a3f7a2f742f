"""Which volumes of a copy are cases, and why each of the others is not. Pure: nothing here opens a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ctgen.data.ct_rate.config import CtRateConfig
from ctgen.data.ct_rate.copy import Copy, read_list
from ctgen.data.ct_rate.layout import Found
from ctgen.data.ct_rate.tables import Scan
from ctgen.data.splits import split_by_patient
from ctgen.errors import DataError
from ctgen.interfaces import Skipped, Split

LISTED = 8


@dataclass(frozen=True)
class Selection:
    """``chosen``: id -> file and what the metadata says, in the order of the copy; ``splits`` of all of them."""

    chosen: Mapping[str, tuple[Found, Scan]]
    splits: Mapping[str, Split]
    skipped: Sequence[Skipped]


def select(copy: Copy, config: CtRateConfig) -> Selection:
    """Apply the config's filters, one file per name, the check of patients, and the choice of reconstructions.

    Raises DataError if nothing is left, or if a patient is on both sides and the config does not say what to do then.
    """
    left_out: list[tuple[Found, str]] = []
    reading = [found for found in copy.volumes if found.split in config.splits and _wanted(found, config)]
    kept: list[Found] = []
    for rule in (_one_file_per_name, _not_listed(copy, config), _usable(copy, config)):
        kept = []
        for found, reason in rule(reading):
            if reason:
                left_out.append((found, reason))
            else:
                kept.append(found)
        reading = kept
    kept = _one_side(kept, left_out, config)
    scans = {found.path: copy.scan(found) for found in kept}
    kept = _reconstructions(kept, scans, left_out, config)
    if not kept:
        raise DataError(
            f"none of the {len(copy.volumes)} volumes under {copy.base} is left to read",
            hint="\n".join(f"{found.path}: {reason}" for found, reason in left_out[:LISTED])
            or f"data.splits={list(config.splits)}, data.volumes={config.volumes}",
        )
    chosen = {found.name.text: (found, scans[found.path]) for found in kept}
    skipped = [Skipped(found.path if found.name.text in chosen else found.name.text, why) for found, why in left_out]
    return Selection(chosen, _splits(chosen, copy, config), tuple(skipped))


Ruled = Iterable[tuple[Found, str]]


def _wanted(found: Found, config: CtRateConfig) -> bool:
    return config.volumes == "auto" or found.fixed == (config.volumes == "fixed")


def _one_file_per_name(found: Sequence[Found]) -> Ruled:
    """On each side; the copy lists fixed folders first."""
    first: dict[tuple[str, str], Found] = {}
    for one in found:
        taken = first.setdefault((one.name.text, one.split), one)
        yield one, "" if taken is one else f"{taken.path} is used"


def _not_listed(copy: Copy, config: CtRateConfig) -> Callable[[Sequence[Found]], Ruled]:
    lists = [(what, path, read_list(path)) for what, path in config.lists()]

    def rule(found: Sequence[Found]) -> Ruled:
        for one in found:
            keys = (one.name.text, one.name.scan, one.name.patient, one.path.removesuffix(".nii.gz"))
            hits = ((what, path, entries[key]) for what, path, entries in lists for key in keys if key in entries)
            hit = next(hits, None)
            yield one, f"{hit[0]}: listed in {hit[1].name}" + (f" ({hit[2]})" if hit[2] else "") if hit else ""

    return rule


def _usable(copy: Copy, config: CtRateConfig) -> Callable[[Sequence[Found]], Ruled]:
    # parsing metadata is most of the work of starting: only for filters that need it
    of_scans = bool(config.kernels or config.slice_spacing_mm or config.pixel_spacing_mm or config.intensity == "csv-rescale")

    def reason(one: Found) -> str:
        if conflict := copy.conflict(one):
            return conflict
        if config.require_report and copy.report(one) is None:
            return "no report: no row, or neither findings nor impressions"
        if config.labels_required or config.labels_excluded:
            labels = copy.label(one)
            if labels is None:
                return "no labels, and data.labels_* asks for some"
            if missing := [name for name in config.labels_required if labels.get(name) != 1]:
                return f"not {missing[0]} (data.labels_required)"
            if present := [name for name in config.labels_excluded if labels.get(name) != 0]:
                return f"{present[0]} (data.labels_excluded)"
        if not of_scans:
            return ""
        scan = copy.scan(one)
        if config.kernels and not any(_fits(scan.kernel, kernel) for kernel in config.kernels):
            return f"kernel {scan.kernel or 'not known'} (data.kernels)"
        spacing = scan.spacing_mm
        for limits, axis, name in ((config.slice_spacing_mm, 0, "slice"), (config.pixel_spacing_mm, 2, "pixel")):
            if limits and not (spacing and limits[0] <= spacing[axis] <= limits[1]):
                return f"{name} spacing {f'{spacing[axis]:g} mm' if spacing else 'not known'} (data.{name}_spacing_mm)"
        if config.intensity == "csv-rescale" and scan.rescale is None:
            return "no rescale slope and intercept in the metadata table"
        return ""

    return lambda found: ((one, reason(one)) for one in found)


def _one_side(kept: list[Found], left_out: list[tuple[Found, str]], config: CtRateConfig) -> list[Found]:
    sides: dict[str, set[Split]] = {}
    for one in kept:
        sides.setdefault(one.name.patient, set()).add(one.split)
    both = [patient for patient, found in sides.items() if len(found) > 1]
    if not both:
        return kept
    if config.on_both_sides == "error":
        more = f" and {len(both) - LISTED} more" if len(both) > LISTED else ""
        raise DataError(
            f"{len(both)} patient{'s are' if len(both) > 1 else ' is'} in train and in valid: {', '.join(both[:LISTED])}{more}",
            hint="set data.on_both_sides=drop-from-train, or list the files in data.exclude; see: ctgen data check",
        )
    on_both = set(both)
    left_out += [
        (one, f"patient {one.name.patient} is in valid too")
        for one in kept
        if one.name.patient in on_both and one.split == "train"
    ]
    return [one for one in kept if one.name.patient not in on_both or one.split == "valid"]


def _reconstructions(
    kept: list[Found], scans: Mapping[str, Scan], left_out: list[tuple[Found, str]], config: CtRateConfig
) -> list[Found]:
    if config.reconstruction == "all":
        return kept
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in kept:
        groups.setdefault((one.name.scan, one.split), []).append(one)

    def rank(one: Found) -> tuple[float, int]:
        scan = scans[one.path]
        if config.reconstruction == "smallest-spacing":
            return (scan.spacing_mm[0] if scan.spacing_mm else float("inf")), one.name.reconstruction
        if config.reconstruction == "kernel":
            places = [place for place, kernel in enumerate(config.prefer) if _fits(scan.kernel, kernel)]
            return float(min(places, default=len(config.prefer))), one.name.reconstruction
        return 0.0, one.name.reconstruction

    best = {key: min(group, key=rank) for key, group in groups.items()}
    for one in kept:
        used = best[one.name.scan, one.split]
        if used is not one:
            left_out.append((one, f"another reconstruction of the scan: {used.name.text} is used"))
    return [one for one in kept if best[one.name.scan, one.split] is one]


def _splits(chosen: Mapping[str, tuple[Found, Scan]], copy: Copy, config: CtRateConfig) -> Mapping[str, Split]:
    if "valid" in copy.sides or "valid" not in config.splits:
        return {case_id: found.split for case_id, (found, _) in chosen.items()}
    return split_by_patient({case_id: found.name.patient for case_id, (found, _) in chosen.items()}, config.valid_fraction)


def _fits(kernel: str, pattern: str) -> bool:
    return fnmatchcase(kernel.lower(), pattern.lower())
