"""Component records with lazy targets: what exists is known without importing what it needs."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ctgen.config import ComponentConfig
from ctgen.errors import AmbiguousComponentError, PluginError, UnknownComponentError, did_you_mean

Kind = Literal[
    "autoencoder",
    "text_encoder",
    "backbone",
    "classifier",
    "schedule",
    "rollout",
    "objective",
    "dataset",
    "metric",
    "feature_extractor",
    "exporter",
    "generator",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Component:
    """A registered component. ``target`` is "package.module:Name", imported at first use."""

    kind: Kind
    name: str
    target: str
    config: type[ComponentConfig]
    plugin: str
    summary: str = ""

    @property
    def qualified(self) -> str:
        return f"{self.plugin}:{self.name}"

    def load(self) -> Any:
        """Import the target; a failure is a PluginError that names plugin, target and cause."""
        module_name, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except Exception as error:
            hint = ""
            if isinstance(error, ModuleNotFoundError) and error.name and not module_name.startswith(error.name):
                hint = f"try: pip install {error.name.partition('.')[0]}"
            raise PluginError(
                f"{self.kind} {self.name!r} of plugin {self.plugin!r} could not be loaded from {self.target}: "
                f"{type(error).__name__}: {error}",
                hint=hint,
            ) from error


class Registry:
    """All components by kind and name. The same name from two plugins is kept twice and reachable as plugin:name."""

    def __init__(self) -> None:
        self._components: dict[tuple[str, str], list[Component]] = {}

    def add(self, component: Component) -> None:
        known = self._components.setdefault((component.kind, component.name), [])
        if any(other.plugin == component.plugin for other in known):
            raise PluginError(f"plugin {component.plugin!r} registers {component.kind} {component.name!r} twice")
        known.append(component)

    def remove_plugin(self, plugin: str) -> None:
        """Forget what a plugin registered before it failed: half a plugin is worse than none."""
        for key, known in list(self._components.items()):
            kept = [component for component in known if component.plugin != plugin]
            if kept:
                self._components[key] = kept
            else:
                del self._components[key]

    def get(self, kind: str, name: str, *, notes: str = "") -> Component:
        """The component called ``name`` or ``plugin:name``; ``notes`` (failed plugins) are added to an error's hint."""
        plugin, colon, bare = name.rpartition(":")
        known = self._components.get((kind, bare if colon else name), [])
        if colon:
            known = [component for component in known if component.plugin == plugin]
        if len(known) == 1:
            return known[0]
        if known:
            names = " or ".join(repr(component.qualified) for component in known)
            raise AmbiguousComponentError(f"{kind} {name!r} is registered by {len(known)} plugins", hint=f"write {names}")
        lines = [did_you_mean(name, self.names(kind)), self._available(kind), notes]
        raise UnknownComponentError(f"no {kind} named {name!r}", hint="\n".join(line for line in lines if line))

    def names(self, kind: str) -> list[str]:
        """Names as a recipe may write them: bare where unique, plugin:name where two plugins share one."""
        return sorted(
            known[0].name if len(known) == 1 else component.qualified
            for (known_kind, _), known in self._components.items()
            if known_kind == kind
            for component in known
        )

    def __iter__(self) -> Iterator[Component]:
        for kind in KINDS:
            for (known_kind, _), known in sorted(self._components.items()):
                if known_kind == kind:
                    yield from known

    def _available(self, kind: str) -> str:
        listed = [f"{component.name} ({component.plugin})" for component in self if component.kind == kind]
        return "available: " + (", ".join(listed) or "none")
