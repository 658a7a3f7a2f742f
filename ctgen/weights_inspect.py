"""``ctgen weights inspect``: what a checkpoint is, where it comes from, and which component loads it.

The core knows files and its own training checkpoints; what the tensors mean is asked of plugins (``ctgen_inspect_weights``).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctgen.atomic import sha256_of
from ctgen.errors import CtgenError
from ctgen.recipe.model import COMPONENT_SECTIONS
from ctgen.weights_header import WeightsHeader, read_header

if TYPE_CHECKING:
    from ctgen.host import Host
    from ctgen.registry import Kind

_WORDS = ("null", "true", "false", "yes", "no", "on", "off")
SHOWN = 6
"""Tensors listed of a file that nobody knows."""


@dataclass(frozen=True)
class Loads:
    """A component that loads the file: what a recipe writes in ``section`` to use it."""

    section: str
    use: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Beside ``use``, JSON-ready; without ``weights``, which is added if absent."""


@dataclass(frozen=True)
class WeightsDescription:
    """What a plugin knows of a file. ``spec``: JSON-ready facts; ``notes``: sentences for people."""

    kind: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    loads: tuple[Loads, ...] = ()


def inspect_weights(path: Path, host: Host) -> dict[str, Any]:
    """JSON-ready facts about the weights at ``path``. CheckpointError and MissingFileError in one sentence each."""
    header = read_header(path.expanduser())
    found: list[dict[str, Any]] = []
    for implementation in host.hook.ctgen_inspect_weights.get_hookimpls():
        caller = host.manager.subset_hook_caller(
            "ctgen_inspect_weights",
            [plugin for plugin in host.manager.get_plugins() if plugin is not implementation.plugin],
        )
        try:
            answers = [answer for answer in caller(header=header) if answer is not None]
        except CtgenError as error:
            answers = [WeightsDescription("damaged", notes=(str(error),))]
        found += [_described(answer, implementation.plugin_name, header, host) for answer in answers]
    return {
        "path": str(header.path),
        "file": str(header.file),
        "layout": header.layout,
        "bytes": header.file.stat().st_size,
        "sha256": sha256_of(header.file),
        **({"sha256_of_folder": sha256_of(header.path)} if header.path.is_dir() and not _is_run(header) else {}),
        "tensors": len(header.tensors),
        "values": sum(entry.values for entry in header.tensors.values()),
        "precision": header.precisions(),
        "metadata": dict(header.metadata),
        "checkpoint": _training_checkpoint(header),
        "known": found,
        "other_files": [str(other) for other in header.others],
        "not_tensors": list(header.left_out),
        "examples": [
            f"{name} {'x'.join(map(str, entry.shape)) or 'scalar'} {entry.dtype}"
            for name, entry in list(header.tensors.items())[:SHOWN]
        ],
    }


def _described(answer: WeightsDescription, plugin: str, header: WeightsHeader, host: Host) -> dict[str, Any]:
    # A folder is what a component loads if its config lies in it.
    place = header.path if "config.json" in header.beside else header.file
    weights = os.path.normpath(place.absolute())
    installed = [load for load in answer.loads if load.use in host.registry.names(_kind(load.section))]
    return {
        "plugin": plugin,
        "kind": answer.kind,
        "spec": dict(answer.spec),
        "notes": list(answer.notes),
        "loads": [{load.section: {"use": load.use, "weights": weights, **load.fields}} for load in installed],
    }


def _kind(section: str) -> Kind:
    found: Kind = COMPONENT_SECTIONS[section]  # type: ignore[assignment]
    return found


def _is_run(header: WeightsHeader) -> bool:
    """A folder whose files change or are many: a hash over all of them says little."""
    return "spec.json" in header.beside or header.file.parent != header.path


def _training_checkpoint(header: WeightsHeader) -> dict[str, Any] | None:
    """The spec.json of a folder ``checkpoints/step-N``, in short."""
    facts = header.beside.get("spec.json")
    spec = facts.get("spec") if facts else None
    if facts is None or not isinstance(spec, Mapping):
        return None
    component = spec.get("component")
    return {
        "step": facts.get("step"),
        "trains": spec.get("trains"),
        "component": dict(component) if isinstance(component, Mapping) else None,
        "fingerprint": spec.get("fingerprint"),
        "versions": facts.get("versions"),
    }


def render(facts: Mapping[str, Any]) -> str:
    """For a terminal; names from the file are shown with their control characters escaped."""
    known = facts["known"]
    lines = [f"{facts['path']}: {'; '.join(one['kind'] for one in known) or 'no installed plugin knows these tensors'}"]
    rows: list[tuple[str, str]] = []
    if facts["file"] != facts["path"]:
        rows.append(("file", facts["file"]))
    rows.append(("size", f"{facts['bytes']:,} bytes, {facts['layout']}"))
    precision = ", ".join(f"{name} {count:,}" for name, count in facts["precision"].items()) or "none"
    rows.append(("tensors", f"{facts['tensors']:,} with {facts['values']:,} values: {precision}"))
    rows.append(("sha256", facts["sha256"]))
    if "sha256_of_folder" in facts:
        rows.append(("", f"{facts['sha256_of_folder']} (the whole folder, as in provenance)"))
    if (checkpoint := facts["checkpoint"]) is not None:
        rows.append(("training", f"checkpoint of ctgen after {checkpoint['step']} steps, trains {checkpoint['trains']}"))
    for one in known:
        rows += [(name, _shown(value)) for name, value in one["spec"].items()]
        rows += [("note", note) for note in one["notes"]]
    rows += [(f"says {name}", value) for name, value in sorted(facts["metadata"].items())]
    for title, values in (("beside", facts["other_files"]), ("no tensor", facts["not_tensors"])):
        rows += [(title, _few(values))] if values else []
    if not known:
        rows += [("tensor", example) for example in facts["examples"]]
    width = max(len(name) for name, _ in rows)
    lines += [f"  {_plain(name):<{width}}  {_plain(value)}" for name, value in rows]
    for one in known:
        for load in one["loads"]:
            (section, fields), *_ = load.items()
            lines += ["", f"loaded by {section} {fields['use']!r} of plugin {one['plugin']!r}; in a recipe:", f"  {section}:"]
            lines += [f"    {name}: {_yaml(value)}" for name, value in fields.items()]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else "null" if value is None else str(value)


def _yaml(value: object) -> str:
    """On one line, quoted where YAML would read something else."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./ -]*", value) and value not in _WORDS:
        return value
    return json.dumps(value)


def _few(values: list[str]) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(values[:SHOWN]) + more


def _plain(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(shown) <= 400 else f"{shown[:400]}..."
