"""Two results files as one: models of both in one table, if suite and protocols are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ctgen.atomic import read_json
from ctgen.bench.compare import Difference, permutation_p
from ctgen.bench.pinned import differences
from ctgen.errors import ConfigError, MissingFileError
from ctgen.evaluate.driver import FEWEST_CASES, FLOOR


def read_results(path: Path) -> dict[str, Any]:
    """A results.json, or a folder that holds one. MissingFileError, ConfigError."""
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise MissingFileError(f"no file {path}", hint="ctgen bench writes results.json into its folder")
    try:
        found = read_json(path)
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != 1 or "protocols" not in found:
        raise ConfigError(f"{path} is no results file of ctgen bench of this version")
    return found


def join(first: Mapping[str, Any], second: Mapping[str, Any], one: str, other: str) -> dict[str, Any]:
    """``one`` and ``other`` name the files. A model that is in both is ``NAME@2`` in the second, unless its numbers are equal.

    ConfigError if the suites differ, or no protocol of one name is the same in both; protocols that differ are named.
    """
    apart = list(differences(first["suite"]["identity"], second["suite"]["identity"]))
    if apart:
        raise ConfigError(
            f"{one} and {other} are of different suites; their numbers are not comparable",
            hint="\n".join(f"suite.{line}" for line in apart[:8]),
        )
    shared = [name for name in first["protocols"] if name in second["protocols"]]
    run = [name for name in shared if not first["protocols"][name]["missing"] and not second["protocols"][name]["missing"]]
    if not run:
        raise ConfigError(
            f"{one} and {other} share no protocol that was run",
            hint=f"{one}: {', '.join(first['protocols'])}; {other}: {', '.join(second['protocols'])}",
        )
    for name in run:
        apart = list(differences(first["protocols"][name]["definition"], second["protocols"][name]["definition"]))
        if apart:
            raise ConfigError(
                f"protocol {name!r} of {one} and of {other} are not the same; the two must not share a table",
                hint="\n".join(apart[:8]),
            )
    models, names = dict(first["models"]), {}
    for name, model in second["models"].items():
        equal = name in models and models[name]["fingerprint"] == model["fingerprint"]
        names[name] = name if name not in models or equal else f"{name}@2"
        models.setdefault(names[name], model)
    protocols = {}
    for name in run:
        mine, theirs = first["protocols"][name], second["protocols"][name]
        results = dict(mine["results"])
        added = {names[model]: result for model, result in theirs["results"].items()}
        results.update({model: result for model, result in added.items() if model not in results})
        own = [model for model in mine["results"] if not models[model]["floor"]]
        new = [model for model in added if model not in own and not models[model]["floor"]]
        compared = [entry for left, right in product(own, new) for entry in _differences(left, right, results)]
        protocols[name] = {
            **mine,
            "results": results,
            "errors": mine["errors"] | {names.get(model, model): error for model, error in theirs["errors"].items()},
            "comparisons": [*mine["comparisons"], *compared],
        }
    order = [*first["order"], *(names[name] for name in second["order"] if names[name] not in first["order"])]
    return {**first, "models": models, "order": order, "protocols": protocols}


def _differences(left: str, right: str, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A permutation test where both have values case by case; of other numbers only the difference is known."""
    found = []
    for metric, scores in results[left]["values"].items():
        for key, score in scores.items():
            other = results[right]["values"].get(metric, {}).get(key)
            if score.get("meaning", "").startswith(FLOOR):
                continue
            if other is None or isinstance(score["value"], str) or isinstance(other["value"], str):
                continue
            pairs = _pairs(results[left]["per_case"], results[right]["per_case"], f"{metric}.{key}")
            value, p = score["value"] - other["value"], None
            # a number that is no mean over cases (a distance of distributions) is not tested by its cases
            if len(pairs) >= FEWEST_CASES and np.isclose(pairs.mean(), value, rtol=1e-6, atol=1e-9):
                p = permutation_p(pairs, 0)
            direction = score["higher_is_better"]
            ahead = "" if direction is None or value == 0 else left if (value > 0) == direction else right
            test = "paired permutation" if p is not None else "none: needs one bench of both models"
            n = len(pairs) or min(score["n"], other["n"])
            found.append(asdict(Difference(left, right, metric, key, value, n, None, None, p, test, ahead)))
    return found


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> Any:
    both = [case_id for case_id in one if key in one[case_id] and key in other.get(case_id, {})]
    pairs = [(one[case_id][key], other[case_id][key]) for case_id in both]
    return np.array([a - b for a, b in pairs if not isinstance(a, str) and not isinstance(b, str)], np.float64)
