"""The results as tables: for a terminal, as Markdown and as CSV. All read the JSON that is written beside them."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from ctgen.bench.rows import (
    ALARMS,
    ARROWS,
    Document,
    best,
    cell,
    comparison_text,
    heading,
    loud,
    model_rows,
    named,
    names_in,
    notes_of,
    rows_of,
    run_protocols,
    title,
    weights_text,
)
from ctgen.commands.listing import table


def plain(document: Document) -> str:
    """Without colour, for logs and pipes."""
    lines = [title(document), table(("MODEL", "", "N", "WEIGHTS"), list(model_rows(document)))]
    for name in run_protocols(document):
        columns = names_in(document, name)
        body = []
        for row in rows_of(document, name):
            mark = best(row, document)
            cells = [cell(row.scores.get(column)) + (" (best)" if column == mark else "") for column in columns]
            body.append((row.name, ARROWS[row.higher_is_better], *cells))
        lines += ["", heading(document, name), table(("METRIC", "", *columns), body)]
        lines += _comparisons(document, name)
    return "\n".join([*lines, "", *notes_of(document)]).rstrip()


def _comparisons(document: Document, protocol: str) -> list[str]:
    entries = [entry for entry in document["protocols"][protocol]["comparisons"] if "." not in entry["key"]]
    lines: list[str] = []
    for first, second in dict.fromkeys((entry["first"], entry["second"]) for entry in entries):
        own = [entry for entry in entries if (entry["first"], entry["second"]) == (first, second)]
        rows = [
            (named(entry["metric"], entry["key"]), comparison_text(entry), entry["better"] or "-", str(entry["n"]))
            for entry in own
        ]
        lines += ["", table((f"{first} - {second}", "DIFFERENCE [95 %]", "AHEAD", "N"), rows)]
    return [*lines, "* p < 0.05, each number by itself: of twenty that do not differ one is marked"] if lines else []


def show(document: Document, stream: TextIO) -> None:
    """With colour, for a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    screen = Console(file=stream, highlight=False)
    screen.print(f"[bold]{escape(title(document))}[/bold]")
    models = Table(box=None, header_style="bold")
    for head in ("model", "", "N", "weights"):
        models.add_column(head, overflow="fold")
    for name, *rest in model_rows(document):
        model = document["models"][name]
        style = "bold red" if model["error"] else "dim" if model["floor"] else "yellow" if loud(model) else ""
        models.add_row(escape(name), *map(escape, rest), style=style)
    screen.print(models)
    for name in run_protocols(document):
        columns = names_in(document, name)
        scores = Table(title=escape(heading(document, name)), title_justify="left", header_style="bold", row_styles=("", "dim"))
        scores.add_column("metric", overflow="fold")
        scores.add_column("")
        for column in columns:
            scores.add_column(escape(column), justify="right", style="dim" if document["models"][column]["floor"] else "")
        for row in rows_of(document, name):
            mark = best(row, document)
            cells = [escape(cell(row.scores.get(column)).replace(" [", "\n[")) for column in columns]
            cells = [f"[bold green]{text}[/]" if column == mark else text for text, column in zip(cells, columns, strict=True)]
            scores.add_row(escape(row.name), ARROWS[row.higher_is_better], *cells)
        screen.print(scores)
        for line in _comparisons(document, name):
            screen.print(escape(line))
    for note in notes_of(document):
        screen.print(escape(note), style="red" if note.startswith(ALARMS) else "")


def markdown(document: Document) -> str:
    lines = [f"# {title(document)}", "", *_markdown_table(("model", "what", "N", "weights"), model_rows(document))]
    for name in run_protocols(document):
        columns = names_in(document, name)
        body = [
            (row.name, ARROWS[row.higher_is_better].strip(), *(cell(row.scores.get(column)) for column in columns), row.meaning)
            for row in rows_of(document, name)
        ]
        lines += ["", f"## {heading(document, name)}", "", *_markdown_table(("metric", "", *columns, "what it is"), body)]
        compared = [
            (
                f"{one['first']} - {one['second']}",
                named(one["metric"], one["key"]),
                comparison_text(one),
                one["better"],
                one["test"],
            )
            for one in document["protocols"][name]["comparisons"]
            if "." not in one["key"]
        ]
        if compared:
            lines += ["", *_markdown_table(("models", "metric", "difference [95 %]", "ahead", "test"), compared)]
    notes = notes_of(document)
    return "\n".join(
        [*lines, *(["", "## Notes", "", *(f"- {textwrap.shorten(note, 600)}" for note in notes)] if notes else []), ""]
    )


def csv_text(document: Document) -> str:
    """One line per model, protocol and number, details too."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        (
            "suite",
            "protocol",
            "version",
            "fingerprint",
            "model",
            "floor",
            "weights",
            "metric",
            "key",
            "value",
            "low",
            "high",
            "n",
            "better",
        )
    )
    for name in run_protocols(document):
        found = document["protocols"][name]
        for row in rows_of(document, name, details=True):
            for model, score in row.scores.items():
                described = document["models"][model]
                better = {True: "higher", False: "lower", None: ""}[score["higher_is_better"]]
                writer.writerow(
                    (
                        document["suite"]["name"],
                        name,
                        found["definition"]["protocol"]["version"],
                        found["fingerprint"],
                        model,
                        int(described["floor"]),
                        weights_text(described),
                        row.metric,
                        row.key,
                        score["value"],
                        "" if score["low"] is None else score["low"],
                        "" if score["high"] is None else score["high"],
                        score["n"],
                        better,
                    )
                )
    return stream.getvalue()


def _markdown_table(head: Sequence[str], rows: Any) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(text).replace("|", "\\|").replace("\n", " ") for text in cells) + " |"

    return [line(head), line(["---"] * len(head)), *(line(row) for row in rows)]
