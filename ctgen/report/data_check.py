"""The page of ``ctgen data check``: self-contained, like every report."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from ctgen.atomic import write_text
from ctgen.data.ct_rate.audit import Audit, quantiles
from ctgen.data.ct_rate.findings import KINDS, Finding
from ctgen.report.canvas import COLOURS, save_png, white_figure
from ctgen.report.html import image_html

MOST_ROWS = 200
"""Findings of one kind that the page shows; check.json has all."""
BINS = 40


def write_check(path: Path, audit: Audit) -> Path:
    """Write the page atomically."""
    sections = [
        ("findings", "What was found", _findings(audit)),
        ("contents", "What is there", _contents(audit)),
        ("distributions", "Distributions", _distributions(audit)),
    ]
    body = [_header(audit), *(f'<section id="{key}">\n<h2>{name}</h2>\n{inner}\n</section>' for key, name, inner in sections)]
    template = Template(files("ctgen.report").joinpath("template.html").read_text(encoding="utf-8"))
    return write_text(path, template.substitute(title=escape(f"Check of {audit.base}"), body="\n".join(body)))


def _header(audit: Audit) -> str:
    read = f"{audit.voxels} of {len(audit.checked)} volumes read to the end"
    badges = [(f"{audit.serious} serious", audit.serious > 0), (read, audit.voxels < len(audit.checked))]
    items = "".join(f'<li class="{"loud" if loud else "plain"}">{escape(text)}</li>' for text, loud in badges)
    return f'<header>\n<h1>Check of {escape(str(audit.base))}</h1>\n<ul class="badges">{items}</ul>\n</header>'


def _findings(audit: Audit) -> str:
    grouped = audit.of_kind()
    if not grouped:
        return "<p>Nothing.</p>"
    rows = [
        f"<tr><td>{kind.severity}</td><td>{escape(kind.title)}</td><td class='number'>{len(found)}</td>"
        f"<td>{escape(kind.meaning)}</td><td>{escape(kind.remedy)}</td></tr>"
        for kind, found in ((KINDS[name], found) for name, found in grouped.items())
    ]
    head = "<tr><th></th><th>What</th><th class='number'>How many</th><th>What it does</th><th>What ctgen does</th></tr>"
    table = f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
    return table + "\n".join(_details(KINDS[name].title, found) for name, found in grouped.items())


def _details(title: str, found: Sequence[Finding]) -> str:
    rows = "".join(f"<tr><td>{escape(one.subject)}</td><td>{escape(one.message)}</td></tr>" for one in found[:MOST_ROWS])
    more = f"<p>and {len(found) - MOST_ROWS} more in check.json</p>" if len(found) > MOST_ROWS else ""
    summary = f"<summary>{escape(title)}: {len(found)}</summary>"
    return f'<details>{summary}<div class="scroll"><table>{rows}</table></div>{more}</details>'


def _contents(audit: Audit) -> str:
    splits = audit.counts["splits"]
    names = list(audit.counts[splits[0]]) if splits else []
    head = "<tr><th></th>" + "".join(f"<th class='number'>{escape(name.replace('_', ' '))}</th>" for name in names) + "</tr>"
    rows = [
        f"<tr><td>{split}</td>" + "".join(f"<td class='number'>{audit.counts[split][name]}</td>" for name in names) + "</tr>"
        for split in splits
    ]
    tables = [f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>']
    for name in ("kernels", "sex", "labels"):
        cells = (f"<tr><td>{escape(key)}</td><td class='number'>{count}</td></tr>" for key, count in audit.counts[name].items())
        tables.append(f"<details><summary>{name}</summary><table>{''.join(cells)}</table></details>")
    return "\n".join(tables)


def _distributions(audit: Audit) -> str:
    present = {name: values for name, values in audit.distributions.items() if values}
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td class='number'>{value:g}</td>" for value in quantiles(values).values())
        + "</tr>"
        for name, values in present.items()
    )
    head = (
        "<tr><th></th>"
        + "".join(f"<th class='number'>{name}</th>" for name in ("min", "5 %", "median", "95 %", "max"))
        + "</tr>"
    )
    table = f'<div class="scroll"><table>{head}{rows}</table></div>'
    return "\n".join([table, *_pictures(present)])


def _pictures(present: dict[str, Sequence[float]]) -> Iterator[str]:
    if not present:
        return
    figure, axes = white_figure(8.2, 1.25 * len(present), len(present), share_x=False)
    for axis, (name, values) in zip(axes, present.items(), strict=True):
        axis.hist(np.asarray(values, np.float64), bins=BINS, color=COLOURS[0])
        axis.set_title(name, fontsize=8.5, loc="left", pad=3)
    with tempfile.TemporaryDirectory() as folder:
        png = save_png(figure, Path(folder) / "plot.png", colours=32).read_bytes()
    image = image_html(png, f"Histograms of {', '.join(present)}", plot=True)
    yield f"<figure>\n{image}\n</figure>"
