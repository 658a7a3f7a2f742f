"""Train or valid by a hash of the patient: stable when scans come and go, and no patient on both sides."""

from __future__ import annotations

from collections.abc import Mapping

from ctgen.atomic import stable_hash
from ctgen.interfaces import Split


def split_by_patient(patients: Mapping[str, str], valid_fraction: float) -> dict[str, Split]:
    """Id -> split, given id -> patient. With two patients or more and a fraction above 0 neither side is empty."""
    ranks = {patient: stable_hash("split", patient) / 2**63 for patient in patients.values()}
    chosen = {patient for patient, rank in ranks.items() if rank < valid_fraction}
    if valid_fraction > 0 and len(ranks) > 1:
        order = sorted(ranks, key=lambda patient: ranks[patient])
        chosen = (chosen | {order[0]}) - {order[-1]}
    return {one: "valid" if patient in chosen else "train" for one, patient in patients.items()}
