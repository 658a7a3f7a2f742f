"""The text of a model card: what the weights are, from what they came, how training went, what they cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ctgen.recipe import Recipe

POINTS = 10
"""Rows of the loss curve."""

_LIDC = """\
The weights are licensed under Apache-2.0. They were trained on volumes that ctgen's simulator derives from one scan,
LIDC-IDRI-0001 of the LIDC-IDRI collection (The Cancer Imaging Archive), licensed under Creative Commons Attribution 3.0
Unported (https://creativecommons.org/licenses/by/3.0/): keep this attribution with them.

Armato III, S. G., McLennan, G., Bidaut, L., et al. (2015). Data From LIDC-IDRI [Data set]. The Cancer Imaging Archive.
https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX"""

ATTRIBUTIONS = {"atlas-thorax": _LIDC}
"""Data component -> licence and attribution of weights trained on it."""

_LIMITS = {
    "autoencoder": (
        "Trained on simulated chests at mini scale: implants, other body regions and texture finer than the training grid are "
        "reconstructed less well. HU outside the window are not kept."
    ),
    "text_encoder": (
        "Trained on the simulator's reports alone: it knows their findings and wording, and little of how radiologists write."
    ),
    "ct-clip-pair": (
        "Trained on simulated chests and their reports alone: it knows the simulator's findings and wording, and "
        "its scores mean nothing on other data. It compares models that were trained on the same simulator."
    ),
    "classifier": (
        "Trained on simulated chests alone: it knows how the simulator draws findings, and its scores mean nothing on other "
        "data. It compares models that were trained on the same simulator."
    ),
    "backbone": (
        "Trained on deformations of a single patient's anatomy at mini scale: it shows that the pipeline works. Its volumes "
        "have the simulator's variety and findings, not those of patients."
    ),
}
_ALWAYS = "For research and tests of software. Not for diagnosis or any other clinical use."
_UNINTERESTING = {"step", "lr", "grad_norm", "seconds"}


def model_card(
    target: Path,
    *,
    recipe: Recipe,
    section: str,
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, float]],
    facts: Mapping[str, str],
    dtype: str,
    parameters: int,
    rounding: str,
    hardware: str,
    recipe_path: Path | None,
    attribution: str,
    notes: Sequence[str],
) -> str:
    """Markdown for the weights file ``target``; ``rows`` are the lines of metrics.jsonl, ``facts`` the file's metadata."""
    use = getattr(recipe, section)
    named = f"`{recipe_path.as_posix()}`" if recipe_path is not None else f"`{recipe.name}`"
    last = rows[-1] if rows else {}
    final = ", ".join(f"{name} {last[name]:.4g}" for name in last if name not in _UNINTERESTING)
    table = {
        "component": f"{section}: `{use.name}` ({use.plugin})",
        "parameters": f"{parameters:,}, stored as {dtype} (rounding: {rounding})",
        "recipe": f"{named}, hash {facts['recipe_hash']}",
        "started from": _without_folder(str(summary["started_from"])),
        "steps x batch": f"{summary['steps']} x {recipe.train.batch * recipe.train.accumulate}",
        "seed": facts["seed"],
        "wall time": _duration(float(summary["seconds"])),
        "hardware": hardware,
        "last logged values": final or "none",
        "data": ", ".join(
            f"{key} {_brief(value)}" for key, value in use_fields(recipe.data).items() if value not in (None, [])
        ),
        "ctgen": facts["ctgen"],
        "SHA-256 before rounding": f"`{facts['source_sha256']}`",
    }
    table |= {name: str(summary[name]) for name in ("scale", "shift") if name in summary}
    lines = [f"# {target.name}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in table.items()), ""]
    if notes:
        lines += ["## Measured", "", *(f"- {note}" for note in notes), ""]
    lines += ["## Limits", "", _LIMITS.get(use.name, _LIMITS.get(section, "")), _ALWAYS, ""]
    lines += ["## Licence and attribution", "", attribution, ""]
    lines += ["## Training", "", *_curve(rows), "", "```yaml", _settings(recipe, section), "```", ""]
    return "\n".join(lines)


def use_fields(use: Any) -> dict[str, Any]:
    """``use`` and its fields as plain values, without the folders of absolute paths."""
    fields = use.config.model_dump(mode="json")
    return {"use": use.name, **{key: _without_folder(value) for key, value in fields.items()}}


def _curve(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """A table of about ``POINTS`` evenly spaced rows, the first and the last among them; those with validation if any."""
    checked = [row for row in rows if "valid_loss" in row]
    chosen = checked if len(checked) >= POINTS // 2 else list(rows)
    if len(chosen) > POINTS:
        chosen = [chosen[round(k * (len(chosen) - 1) / (POINTS - 1))] for k in range(POINTS)]
    columns = [name for name in dict.fromkeys(key for row in chosen for key in row) if name not in _UNINTERESTING]
    head = ["| step | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    return head + [
        f"| {row['step']} | " + " | ".join(f"{row[name]:.4g}" if name in row else "" for name in columns) + " |"
        for row in chosen
    ]


def _settings(recipe: Recipe, section: str) -> str:
    """The resolved sections that decide the result, as YAML."""
    parts: dict[str, Any] = {}
    for name in ("data", section, "schedule", "rollout", "objective"):
        if getattr(recipe, name) is not None:
            parts[name] = use_fields(getattr(recipe, name))
    for name in ("prepare", "train"):
        fields = getattr(recipe, name).model_dump(mode="json")
        parts[name] = {key: _without_folder(value) for key, value in fields.items()}
    text: str = yaml.safe_dump(parts, sort_keys=False, default_flow_style=None, width=120)
    return text.rstrip()


def _without_folder(value: Any) -> Any:
    """Where a file lay on the machine that trained is nobody's business."""
    if isinstance(value, str) and value.startswith("FILE ("):
        return f"FILE ({Path(value[6:-1]).name})"
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _brief(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return (", " if any(isinstance(part, str) for part in value) else "x").join(map(str, value))


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
