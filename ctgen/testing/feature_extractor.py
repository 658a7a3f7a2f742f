"""What every feature extractor must do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from ctgen.data.labels import LABELS
from ctgen.interfaces import HasLabels, HasLogits, HasText, Plane, Report
from ctgen.testing.expect import equal, expect, global_rng_untouched
from ctgen.testing.volumes import phantom
from ctgen.volume import Volume

REPORTS = (
    Report("Moderate right pleural effusion. The heart is of normal size.", "Right pleural effusion."),
    Report("No pleural effusion. A nodule of 8 mm in the left lower lobe.", "Nodule."),
    Report(""),
)


def check_feature_extractor(extractor: Any, *, volumes: Sequence[Volume] | None = None) -> None:
    """Shapes by ``width`` and ``unit``, a full description, determinism, untouched volumes, and whatever else it offers.

    ``volumes``: at least two different ones; by default phantoms.
    """
    expect(isinstance(extractor.width, int) and extractor.width > 0, f"width: found {extractor.width!r}, wanted a count")
    expect(extractor.unit in ("slice", "volume"), f"unit: found {extractor.unit!r}, wanted 'slice' or 'volume'")
    _description(extractor)
    volumes = list(volumes) if volumes is not None else [phantom((16, 48, 40), (3.0, 6.0, 6.0), seed=seed) for seed in (1, 2)]
    before = [volume.hu.copy() for volume in volumes]
    with global_rng_untouched("features"):
        for plane in get_args(Plane):
            _features(extractor, volumes, plane)
    equal("features without a plane", _equal(extractor.features(volumes[0]), extractor.features(volumes[0], "xy")), True)
    _abilities(extractor, volumes)
    changed = sum(not np.array_equal(old, volume.hu) for old, volume in zip(before, volumes, strict=True))
    equal("volumes that it changed", changed, 0)


def _description(extractor: Any) -> None:
    described = extractor.describe()
    missing = sorted({"network", "weights", "preprocessing"} - set(described))
    expect(not missing, f"describe(): lacks {missing}")
    try:
        again = json.loads(json.dumps(described))
    except TypeError as error:
        raise AssertionError(f"describe(): not JSON-ready: {error}") from error
    equal("describe(): through JSON", again, dict(described))
    equal("describe() twice", extractor.describe(), described)
    missing = sorted({"label", "source", "sha256"} - set(described["weights"]))
    expect(not missing, f"describe()['weights']: lacks {missing}")


def _features(extractor: Any, volumes: Sequence[Volume], plane: Plane) -> None:
    found = [extractor.features(volume, plane) for volume in volumes]
    for rows, volume in zip(found, volumes, strict=True):
        count = 1 if extractor.unit == "volume" else volume.shape[{"xy": 0, "xz": 1, "yz": 2}[plane]]
        _table(f"features, {plane}", rows, count, extractor.width)
    as_float = Volume(volumes[0].hu.astype(np.float32), volumes[0].affine)
    equal(f"features, {plane}: twice the same", _equal(extractor.features(volumes[0], plane), found[0]), True)
    equal(f"features, {plane}: of equal HU as float32", _equal(extractor.features(as_float, plane), found[0]), True)
    expect(not _equal(found[0], found[1]), f"features, {plane}: two different volumes have the same features")


def _abilities(extractor: Any, volumes: Sequence[Volume]) -> None:
    features, width = extractor.features, extractor.width
    if isinstance(extractor, HasLogits):
        found = extractor.logits(volumes[0], "xy")
        _table("logits", found, len(features(volumes[0], "xy")), found.shape[-1])
        equal("logits: twice the same", _equal(extractor.logits(volumes[0], "xy"), found), True)
    if isinstance(extractor, HasText):
        together = extractor.text(REPORTS)
        _table("text", together, len(REPORTS), width)
        for row, report in enumerate(REPORTS):
            alone = extractor.text([report])[0]
            apart = float(np.abs(alone - together[row]).max())
            expect(apart <= 1e-4, f"text: report {row} alone and in a batch differ by {apart:.3g}, tolerance 1e-4")
        expect(not _equal(together[0], together[1]), "text: two different reports have the same features")
    if isinstance(extractor, HasLabels):
        scores = extractor.labels(volumes[0])
        unknown = sorted(set(scores) - set(LABELS))
        expect(bool(scores) and not unknown, f"labels: found {len(scores)} names, {unknown} of them not CT-RATE's")
        outside = {name: score for name, score in scores.items() if not 0.0 <= score <= 1.0}
        expect(not outside, f"labels: scores outside 0..1: {outside}")


def _table(what: str, found: Any, rows: int, width: int) -> None:
    expect(isinstance(found, np.ndarray), f"{what}: found {type(found).__name__}, wanted a NumPy array")
    equal(f"{what}: shape", found.shape, (rows, width))
    equal(f"{what}: dtype", found.dtype, np.dtype(np.float32))
    bad = int(found.size - np.isfinite(found).sum())
    expect(bad == 0, f"{what}: {bad} of {found.size} values are not finite, wanted 0")


def _equal(first: Any, second: Any) -> bool:
    return first.shape == second.shape and bool(np.array_equal(first, second))
