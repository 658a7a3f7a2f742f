"""One self-contained report.html: images inlined, no script, no external address, every text escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ctgen.atomic import write_text
from ctgen.errors import MissingFileError
from ctgen.interfaces import Skipped
from ctgen.report.canvas import PLOT_SCALE
from ctgen.report.content import Figure, ReportContent
from ctgen.report.score_table import score_table

__all__ = ["Figure", "ReportContent", "write_report"]

LOUD_WEIGHTS = ("MINI", "RANDOM", "NONE")
FEW_CASES = 30
SMALLEST = {"plot": 0.6, "picture": 0.45}
"""Part of its natural width below which an image is not shown smaller; labels of plots must stay readable."""
MOST_LISTED = 8


def write_report(path: Path, content: ReportContent) -> Path:
    """Write the page atomically. MissingFileError if a figure's file is not there."""
    sections = [
        ("stages", "Stages", _stages(content.stages)),
        ("metrics", "Metrics", score_table(content.metrics) if content.metrics else ""),
        ("pictures", "Pictures", figures_html(content.figures, "pictures")),
        ("plots", "Plots", figures_html(content.figures, "plots")),
        ("training", "Training", figures_html(content.figures, "training")),
        ("skipped", "What was left out, and why", _skipped(content.skipped)),
        ("provenance", "Provenance", definitions(dict(_flat(content.provenance)))),
        ("recipe", "Recipe", _recipe(content.recipe_yaml)),
    ]
    present = [section for section in sections if section[2]]
    body = [_header(content, [(key, name) for key, name, _ in present])]
    body += [f'<section id="{key}">\n<h2>{escape(name)}</h2>\n{inner}\n</section>' for key, name, inner in present]
    template = Template(files("ctgen.report").joinpath("template.html").read_text(encoding="utf-8"))
    return write_text(path, template.substitute(title=escape(content.title), body="\n".join(body)))


def _header(content: ReportContent, present: Sequence[tuple[str, str]]) -> str:
    provenance = content.provenance
    badges = [
        (f"WEIGHTS {section.replace('_', ' ')}: {label}", label in LOUD_WEIGHTS) for section, label in _weights(provenance)
    ]
    if content.metrics:
        badges.append((f"N = {content.metrics['n']} cases", content.metrics["n"] < FEW_CASES))
    badges += [(f"{key}: {provenance[key]}", False) for key in ("recipe", "device") if provenance.get(key)]
    badges += [(f"seed, {stage}: {seed}", False) for stage, seed in _mapping(provenance.get("seeds")).items()]
    ctgen = _mapping(provenance.get("versions")).get("ctgen-framework")
    badges += [(f"ctgen {ctgen}", False)] if ctgen else []
    items = "".join(f'<li class="{"loud" if loud else "plain"}">{escape(text)}</li>' for text, loud in badges)
    links = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name in present)
    parts = [
        f"<header>\n<h1>{escape(content.title)}</h1>",
        '<p class="soft">Generated volumes are synthetic: for research, not for diagnosis.</p>',
        f'<ul class="badges">{items}</ul>' if badges else "",
        _warnings(content.warnings),
        f"<nav>{links}</nav>\n</header>",
    ]
    return "\n".join(part for part in parts if part)


def _weights(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section, info in _mapping(provenance.get("weights")).items():
        label = info.get("label", "") if isinstance(info, Mapping) else info
        yield str(section), str(label).upper()


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return '<div class="warnings" role="note"><ul>' + "".join(f"<li>{escape(text)}</li>" for text in warnings) + "</ul></div>"


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    if not stages:
        return ""
    rows = []
    for record in stages:
        details = "; ".join(
            f"{key.replace('_', ' ')}: {_brief(value)}" for key, value in _flat(_mapping(record.get("summary")))
        )
        seconds = record.get("seconds")
        time = duration(float(seconds)) if seconds is not None else ""
        state = "done before" if record.get("skipped") else ""
        rows.append(
            f'<tr><td>{escape(str(record.get("stage", "")))}</td><td class="number">{time}</td>'
            f"<td>{escape(details)}</td><td>{state}</td></tr>"
        )
    head = '<tr><th>Stage</th><th class="number">Time</th><th>Result</th><th></th></tr>'
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def duration(seconds: float) -> str:
    """ "4.2 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def figures_html(figures: Sequence[Figure], section: str) -> str:
    """The figures of one section, images inlined. MissingFileError if a file is not there."""
    return "\n".join(_figure(figure) for figure in figures if figure.section == section)


def _figure(figure: Figure) -> str:
    if not figure.path.is_file():
        raise MissingFileError(f"the report's picture {figure.path} is not there")
    image = image_html(figure.path.read_bytes(), figure.alt or figure.caption, plot=figure.section != "pictures")
    note = f' <span class="note">{escape(figure.note)}</span>' if figure.note else ""
    text = f"\n<blockquote>{escape(figure.text)}</blockquote>" if figure.text.strip() else ""
    return f"<figure>\n{image}\n<figcaption>{escape(figure.caption)}{note}</figcaption>{text}\n</figure>"


def image_html(png: bytes, alt: str, *, plot: bool) -> str:
    """A PNG inlined at its natural size; on a narrow screen it scrolls rather than become too small to read."""
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    if plot:
        width, height = (max(1, side // PLOT_SCALE) for side in (width, height))
    kind = "plot" if plot else "picture"
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<div class="scroll"><img class="{kind}" alt="{escape(alt)}" width="{width}" height="{height}" '
        f'style="min-width: {round(SMALLEST[kind] * width)}px" src="data:image/png;base64,{data}"></div>'
    )


def _skipped(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return ""
    rows = "".join(f"<tr><td>{escape(entry.id)}</td><td>{escape(entry.reason)}</td></tr>" for entry in skipped)
    table = f'<div class="scroll"><table><tr><th>Case</th><th>Reason</th></tr>{rows}</table></div>'
    count = f"{len(skipped)} case{'s' if len(skipped) != 1 else ''}"
    return table if len(skipped) <= 20 else f"<details><summary>{count}</summary>{table}</details>"


def definitions(flat: Mapping[str, Any]) -> str:
    """Names and values; "" of nothing."""
    if not flat:
        return ""
    return "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(_text(value))}</dd>" for key, value in flat.items()) + "</dl>"


def _recipe(text: str) -> str:
    if not text:
        return ""
    note = '<p class="soft">Fully resolved: saved as a file, it repeats this run.</p>'
    return f"{note}<details><summary>Resolved recipe</summary><pre>{escape(text)}</pre></details>"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _brief(value: Any) -> str:
    """Long lists are counted and hashes shortened: stage.json has them whole."""
    if isinstance(value, list | tuple) and len(value) > MOST_LISTED:
        return f"{len(value)} values"
    text = _text(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else text


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return "none" if value is None else str(value)
