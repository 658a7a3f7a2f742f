"""One pass over cases through all metrics, with bootstrap intervals over the cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ctgen.atomic import fingerprint
from ctgen.errors import CtgenError, DataError, PluginError
from ctgen.evaluate.cases import Resampled
from ctgen.interfaces import EvaluationItem, Metric

UNNAMED: Mapping[str, Any] = {"name": "unnamed"}
RESAMPLES = 1000
CONFIDENCE = 0.95
FEWEST_CASES = 3
"""With fewer, a bootstrap interval says nothing and is left out."""
FLOOR = "floor:"
"""So begin the meanings of values that are no score of the generated volumes, but what to hold one against."""


@dataclass(frozen=True)
class Score:
    """One number. ``low`` and ``high`` bound the bootstrap interval over the ``n`` cases, None where there is none."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    higher_is_better: bool | None = None
    meaning: str = ""


@dataclass(frozen=True)
class EvaluationResult:
    """``values``: metric -> key -> Score; ``per_case``: case id -> "metric.key" -> value; ``n``: cases seen.

    ``protocol`` defines the numbers: results of two protocols must not share a table.
    """

    values: Mapping[str, Mapping[str, Score]]
    per_case: Mapping[str, Mapping[str, float]]
    n: int
    protocol: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Metric -> what it tells beside its numbers: curves by block, flagged copies, how many rows were compared."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; numbers that JSON does not have become "inf", "-inf" or "nan"."""
        tree = {
            "protocol": dict(self.protocol),
            "n": self.n,
            "values": {metric: {key: asdict(score) for key, score in scores.items()} for metric, scores in self.values.items()},
            "per_case": {case_id: dict(values) for case_id, values in self.per_case.items()},
            "extra": {metric: dict(facts) for metric, facts in self.extra.items()},
        }
        plain: dict[str, Any] = _plain(tree)
        return plain


def evaluate(
    items: Iterable[EvaluationItem],
    metrics: Mapping[str, Metric],
    *,
    protocol: Mapping[str, Any] = UNNAMED,
    resamples: int = RESAMPLES,
    seed: int = 0,
    reference: Callable[[], Iterable[EvaluationItem]] | None = None,
    extractors: Mapping[str, Any] | None = None,
) -> EvaluationResult:
    """Feed every item to the metrics whose needs it meets, then compute. Items are read once and not kept.

    ``reference`` gives the training cases (items with a real volume and features), for metrics with ``fit(item)``; they are
    read once, before the items, and only if there is such a metric. ``protocol`` says whose list of metrics this is (its
    "name", a pinned protocol's "version") and ``extractors`` what is behind the items' features (FeatureStore.describe); both
    become part of the result's protocol, with a "hash" of the metrics, extractors and intervals.

    Raises DataError without items or with an id twice, PluginError (metric and case named) if a metric fails.
    """
    references = _fit(metrics, reference)
    ids: set[str] = set()
    grids: set[str] = set()
    updates = dict.fromkeys(metrics, 0)
    for item in items:
        if item.id in ids:
            raise DataError(f"case {item.id!r} is evaluated twice")
        ids.add(item.id)
        grids |= {_spacing(volume) for volume in (item.real, item.generated) if volume is not None}
        for name, metric in metrics.items():
            if all(getattr(item, need) is not None for need in metric.needs):
                _update(name, metric, item)
                updates[name] += 1
    if not ids:
        raise DataError("there is no case to evaluate")
    values: dict[str, dict[str, Score]] = {}
    per_case: dict[str, dict[str, float]] = {case_id: {} for case_id in sorted(ids)}
    for name, metric in metrics.items():
        values[name] = _scores(name, metric, updates[name], resamples, seed)
        if isinstance(metric, Resampled):
            for case_id, found in metric.per_case().items():
                per_case[case_id].update({f"{name}.{key}": value for key, value in found.items()})
    scored = {
        "interval": f"{CONFIDENCE:.0%} percentile bootstrap over cases, {resamples} resamples, seed {seed}",
        "metrics": {name: _definition(metric) for name, metric in metrics.items()},
        **({"extractors": dict(extractors)} if extractors else {}),
    }
    definition = {
        **protocol,
        "hash": fingerprint(_plain(scored)),
        "n": len(ids),
        "pairing": "by case id",
        "spacing_mm": sorted(grids),
        **scored,
    }
    if references:
        definition["reference_cases"] = references
    extra = {name: metric.extra() for name, metric in metrics.items() if updates[name] and hasattr(metric, "extra")}
    return EvaluationResult(values, per_case, len(ids), definition, extra)


