"""The results as rows and cells, read from the JSON that is written: what every table, plot and page shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctgen.evaluate.driver import FLOOR
from ctgen.report.score_table import number

Document = Mapping[str, Any]
ARROWS = {True: "↑", False: "↓", None: " "}
LOUD = ("MINI", "RANDOM", "NONE")
CLEAR = 0.05
"""p below which a difference is marked."""


@dataclass(frozen=True)
class Row:
    """One number of every model: ``scores`` by model, as in EvaluationResult.to_json."""

    metric: str
    key: str
    scores: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        return named(self.metric, self.key)

    @property
    def floor(self) -> bool:
        """Of the real scans or the autoencoder, whichever model's column it stands in."""
        return self.meaning.startswith(FLOOR)

    @property
    def higher_is_better(self) -> bool | None:
        found: bool | None = next(iter(self.scores.values()))["higher_is_better"]
        return found

    @property
    def meaning(self) -> str:
        return str(next(iter(self.scores.values())).get("meaning", ""))


def named(metric: str, key: str) -> str:
    """ "kid" and "cost: peak_mb"."""
    return metric if key == metric else f"{metric}: {key}"


def names_in(document: Document, protocol: str) -> list[str]:
    """The columns of a protocol: floors first, then the models in their order."""
    results = document["protocols"][protocol]["results"]
    return [
        name for name in sorted(document["order"], key=lambda name: not document["models"][name]["floor"]) if name in results
    ]


def rows_of(document: Document, protocol: str, *, details: bool = False) -> list[Row]:
    """Headline numbers, or with ``details`` also those by tissue, label or block (keys with a dot)."""
    results = document["protocols"][protocol]["results"]
    keys: dict[tuple[str, str], None] = {}
    for name in names_in(document, protocol):
        for metric, scores in results[name]["values"].items():
            keys |= dict.fromkeys((metric, key) for key in scores if details or "." not in key)
    order = list(dict.fromkeys(metric for metric, _ in keys))
    found = []
    for metric, key in sorted(keys, key=lambda pair: order.index(pair[0])):
        scores = {
            name: results[name]["values"][metric][key]
            for name in names_in(document, protocol)
            if key in results[name]["values"].get(metric, {})
        }
        found.append(Row(metric, key, scores))
    return found


