"""What ``--models`` names: presets, recipes, finished runs, folders of volumes, generator components. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ctgen.bench.reading import YAML
from ctgen.errors import ConfigError, MissingFileError, UnknownComponentError, did_you_mean
from ctgen.host import Host

Kind = Literal["folder", "run", "recipe", "preset", "generator", "reconstruction", "halves"]
FOLDER, PRESET = "folder:", "preset:"
_LABELLED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)")


@dataclass(frozen=True)
class ModelSpec:
    """``name`` heads its column; ``source`` is what is opened: a path, preset:NAME or a component's name.

    "reconstruction" and "halves" are floors: the autoencoder of model ``source``, and real scans against real ones.
    """

    name: str
    kind: Kind
    source: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def floor(self) -> bool:
        return self.kind in ("reconstruction", "halves")


def model_specs(
    words: Sequence[str], host: Host, *, variant: str = "", fields: Mapping[str, Any] | None = None
) -> list[ModelSpec]:
    """One spec per word; ``LABEL=WORD`` names it otherwise. ``fields``: generator -> its fields in the suite.

    UnknownComponentError or MissingFileError for a word that is nothing of the kind, ConfigError if two have one name.
    """
    specs = [_spec(word, host, variant, fields or {}) for word in words]
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"two models are called {', '.join(map(repr, twice))}",
            hint=f"give one another name: LABEL={words[names.index(twice[0])]}",
        )
    if not specs:
        raise ConfigError("no model is named", hint="write --models ctflow,folder:volumes/; ctgen ls presets shows some")
    return specs


def _spec(word: str, host: Host, variant: str, fields: Mapping[str, Any]) -> ModelSpec:
    labelled = _LABELLED.fullmatch(word)
    label = None
    if labelled and not Path(word).exists():
        label, word = labelled.groups()
    if word.startswith(FOLDER):
        path = Path(word.removeprefix(FOLDER)).expanduser()
        if not path.is_dir():
            raise MissingFileError(f"{word}: no folder at {path}")
        return ModelSpec(label or _safe(path.name), "folder", str(path))
    path = Path(word).expanduser()
    if path.suffix.lower() in YAML:
        return ModelSpec(label or _safe(path.stem), "recipe", str(path))
    if path.is_dir():
        if not (path / "recipe.yaml").is_file():
            raise MissingFileError(
                f"{word} is a folder without a recipe.yaml, so no run", hint=f"volumes that somebody made: {FOLDER}{word}"
            )
        return ModelSpec(label or _safe(path.name), "run", str(path))
    presets = [preset.name for preset in host.presets]
    name = word.removeprefix(PRESET)
    for candidate in (f"{name}-{variant}" if variant else "", name):
        if candidate and (candidate in presets or (word.startswith(PRESET) and candidate == name)):
            return ModelSpec(label or name, "preset", f"{PRESET}{candidate}")
    if name in host.registry.names("generator"):
        return ModelSpec(label or name, "generator", name, fields.get(name, {}))
    generators = host.registry.names("generator")
    lines = [
        did_you_mean(name, [*presets, *generators]),
        f"presets: {', '.join(sorted(presets)) or 'none'}; generators: {', '.join(generators) or 'none'}",
        f"or a recipe file, a run folder, or {FOLDER}PATH",
        host.failure_notes(),
    ]
    raise UnknownComponentError(f"no model named {word!r}", hint="\n".join(line for line in lines if line))


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"