def _fit(metrics: Mapping[str, Metric], reference: Callable[[], Iterable[EvaluationItem]] | None) -> int:
    """Show the training cases to the metrics that compare with them; how many there were."""
    fitted = {name: metric for name, metric in metrics.items() if hasattr(metric, "fit")}
    count = 0
    if fitted and reference is not None:
        for item in reference():
            count += 1
            for name, metric in fitted.items():
                try:
                    metric.fit(item)  # type: ignore[attr-defined]
                except CtgenError:
                    raise
                except Exception as error:
                    raise PluginError(
                        f"metric {name!r} failed on training case {item.id!r}: {type(error).__name__}: {error}"
                    ) from error
    return count


def _update(name: str, metric: Metric, item: EvaluationItem) -> None:
    try:
        metric.update(item)
    except CtgenError:
        raise
    except Exception as error:
        raise PluginError(f"metric {name!r} failed on case {item.id!r}: {type(error).__name__}: {error}") from error


def _scores(name: str, metric: Metric, updates: int, resamples: int, seed: int) -> dict[str, Score]:
    found = dict(metric.compute()) if updates else {}
    if unknown := sorted(found.keys() - metric.higher_is_better.keys()):
        raise PluginError(f"metric {name!r} computes {', '.join(unknown)}, which its higher_is_better does not declare")
    meanings: Mapping[str, str] = getattr(metric, "meanings", {})
    intervals: dict[str, tuple[float, float]] = {}
    n = updates
    if isinstance(metric, Resampled):
        n = len(metric.ids)
        drawn = min(resamples, int(getattr(metric, "resamples", resamples)))
        if n >= FEWEST_CASES and drawn:
            intervals = _intervals(metric, found, n, drawn, seed)
    scores = {}
    for key, value in found.items():
        low, high = intervals.get(key, (None, None))
        scores[key] = Score(value, n, low, high, metric.higher_is_better[key], meanings.get(key, ""))
    return scores


def _intervals(
    metric: Resampled, found: Mapping[str, float], n: int, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Key -> percentile interval; cases are drawn with replacement, the same draws for metrics with the same n.

    A metric whose resamples are biased says so by ``centred``: its interval is moved so that their mean is the value found.
    """
    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        counts = np.bincount(generator.integers(n, size=n), minlength=n).astype(np.int64)
        for key, value in metric.estimate(counts).items():
            if math.isfinite(value):
                draws.setdefault(key, []).append(value)
    tail = 100 * (1 - CONFIDENCE) / 2
    ends = {key: np.percentile(values, [tail, 100 - tail]) for key, values in draws.items()}
    if getattr(metric, "centred", False):
        ends = {key: ends[key] + (found[key] - np.mean(draws[key])) for key in ends if key in found}
    return {key: (float(low), float(high)) for key, (low, high) in ends.items()}


def _definition(metric: Metric) -> dict[str, Any]:
    protocol = getattr(metric, "protocol", None)
    centred = {"interval": "moved to the value found"} if getattr(metric, "centred", False) else {}
    return {"class": type(metric).__name__, **centred, **(protocol() if callable(protocol) else {})}


def _spacing(volume: Any) -> str:
    return " x ".join(f"{spacing:.4g}" for spacing in volume.spacing_mm)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
