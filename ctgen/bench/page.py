"""report.html of a bench: numbers with their intervals, and the same slices of every model and the real scan side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ctgen.atomic import read_json, write_text
from ctgen.bench import plots
from ctgen.bench.cases import Cases
from ctgen.bench.page_tables import difference_tables, models_table, score_tables
from ctgen.bench.product import Product
from ctgen.bench.rows import ALARMS, LOUD, heading, label, notes_of, run_protocols, weights_text
from ctgen.report.content import Figure
from ctgen.report.html import definitions, figures_html
from ctgen.report.montage import in_words, montage
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical

PICTURED = 3
"""Cases shown; the numbers cover all."""
FEW_CASES = 30


def write_page(
    path: Path, document: Mapping[str, Any], products: Sequence[Product], cases: Cases | None, *, title: str = ""
) -> Path:
    """Write the page, called after its suite if it has no ``title``. Pictures lie in ``pictures/``, and are also inside it."""
    folder = path.parent / "pictures"
    sections = [("models", "Models", models_table(document))]
    sections += [
        (f"protocol-{name}", f"Protocol {name}", _protocol(document, name, folder)) for name in run_protocols(document)
    ]
    if cases is not None:
        pictures = figures_html(list(_pictures(folder, products, cases)), "pictures")
        sections.append(("pictures", "The same reports, side by side", pictures))
    told = {f"{name}: {quirk}" for name, one in document["protocols"].items() for quirk in one["quirks"]}
    if notes := [note for note in notes_of(document) if note not in told and not note.startswith(ALARMS)]:
        sections.append(("notes", "Notes", _list(notes)))
    sections.append(("provenance", "Provenance", _provenance(document)))
    links = "".join(f'<a href="#{escape(key)}">{escape(title)}</a>' for key, title, _ in sections)
    title = title or f"ctgen bench: {document['suite']['name']}"
    body = [_header(document, title, links)]
    body += [f'<section id="{escape(key)}">\n<h2>{escape(title)}</h2>\n{inner}\n</section>' for key, title, inner in sections]
    template = Template(files("ctgen.report").joinpath("template.html").read_text(encoding="utf-8"))
    return write_text(path, template.substitute(title=escape(title), body="\n".join(body)))


def _header(document: Mapping[str, Any], title: str, links: str) -> str:
    suite = document["suite"]
    identity = suite["identity"]
    badges = [(f"N = {suite['n']} cases", suite["n"] < FEW_CASES)]
    badges += [badge for name in document["order"] for badge in _model_badges(name, document["models"][name])]
    for name in run_protocols(document):
        # an extractor without weights is no untrained network
        extractors = document["protocols"][name]["definition"].get("extractors", {})
        labels = sorted({label(one.get("weights", "")) for one in extractors.values()} - {"", "NONE"})
        badges += [(f"MEASURED BY {name}: {text}", text in LOUD) for text in labels]
    badges.append((f"device: {document['provenance']['device']}", False))
    badges += [
        (f"{title}: {identity[key]}", False)
        for key, title in (("seed", "seed"), ("case_list", "case list"))
        if identity.get(key) is not None
    ]
    badges.append((f"ctgen {document['provenance']['versions'].get('ctgen-framework', '?')}", False))
    items = "".join(f'<li class="{"loud" if loud else "plain"}">{escape(text)}</li>' for text, loud in badges)
    alarms = [note for note in notes_of(document) if note.startswith(ALARMS)]
    summary = f"{suite['summary'].rstrip('.')}. " if suite["summary"] else ""
    return "\n".join(
        part
        for part in (
            f"<header>\n<h1>{escape(title)}</h1>",
            f'<p class="soft">{escape(summary)}Generated volumes are synthetic: for research, not for diagnosis.</p>',
            f'<ul class="badges">{items}</ul>',
            f'<div class="warnings" role="note">{_list(alarms)}</div>' if alarms else "",
            f"<nav>{links}</nav>\n</header>",
        )
        if part
    )


def _model_badges(name: str, model: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """One badge of a model's weights: one word if all parts have the same."""
    labels = {label(info) for info in model["facts"].get("weights", {}).values()}
    if labels and not model["floor"]:
        text = labels.pop() if len(labels) == 1 else weights_text(model)
        yield f"WEIGHTS {name}: {text}", any(word in LOUD for word in text.replace(",", "").split())


