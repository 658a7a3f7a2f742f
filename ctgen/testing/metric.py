"""What every metric must do."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ctgen.data.labels import LABELS
from ctgen.interfaces import EvaluationItem, Report
from ctgen.testing.expect import equal, expect, global_rng_untouched
from ctgen.testing.features import PlainBank
from ctgen.testing.volumes import phantom

VOLUMES = frozenset({"real", "reconstructed", "generated"})
NEEDS = VOLUMES | {"features", "report", "labels"}


def check_metric(metric: Any, *, items: Sequence[EvaluationItem] | None = None, tolerance: float = 1e-6) -> None:
    """Every key has a direction, merging parts equals seeing all, nothing is drawn or changed, instances can be pickled.

    A metric that compares with training cases (``fit(item)``, see evaluate) is shown three of them first.

    ``metric`` must be fresh. ``items``: by default six phantoms with real, reconstructed and generated volumes, reports and
    a feature bank that answers any key.
    """
    unknown = frozenset(metric.needs) - NEEDS
    expect(not unknown, f"needs: {sorted(unknown)} are not among {sorted(NEEDS)}")
    odd = {key: value for key, value in metric.higher_is_better.items() if value not in (True, False, None)}
    expect(not odd, f"higher_is_better: {odd}, wanted True, False or None")
    items = list(items) if items is not None else example_items()
    if hasattr(metric, "fit"):
        for item in example_items(3, first=500):
            metric.fit(item)
    fresh = pickle.dumps(metric)
    voxels = [item.generated.hu.copy() for item in items if item.generated is not None]

    with global_rng_untouched("update, merge, compute"):
        whole = _seen(pickle.loads(fresh), items)
        values = whole.compute()
        half = len(items) // 2
        merged = _seen(pickle.loads(fresh), items[:half])
        merged.merge(pickle.loads(pickle.dumps(_seen(pickle.loads(fresh), items[half:]))))
        late = _seen(pickle.loads(fresh), [])
        late.merge(_seen(pickle.loads(fresh), items))
    unknown = frozenset(values) - frozenset(metric.higher_is_better)
    expect(not unknown, f"compute(): {sorted(unknown)} have no direction in higher_is_better {sorted(metric.higher_is_better)}")
    expect(bool(values), f"compute(): 0 values of {len(items)} cases, wanted at least 1")
    for key, value in values.items():
        expect(isinstance(value, float) and math.isfinite(value), f"{key}: found {value!r}, wanted a finite float")
    _same("compute() twice", whole.compute(), values, 0.0)
    _same("two halves merged, and all in one", merged.compute(), values, tolerance)
    _same("merged into an empty one, and all in one", late.compute(), values, tolerance)
    kept = [item.generated.hu for item in items if item.generated is not None]
    changed = sum(1 for before, after in zip(voxels, kept, strict=True) if not np.array_equal(before, after))
    equal("update: generated volumes that it changed", changed, 0)


def example_items(count: int = 6, first: int = 0) -> list[EvaluationItem]:
    """Phantoms: reconstructed = real with noise, generated = another patient. Another ``first``: other patients."""
    items = []
    for index in range(first, first + count):
        real = phantom((16, 48, 48), (3.0, 6.0, 6.0), seed=index)
        random = np.random.Generator(np.random.PCG64(1000 + index))
        noisy = (real.hu + random.normal(0.0, 20.0, real.shape)).clip(-1024, 3000).round().astype(np.int16)
        reconstructed = replace(real, hu=noisy)
        generated = phantom((16, 48, 48), (3.0, 6.0, 6.0), seed=100 + index)
        items.append(
            EvaluationItem(
                id=f"phantom-{index}",
                real=real,
                reconstructed=reconstructed,
                generated=generated,
                boundaries=(4, 8, 12),
                seconds=1.0 + index,
                labels={label: (index + place) % 2 for place, label in enumerate(LABELS)},
                report=Report(f"Nodule of {index + 3} mm."),
                features=PlainBank({"real": real, "reconstructed": reconstructed, "generated": generated}),
                evaluations=10 + index,
            )
        )
    return items


def _seen(metric: Any, items: Sequence[EvaluationItem]) -> Any:
    for item in items:
        hidden = {name: None for name in NEEDS - frozenset(metric.needs)}
        metric.update(replace(copy.copy(item), **hidden))  # type: ignore[arg-type]
    return metric


def _same(what: str, first: Mapping[str, float], second: Mapping[str, float], tolerance: float) -> None:
    equal(f"{what}: keys", sorted(first), sorted(second))
    for key, value in first.items():
        allowed = tolerance * max(1.0, abs(second[key]))
        expect(abs(value - second[key]) <= allowed, f"{what}: {key} is {value!r} and {second[key]!r}, tolerance {allowed:g}")
