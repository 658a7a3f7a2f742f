"""report.html of a bench: the same slices of every model and of the real scan side by side, and the numbers as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ctgen.atomic import read_json, write_text
from ctgen.bench import plots
from ctgen.bench.cases import Cases
from ctgen.bench.product import Product
from ctgen.bench.rows import (
    ARROWS,
    LOUD,
    best,
    cell,
    comparison_text,
    heading,
    label,
    model_rows,
    names_in,
    notes_of,
    rows_of,
)
from ctgen.report.content import Figure
from ctgen.report.html import figures_html
from ctgen.report.montage import montage
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical

PICTURED = 3
"""Cases shown; the numbers cover all."""
FEW_CASES = 30


def write_page(path: Path, document: Mapping[str, Any], products: Sequence[Product], cases: Cases | None) -> Path:
    """Write the page; its pictures lie in ``pictures/`` beside it and are also inside it."""
    folder = path.parent / "pictures"
    sections: list[tuple[str, str, str]] = [("models", "Models", _models(document))]
    if cases is not None:
        sections.append(
            ("pictures", "The same reports, side by side", figures_html(_pictures(folder, products, cases), "pictures"))
        )
    for name, protocol in document["protocols"].items():
        if protocol["missing"]:
            continue
        figures = plots.bars(document, name, folder) + plots.details(document, name, folder)
        inner = _scores(document, name) + _comparisons(document, name) + figures_html(figures, "plots")
        sections.append((f"protocol-{name}", f"Protocol {name}", inner))
    notes = notes_of(document)
    if notes:
        sections.append(("notes", "Notes", "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"))
    sections.append(("provenance", "Provenance", _provenance(document)))
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title, _ in sections)
    body = [_header(document, links)]
    body += [f'<section id="{key}">\n<h2>{escape(title)}</h2>\n{inner}\n</section>' for key, title, inner in sections]
    template = Template(files("ctgen.report").joinpath("template.html").read_text(encoding="utf-8"))
    title = f"ctgen bench: {document['suite']['name']}"
    return write_text(path, template.substitute(title=escape(title), body="\n".join(body)))


def _header(document: Mapping[str, Any], links: str) -> str:
    suite = document["suite"]
    badges = [(f"N = {suite['n']} cases", suite["n"] < FEW_CASES), (f"device: {document['provenance']['device']}", False)]
    for name, model in document["models"].items():
        for part, info in model["facts"].get("weights", {}).items():
            text = label(info)
            if not model["floor"]:
                badges.append((f"WEIGHTS {name} {part.replace('_', ' ')}: {text}", text in LOUD))
    badges.append((f"ctgen {document['provenance']['versions'].get('ctgen-framework', '?')}", False))
    items = "".join(f'<li class="{"loud" if loud else "plain"}">{escape(text)}</li>' for text, loud in badges)
    failed = [note for note in notes_of(document) if note.startswith(("FAILED", "NOT RUN"))]
    warnings = "".join(f"<li>{escape(note)}</li>" for note in failed)
    return "\n".join(
        part
        for part in (
            f"<header>\n<h1>ctgen bench: {escape(suite['name'])}</h1>",
            f'<p class="soft">{escape(suite["summary"])} Generated volumes are synthetic: for research, not for diagnosis.</p>',
            f'<ul class="badges">{items}</ul>',
            f'<div class="warnings" role="note"><ul>{warnings}</ul></div>' if warnings else "",
            f"<nav>{links}</nav>\n</header>",
        )
        if part
    )


def _models(document: Mapping[str, Any]) -> str:
    return _table(("Model", "What", "N", "Weights"), model_rows(document))


def _scores(document: Mapping[str, Any], protocol: str) -> str:
    columns = names_in(document, protocol)
    parts = [f'<p class="soft">{escape(heading(document, protocol))}. Brackets: 95 % bootstrap interval over cases.</p>']
    for details in (False, True):
        rows = [
            (
                row.name,
                ARROWS[row.higher_is_better],
                *(cell(row.scores.get(column)) + (" ◂" if best(row, document) == column else "") for column in columns),
                row.meaning,
            )
            for row in rows_of(document, protocol, details=details)
            if details == ("." in row.key)
        ]
        text = _table(("Metric", "", *columns, "What it is"), rows) if rows else ""
        parts.append(f"<details><summary>By tissue, label or block</summary>{text}</details>" if details and text else text)
    return "\n".join(parts)


def _comparisons(document: Mapping[str, Any], protocol: str) -> str:
    entries = [entry for entry in document["protocols"][protocol]["comparisons"] if "." not in entry["key"]]
    if not entries:
        return ""
    rows = [
        (
            f"{one['first']} − {one['second']}",
            f"{one['metric']}: {one['key']}",
            comparison_text(one),
            one["better"] or "–",
            f"{one['test']}, N = {one['n']}",
        )
        for one in entries
    ]
    note = "* p &lt; 0.05, each number by itself: of twenty that do not differ one is marked."
    return f'<h3>Differences</h3>{_table(("Models", "Metric", "Difference", "Ahead", "Test"), rows)}<p class="soft">{note}</p>'


def _pictures(folder: Path, products: Sequence[Product], cases: Cases) -> list[Figure]:
    """Real, then every floor and model, at the same relative heights."""
    figures = []
    for case_id in cases.ids[:PICTURED]:
        columns: list[tuple[str, Volume]] = [("real", cases.prepared.volume(case_id))]
        seams: dict[str, tuple[int, ...]] = {}
        for product in products:
            if product.folder is None or not product.json(case_id).is_file():
                continue
            columns.append((product.spec.name, to_canonical(read_volume(product.volume(case_id)))[0]))
            seams[product.spec.name] = tuple(read_json(product.json(case_id))["boundaries"])
        path = montage(columns, folder / f"{case_id}.png", title=case_id, boundaries=seams)
        report = cases.report(case_id)
        text = f"Findings: {report.findings}" + (f"\nImpressions: {report.impressions}" if report.impressions else "")
        figures.append(Figure(path, f"{case_id}: {' | '.join(name for name, _ in columns)}", text))
    return figures


def _provenance(document: Mapping[str, Any]) -> str:
    import json

    parts = []
    for title, tree in (
        ("Suite", document["suite"]["identity"]),
        (
            "Protocols",
            {
                name: one["definition"]["protocol"] | {"extractors": one["definition"].get("extractors", {})}
                for name, one in document["protocols"].items()
            },
        ),
        (
            "Models",
            {
                name: {key: model[key] for key in ("kind", "source", "fingerprint", "facts")}
                for name, model in document["models"].items()
            },
        ),
        ("Machine", document["provenance"]),
    ):
        text = json.dumps(tree, indent=1, ensure_ascii=False)
        parts.append(f"<details><summary>{title}</summary><pre>{escape(text)}</pre></details>")
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Any) -> str:
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(text))}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'
