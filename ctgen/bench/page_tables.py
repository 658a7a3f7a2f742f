"""The tables of the bench's page: models, scores with intervals, differences of two models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from ctgen.bench.rows import (
    ARROWS,
    Document,
    Row,
    best,
    clear,
    clearly_best,
    model_rows,
    named,
    names_in,
    p_text,
    real_scores,
    rows_of,
)
from ctgen.report.score_table import number

INTERVAL_DIGITS = 3
MOST_OPEN = 3
"""Pairs of models whose differences are shown at once; of more, each is folded."""


def models_table(document: Document) -> str:
    rows = []
    for name, what, n, state in model_rows(document):
        model = document["models"][name]
        kind = "failed" if model["error"] else "floor" if model["floor"] else "score"
        cells = f'<td class="number">{escape(n)}</td><td>{escape(state)}</td>'
        rows.append(f'<tr class="{kind}"><th scope="row">{escape(name)}</th><td>{escape(what)}</td>{cells}</tr>')
    head = '<tr><th>Model</th><th>What</th><th class="number">N</th><th>Weights</th></tr>'
    return _table(head, rows, "models")


def score_tables(document: Document, protocol: str) -> str:
    """The headline numbers; below them, folded away, those by plane, tissue or label, and what the floors' columns repeat."""
    headline = rows_of(document, protocol)
    real = real_scores(headline, document)
    main = [row for row in headline if not row.floor or (row.key.endswith("_real") and not _told(row, real))]
    parts = [row for row in rows_of(document, protocol, details=True) if "." in row.key]
    floors = [row for row in headline if row.floor and row not in main and not _told(row, real)]
    legend = (
        "Below each value its 95 % bootstrap interval over cases. ↑ higher, ↓ lower is better. Grey: floors, and what the real "
        "scans have themselves."
    )
    if sum(not document["models"][name]["floor"] for name in names_in(document, protocol)) > 1:
        legend += f" Bold: the best of the models{_star(document, protocol)}."
    text = f'<p class="soft">{legend}</p>{_scores(document, protocol, main, real)}'
    for title, rows in (("By plane, tissue or label", parts), ("Floors as each metric has them", floors)):
        if rows:
            text += f"<details><summary>{title}</summary>{_scores(document, protocol, rows, {})}</details>"
    return text


def _told(row: Row, real: Mapping[tuple[str, str], Any]) -> bool:
    return (row.metric, row.key.removesuffix("_real")) in real


def _star(document: Document, protocol: str) -> str:
    return "; * clearly ahead of every other (p &lt; 0.05)" if document["protocols"][protocol]["comparisons"] else ""