def _protocol(document: Mapping[str, Any], name: str, folder: Path) -> str:
    found = document["protocols"][name]
    broken = [f"FAILED {model}: {error}" for model, error in found["errors"].items()]
    notes = [*broken, *found["quirks"]]
    bars = plots.bars(document, name, folder)
    finer = plots.by_block(document, name, folder) + plots.details(document, name, folder)
    charts = "".join(f'<div class="grid">{figures_html(part, "plots")}</div>' for part in (bars, finer) if part)
    legend = "Grey: floors. Whiskers: 95 % bootstrap intervals over cases. Dashed: what the real scans have themselves."
    return "\n".join(
        (
            f'<p class="soft">{escape(heading(document, name))}.</p>',
            _list(notes) if notes else "",
            score_tables(document, name),
            difference_tables(document, name),
            f'<h3>Plots</h3><p class="soft">{legend}</p>{charts}' if charts else "",
        )
    )


def _pictures(folder: Path, products: Sequence[Product], cases: Cases) -> Iterator[Figure]:
    """Real, then every floor and model, at the same relative heights."""
    for case_id in cases.ids[:PICTURED]:
        columns: list[tuple[str, Volume]] = [("real", cases.prepared.volume(case_id))]
        seams: dict[str, tuple[int, ...]] = {}
        missing = []
        for product in products:
            if product.folder is None or not product.json(case_id).is_file():
                missing.append(product.spec.name)
                continue
            columns.append((product.spec.name, to_canonical(read_volume(product.volume(case_id)))[0]))
            seams[product.spec.name] = tuple(read_json(product.json(case_id))["boundaries"])
        path = montage(columns, folder / f"{case_id}.png", title=case_id, boundaries=seams)
        names = [name for name, _ in columns]
        note = f"not there: {', '.join(missing)}" if missing else ""
        caption, alt = f"{case_id}: {' | '.join(names)}", in_words(case_id, names)
        yield Figure(path, caption, _asked(cases, case_id), note=note, alt=alt)


def _asked(cases: Cases, case_id: str) -> str:
    """What models were given of the report, and the labels that it stands for."""
    report = cases.given(case_id)
    lines = [f"Findings: {report.findings}"] + ([f"Impressions: {report.impressions}"] if report.impressions else [])
    if labels := cases.prepared.record(case_id).get("labels"):
        lines.append(f"Labels: {', '.join(name for name, there in labels.items() if there) or 'none'}")
    return "\n".join(lines)


def _provenance(document: Mapping[str, Any]) -> str:
    suite, identity = document["suite"], document["suite"]["identity"]
    short = {
        f"suite {suite['name']}": _facts(
            version=identity.get("version"), fingerprint=suite["fingerprint"], N=suite["n"], seed=identity.get("seed")
        ),
        "cases": _facts(list=identity.get("case_list"), voxels_and_reports=identity.get("cases")),
    }
    for name in run_protocols(document):
        found = document["protocols"][name]
        settings = found["definition"]["protocol"]
        extractors = found["definition"].get("extractors", {})
        hashes = {key: f"{one.get('network', '?')}, weights {_hash(one.get('weights', ''))}" for key, one in extractors.items()}
        short[f"protocol {name}"] = _facts(
            version=settings["version"],
            fingerprint=found["fingerprint"],
            seed=settings.get("seed"),
            resamples=settings.get("resamples"),
            **hashes,
        )
    for name, model in document["models"].items():
        facts = model["facts"]
        hashes = {part: _hash(info) for part, info in facts.get("weights", {}).items()}
        seeds = facts.get("seeds")
        text = ", ".join(f"{stage} {seed}" for stage, seed in seeds.items()) if isinstance(seeds, Mapping) else seeds
        plain = {key: facts.get(key) for key in ("recipe_hash", "solver", "steps")}
        short[f"model {name}"] = _facts(fingerprint=model["fingerprint"], seeds=text, **plain, **hashes)
    machine = document["provenance"]
    short["device"] = machine["device"]
    short["versions"] = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    models = {
        name: {key: model[key] for key in ("kind", "source", "fingerprint", "facts")}
        for name, model in document["models"].items()
    }
    protocols = {
        name: one["definition"]["protocol"] | {"extractors": one["definition"].get("extractors", {})}
        for name, one in document["protocols"].items()
    }
    parts = [definitions({key: text for key, text in short.items() if text})]
    for title, tree in (("suite", suite), ("protocols", protocols), ("models", models)):
        text = json.dumps(tree, indent=1, ensure_ascii=False)
        parts.append(f"<details><summary>All of the {title}</summary><pre>{escape(text)}</pre></details>")
    return "\n".join(parts)


def _facts(**facts: Any) -> str:
    return "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if value not in (None, ""))


def _hash(weights: Any) -> str:
    """ "MINI 37c638735261"; only the word where there is no file."""
    sha256 = weights.get("sha256", "") if isinstance(weights, Mapping) else ""
    return f"{label(weights)} {sha256[:12]}".strip()


def _list(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"
