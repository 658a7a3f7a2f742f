"""table.md, table.json and a plot per group, from the records of variants."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plot import plot
from score import FORMAT, all_names
from variants import BASE, Group, Variant

from ctgen.atomic import write_json, write_text
from ctgen.bench.rows import ARROWS, CLEAR, cell, comparison_text
from ctgen.report.score_table import number

FLOORS = {"real": "real-real", "vae": "autoencoder"}
"""Floors as records call them -> as the page does."""


@dataclass(frozen=True)
class Results:
    """A group, its base and variants, and what is known of each: a record, or None if it was not run."""

    group: Group
    variants: Sequence[Variant]
    records: Sequence[Mapping[str, Any] | None]

    @property
    def name(self) -> str:
        return self.variants[0].group

    @property
    def known(self) -> dict[str, Mapping[str, Any]]:
        """Name -> record of those that were run, the base first."""
        pairs = zip(self.variants, self.records, strict=True)
        return {variant.name: record for variant, record in pairs if record is not None}

    @property
    def scored(self) -> dict[str, Mapping[str, Any]]:
        return {name: record for name, record in self.known.items() if record["scores"] and not record["error"]}

    @property
    def floors(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = next(iter(self.scored.values()), {"floors": {}})["floors"]
        return found


def write_page(folder: Path, results: Iterable[Results]) -> None:
    """Groups of which nothing was run are left out."""
    shown = [one for one in results if one.known]
    for one in shown:
        if one.scored:
            plot(folder / "plots" / f"{one.name}.png", one.name, one.group.question, one.scored, one.floors)
    write_text(folder / "table.md", markdown(shown))
    write_json(
        folder / "table.json", {"format": FORMAT, **provenance(shown), "groups": {one.name: _json(one) for one in shown}}
    )


def provenance(shown: Sequence[Results]) -> dict[str, Any]:
    """Of what computed the numbers; {} before anything is scored. All records of `ctgen bench` share suite and seed."""
    records = [record for one in shown for record in one.scored.values()]
    if not records:
        return {}
    found: dict[str, Any] = {"provenance": {**records[0]["provenance"], "cores": os.cpu_count()}}
    benched = next((record for record in records if record["measured"] == "bench"), None)
    return found | ({name: benched[name] for name in ("suite", "not_run")} if benched else {})


def _json(one: Results) -> dict[str, Any]:
    kept = ("overrides", "error", "weights", "facts", "training", "scores", "differences")
    variants = {
        variant.name: {name: record[name] for name in kept}
        if record
        else {"overrides": list(variant.overrides), "error": "not run"}
        for variant, record in zip(one.variants, one.records, strict=True)
    }
    described = {"question": one.group.question, "note": one.group.note, "kind": one.variants[0].kind, "base": one.group.base}
    return {**described, "floors": one.floors, "variants": variants}


def markdown(shown: Sequence[Results]) -> str:
    lines = ["# What holds the quality of the mini CTFlow back", ""]
    found = provenance(shown)
    if found:
        made = found["provenance"]
        versions = ", ".join(f"{name} {made['versions'][name]}" for name in ("ctgen-framework", "torch", "python"))
        suite = found.get("suite")
        of = f"Suite {suite['name']}, N = {suite['n']} cases, seed {suite['seed']}; " if suite else ""
        lines += [
            f"{of}{made['device']}, {made['cores']} cores; {versions}. Brackets: 95 % bootstrap intervals over cases (losses: "
            "over held-out blocks, see README.md). Differences are variant - base, paired by case or block; * p < 0.05, each "
            "number by itself: of twenty that do not differ one is marked.",
            *(f"\nNOT RUN {name}: {reason.splitlines()[0]}" for name, reason in found.get("not_run", {}).items()),
            "",
        ]
    for one in shown:
        lines += [*_group(one), ""]
    return "\n".join(lines)


def _group(one: Results) -> list[str]:
    lines = [f"## {one.name}", "", one.group.question, ""]
    if one.group.note:
        lines += [one.group.note, ""]
    training = one.variants[0].kind == "training"
    head = ["variant", "changes", "weights", *(["training", "valid loss", "loss is the base's"] if training else []), "state"]
    lines += _table(head, [_row(one, variant, record) for variant, record in zip(one.variants, one.records, strict=True)])
    columns = {**{FLOORS[name]: scores for name, scores in one.floors.items()}}
    columns |= {name: record["scores"] for name, record in one.scored.items()}
    names = all_names(columns.values())
    rows = []
    for name in names:
        arrow = next(ARROWS[scores[name]["higher_is_better"]].strip() for scores in columns.values() if name in scores)
        rows.append([name, arrow, *(cell(scores.get(name)) for scores in columns.values())])
    lines += ["", *_table(["", "", *columns], rows)]
    compared = {name: record["differences"] for name, record in one.scored.items() if record["differences"]}
    if compared:
        rows = []
        for name in names:
            entries = [found.get(name) for found in compared.values()]
            if any(entries):
                rows.append([name, *(comparison_text(entry) + _ahead(entry) if entry else "" for entry in entries)])
        lines += ["", *_table(["difference", *(f"{name} - {BASE}" for name in compared)], rows)]
    return [*lines, "", f"![{one.name}](plots/{one.name}.png)"] if one.scored else lines


def _row(one: Results, variant: Variant, record: Mapping[str, Any] | None) -> list[str]:
    changes = " ".join(f"`{word}`" for word in variant.overrides) or one.group.base
    state = "not run" if record is None else "done"
    if record is not None and record["error"]:
        state = f"FAILED: {record['error'].splitlines()[0]}"
    weights = dict(record["weights"]) if record else {}
    told = ", ".join(f"{part.replace('_', ' ')} {str(label).split()[0]}" for part, label in weights.items())
    middle: list[str] = []
    if variant.kind == "training":
        trained = (record or {}).get("training")
        middle = ["", "", ""]
        if trained:
            loss, began = trained["valid_loss"], trained["started_from"].split()[0]
            middle = [
                f"{trained['steps']} steps from {began}, seed {trained['seed']}, {trained['seconds']:.0f} s",
                "" if loss is None else number(loss),
                f"no, other {', '.join(trained['other_loss'])}" if trained["other_loss"] else "yes",
            ]
    return [variant.name, changes, told, *middle, state]


def _ahead(entry: Mapping[str, Any]) -> str:
    clear = entry["better"] and entry["p"] is not None and entry["p"] < CLEAR
    return f" {'worse' if entry['better'] == BASE else 'better'}" if clear else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    escaped = ([text.replace("|", "\\|").replace("\n", " ") for text in row] for row in [head, ["---"] * len(head), *rows])
    return [f"| {' | '.join(row)} |" for row in escaped]