def _scores(document: Document, protocol: str, rows: Sequence[Row], real: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    columns = names_in(document, protocol)
    heads = [("real scans", "themselves")] if real else []
    heads += [(name, "floor" if document["models"][name]["floor"] else "") for name in columns]
    head = '<th class="metric">Metric</th>' + "".join(
        f'<th class="number{" soft" if what else ""}">{escape(name)}{f"<small>{what}</small>" if what else ""}</th>'
        for name, what in heads
    )
    lines = []
    for row in rows:
        mark = best(row, document)
        star = " *" if mark and clearly_best(row, document, protocol) else ""
        cells = [f'<td class="number soft">{_cell(real.get((row.metric, row.key)), None)}</td>'] if real else []
        for name in columns:
            model = document["models"][name]
            kind = "number" + (" best" if name == mark else " soft" if model["floor"] else "")
            cells.append(f'<td class="{kind}">{_cell(row.scores.get(name), model["n"], star if name == mark else "")}</td>')
        title = f'<th scope="row" class="metric">{_title(row)}<small>{escape(_meaning(row))}</small></th>'
        lines.append(f'<tr class="{"floor" if row.floor else "score"}">{title}{"".join(cells)}</tr>')
    return _table(f"<tr>{head}</tr>", lines, "scores")


def _title(row: Row) -> str:
    arrow = ARROWS[row.higher_is_better].strip()
    metric = "" if row.metric == row.key else f'<span class="soft">{escape(row.metric)}</span> '
    return f"{metric}{_breakable(row.key)}{' ' + arrow if arrow else ''}"


def _breakable(key: str) -> str:
    return re.sub(r"([_.])", r"\1<wbr>", escape(key))


def _meaning(row: Row) -> str:
    return row.meaning.removeprefix("floor:").strip()


def _cell(score: Mapping[str, Any] | None, n: int | None, star: str = "") -> str:
    """``n``: the cases of the whole column, where it is to be said if this number has fewer."""
    if score is None:
        return ""
    text = number(score["value"]) + star
    if score["low"] is not None:
        text += f"<small>[{number(score['low'], INTERVAL_DIGITS)}, {number(score['high'], INTERVAL_DIGITS)}]</small>"
    return text + (f"<small>N = {score['n']}</small>" if n is not None and score["n"] != n else "")


def difference_tables(document: Document, protocol: str) -> str:
    """One table per pair of models; numbers that are equal in every case are only named."""
    entries = [entry for entry in document["protocols"][protocol]["comparisons"] if "." not in entry["key"]]
    pairs = [(pair, list(group)) for pair, group in groupby(entries, lambda entry: (entry["first"], entry["second"]))]
    if not pairs:
        return ""
    directions = {(row.metric, row.key): row.higher_is_better for row in rows_of(document, protocol)}
    parts = []
    for (first, second), own in pairs:
        marked = [entry for entry in own if clear(entry)]
        ahead = [sum(entry["better"] == name for entry in marked) for name in (first, second)]
        title = (
            f"{escape(first)} − {escape(second)}: {escape(first)} clearly ahead in {ahead[0]}, {escape(second)} in {ahead[1]} "
            f"of {sum(directions.get((entry['metric'], entry['key'])) is not None for entry in own)} numbers with a direction"
        )
        is_open = " open" if len(pairs) <= MOST_OPEN else ""
        parts.append(f"<details{is_open}><summary>{title}</summary>{_differences(own, directions)}</details>")
    note = "* p &lt; 0.05, each number by itself: of twenty that do not differ one is marked."
    return f'<h3>Differences</h3>{"".join(parts)}<p class="soft">{note}</p>'


def _differences(entries: Sequence[Mapping[str, Any]], directions: Mapping[tuple[str, str], bool | None]) -> str:
    equal = [entry for entry in entries if entry["value"] == 0 and entry["low"] in (None, 0) and entry["high"] in (None, 0)]
    rows = []
    for entry in entries:
        if entry in equal:
            continue
        arrow = ARROWS[directions.get((entry["metric"], entry["key"]))].strip()
        interval = "–"
        if entry["low"] is not None:
            interval = f"{number(entry['low'], INTERVAL_DIGITS)} … {number(entry['high'], INTERVAL_DIGITS)}"
        p = "–" if entry["p"] is None else p_text(entry["p"])
        verdict = (entry["better"] or "they differ") if clear(entry) else "–"
        numbers = (f"{'+' if entry['value'] > 0 else ''}{number(entry['value'])}", interval, p + (" *" if clear(entry) else ""))
        rows.append(
            f'<tr class="{"clear" if clear(entry) else "unclear"}">'
            f"<td>{escape(named(entry['metric'], entry['key']))} {arrow}</td>"
            + "".join(f'<td class="number">{escape(text)}</td>' for text in numbers)
            + f'<td>{escape(verdict)}</td><td class="line">{escape(entry["test"])}, N = {entry["n"]}</td></tr>'
        )
    head = (
        '<tr><th>Metric</th><th class="number">Difference</th><th class="number">95 % interval</th><th class="number">p</th>'
        "<th>Clearly ahead</th><th>Test</th></tr>"
    )
    names = ", ".join(escape(named(entry["metric"], entry["key"])) for entry in equal)
    return (_table(head, rows) if rows else "") + (f'<p class="soft">Equal: {names}.</p>' if names else "")


def _table(head: str, rows: Sequence[str], kind: str = "") -> str:
    named_kind = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{named_kind}><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
