"""The metrics as an HTML table: value, interval, N and direction, with the protocol that defines them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from ctgen.evaluate.driver import FLOOR

HEAD = '<tr><th>Metric</th><th class="number">Value</th><th class="number">N</th></tr>'
ARROWS = {True: " ↑", False: " ↓"}
INTERVAL_DIGITS = 3


def score_table(evaluation: Mapping[str, Any]) -> str:
    """HTML of EvaluationResult.to_json(). Keys with a dot (a metric's details) are folded away; floors stand in grey."""
    protocol = evaluation.get("protocol", {})
    comparable = protocol.get("comparable", "not comparable with numbers of another protocol")
    notes = [f"Protocol <b>{escape(_title(protocol))}</b>, N = {int(evaluation['n'])} cases; {escape(comparable)}."]
    if protocol.get("interval"):
        notes.append(f"Brackets: {escape(str(protocol['interval']))}; with few cases they are too narrow.")
    notes.append("↑ higher, ↓ lower is better.")
    main, details = [], []
    for metric, scores in evaluation["values"].items():
        group = f'<tr class="group"><td colspan="3">{escape(metric)}</td></tr>'
        shown = [_row(key, score) for key, score in scores.items() if "." not in key]
        hidden = [_row(key, score) for key, score in scores.items() if "." in key]
        if not scores:
            shown = ['<tr class="floor"><td colspan="3">no case has what this metric needs</td></tr>']
        main += [group, *shown] if shown else []
        details += [group, *hidden] if hidden else []
    parts = [f'<p class="soft">{" ".join(notes)}</p>', _table(main)]
    if details:
        parts.append(f"<details><summary>Details by tissue or label</summary>{_table(details)}</details>")
    if evaluation.get("per_case"):
        parts.append(f"<details><summary>By case</summary>{_by_case(evaluation['per_case'])}</details>")
    if protocol:
        text = json.dumps(protocol, indent=1, ensure_ascii=False)
        parts.append(f"<details><summary>Protocol</summary><pre>{escape(text)}</pre></details>")
    return "\n".join(parts)


def _title(protocol: Mapping[str, Any]) -> str:
    """ "NAME v1 (hash)"; a list of metrics that nobody pinned has no version."""
    version = f" v{protocol['version']}" if "version" in protocol else ""
    digits = f" ({protocol['hash'][:8]})" if "hash" in protocol else ""
    return f"{protocol.get('name', 'unnamed')}{version}{digits}"


def number(value: Any, digits: int = 4) -> str:
    """So many significant digits, and all of whole numbers; what to_json writes for infinity and undefined becomes signs."""
    if isinstance(value, str):
        return {"inf": "∞", "-inf": "−∞", "nan": "undefined"}.get(value, value)
    whole = 10**digits <= abs(value) < 1e5
    text = f"{value:.0f}" if whole else f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:.3e}"
    return text.replace("-", "−")


def _row(key: str, score: Mapping[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    interval = ""
    if low is not None and high is not None:
        interval = f"<small>[{number(low, INTERVAL_DIGITS)}, {number(high, INTERVAL_DIGITS)}]</small>"
    arrow = ARROWS.get(score.get("higher_is_better"), "")  # type: ignore[arg-type]
    meaning = str(score.get("meaning", ""))
    kind = "floor" if meaning.startswith(FLOOR) else "score"
    numbers = "".join(f'<td class="number">{text}</td>' for text in (number(score["value"]) + interval, int(score["n"])))
    return f'<tr class="{kind}"><td>{escape(key)}{arrow}<small>{escape(meaning)}</small></td>{numbers}</tr>'


def _by_case(per_case: Mapping[str, Mapping[str, Any]]) -> str:
    keys = [key for key in dict.fromkeys(key for values in per_case.values() for key in values) if key.count(".") < 2]
    head = "".join(f'<th class="number">{escape(key)}</th>' for key in keys)
    rows = []
    for case_id, values in per_case.items():
        cells = "".join(f'<td class="number">{number(values[key]) if key in values else ""}</td>' for key in keys)
        rows.append(f"<tr><td>{escape(case_id)}</td>{cells}</tr>")
    return _table(rows, f"<tr><th>Case</th>{head}</tr>")


def _table(rows: list[str], head: str = HEAD) -> str:
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