def real_scores(rows: Sequence[Row], document: Document) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(metric, KEY) -> what the real scans have themselves, told by each model as KEY_real; only where all tell the same.

    Models of other cases do not. The split halves do not count: they have real scans in the place of generated ones.
    """
    found = {}
    for row in rows:
        told = [score for name, score in row.scores.items() if document["models"][name]["kind"] != "halves"]
        if row.floor and row.key.endswith("_real") and told and all(score == told[0] for score in told):
            found[row.metric, row.key.removesuffix("_real")] = told[0]
    return found


def best(row: Row, document: Document) -> str:
    """The model, floors apart, with the best value; "" if no direction is better or two share it."""
    values = {
        name: score["value"]
        for name, score in row.scores.items()
        if not document["models"][name]["floor"] and isinstance(score["value"], int | float)
    }
    if row.higher_is_better is None or len(values) < 2:
        return ""
    found = max(values, key=values.__getitem__) if row.higher_is_better else min(values, key=values.__getitem__)
    return found if sum(value == values[found] for value in values.values()) == 1 else ""


def clear(entry: Mapping[str, Any]) -> bool:
    """Whether a difference is more than chance, taken by itself."""
    return entry["p"] is not None and entry["p"] < CLEAR


def clearly_best(row: Row, document: Document, protocol: str) -> bool:
    """Whether ``best`` is clearly ahead of every other model."""
    name = best(row, document)
    others = {one for one in row.scores if one != name and not document["models"][one]["floor"]}
    beaten = {
        entry["second"] if entry["first"] == name else entry["first"]
        for entry in document["protocols"][protocol]["comparisons"]
        if (entry["metric"], entry["key"], entry["better"]) == (row.metric, row.key, name) and clear(entry)
    }
    return bool(name) and others <= beaten


def cell(score: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    if score is None:
        return ""
    text = number(score["value"])
    if interval and score.get("low") is not None:
        text += f" [{number(score['low'])}, {number(score['high'])}]"
    return text


def comparison_text(entry: Mapping[str, Any]) -> str:
    """ "+1.2 [0.4, 2.1] p 0.03 *"."""
    text = f"{'+' if entry['value'] > 0 else ''}{number(entry['value'])}"
    if entry["low"] is not None:
        text += f" [{number(entry['low'])}, {number(entry['high'])}]"
    if entry["p"] is not None:
        text += f" p {p_text(entry['p'])}" + (" *" if clear(entry) else "")
    return text


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def weights_text(model: Mapping[str, Any]) -> str:
    """ "autoencoder MINI, backbone RANDOM"."""
    found = model["facts"].get("weights", {})
    return ", ".join(f"{part.replace('_', ' ')} {label(info)}" for part, info in found.items())


def label(info: Any) -> str:
    return str(info.get("label", "") if isinstance(info, Mapping) else info).upper()


def loud(model: Mapping[str, Any]) -> bool:
    return any(label(info) in LOUD for info in model["facts"].get("weights", {}).values())


def model_rows(document: Document) -> Iterator[tuple[str, str, str, str]]:
    """(name, what it is, N, state) of every model, floors too."""
    wanted = document["suite"]["n"]
    for name in document["order"]:
        model = document["models"][name]
        what = "floor: " + model["source"] if model["floor"] else model["source"]
        state = f"FAILED: {model['error'].splitlines()[0]}" if model["error"] else weights_text(model)
        yield name, what, f"{model['n']}" + (f" of {wanted}" if model["n"] != wanted and not model["floor"] else ""), state


def heading(document: Document, protocol: str) -> str:
    found = document["protocols"][protocol]
    version = found["definition"]["protocol"]["version"]
    return f"{protocol} v{version} ({found['fingerprint'][:8]}), comparable with: {found['reproduces']}"


ALARMS = ("FAILED", "NOT RUN", "COPIES")
"""So begin the notes that stand first."""


def notes_of(document: Document) -> list[str]:
    """What one must know to read the numbers: failures, cases left out, copies, protocols not run, quirks."""
    notes = []
    for name, model in document["models"].items():
        if model["error"]:
            notes.append(f"FAILED {name}: {model['error']}")
        notes += [f"{name}: {case_id}: {reason}" for case_id, reason in model["left_out"].items()]
        if model.get("unknown"):
            notes.append(f"{name}: files of no case of the suite: {', '.join(model['unknown'][:8])}")
    for name, protocol in document["protocols"].items():
        notes += [f"NOT RUN {name}: {reason}" for reason in protocol["missing"]]
        notes += [f"FAILED {name}: {model}: {error}" for model, error in protocol["errors"].items()]
        notes += [f"{name}: {quirk}" for quirk in protocol["quirks"] if not protocol["missing"]]
        for model, result in protocol["results"].items():
            for facts in result.get("extra", {}).values():
                if flagged := facts.get("flagged"):
                    pairs = ", ".join(f"{case_id} of {copied['training_case']}" for case_id, copied in sorted(flagged.items()))
                    notes.append(f"COPIES {model}: too near to a training case: {pairs}")
    return notes


def run_protocols(document: Document) -> list[str]:
    return [name for name, protocol in document["protocols"].items() if not protocol["missing"]]


def title(document: Document) -> str:
    """Suite, N, device, and in capitals what weights are no trained ones."""
    suite = document["suite"]
    labels = sorted(
        {label(info) for model in document["models"].values() for info in model["facts"].get("weights", {}).values()}
    )
    shouting = [text for text in labels if text in LOUD]
    weights = f", WEIGHTS: {' AND '.join(shouting)}" if shouting else ""
    return f"suite {suite['name']}, N = {suite['n']} cases, {document['provenance']['device']}{weights}"
