"""The host finds plugins, keeps what they register, and keeps their failures.

It is an object that is passed down, never a module global. Discovery imports plugin entry modules one by one, so that one
broken plugin hides nothing and stops nothing; its failure is shown by ``ctgen ls plugins`` and beside "unknown component".
"""

from __future__ import annotations

import inspect
import string
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.resources import files
from typing import Any

import pluggy
from pydantic import ValidationError

from ctgen import hookspecs
from ctgen.config import ComponentConfig
from ctgen.errors import AmbiguousComponentError, ConfigError, CtgenError, PluginError, UnknownComponentError, did_you_mean
from ctgen.registry import KINDS, Component, Kind, Registry

PLUGIN_API = 1
ENTRY_POINT_GROUP = "ctgen"
_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-_.")

CONTEXT: Mapping[str, frozenset[str]] = {
    "backbone": frozenset({"latent", "text"}),
    "objective": frozenset({"components", "schedule", "rollout"}),
}
"""What a target of each kind takes beside its config, by keyword. A generator made of other components may take ``host``."""


@dataclass(frozen=True)
class Preset:
    """A recipe, suite or protocol that a plugin ships; ``resource`` is a file inside ``package``."""

    name: str
    plugin: str
    package: str
    resource: str
    summary: str = ""

    def read(self) -> str:
        return files(self.package).joinpath(self.resource).read_text(encoding="utf-8")


@dataclass
class PluginRecord:
    """A plugin as found: loaded, or with the exception that stopped it."""

    name: str
    distribution: str
    version: str
    error: BaseException | None = None
    components: int = 0

    @property
    def traceback(self) -> str:
        return "".join(traceback.format_exception(self.error)) if self.error else ""

    @property
    def hint(self) -> str:
        if isinstance(self.error, ModuleNotFoundError) and self.error.name:
            return f"try: pip install {self.error.name.partition('.')[0]}"
        return ""

    def describe(self) -> str:
        state = f"failed to load: {type(self.error).__name__}: {self.error}" if self.error else "loaded"
        return f"plugin {self.name!r} ({self.distribution} {self.version}) {state}"


@dataclass
class Registrar:
    """Handed to ``ctgen_register``: one typed method per kind, plus presets."""

    plugin: str
    registry: Registry
    presets: list[Preset] = field(default_factory=list)
    suites: list[Preset] = field(default_factory=list)
    protocols: list[Preset] = field(default_factory=list)

    def _add(self, kind: Kind, name: str, target: str, config: type[ComponentConfig], summary: str) -> None:
        if not name or not set(name) <= _NAME_CHARACTERS:
            raise PluginError(f"{kind} {name!r}: use letters, digits, '-', '_' and '.' only")
        if ":" not in target or not (isinstance(config, type) and issubclass(config, ComponentConfig)):
            raise PluginError(
                f"{kind} {name!r}: target must read 'package.module:Name' and config must be a ComponentConfig class, "
                f"not {target!r} and {config!r}"
            )
        self.registry.add(Component(kind, name, target, config, self.plugin, summary))

    def autoencoder(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """Volume <-> latent. ``config.latent_spec()`` gives its sizes without weights."""
        self._add("autoencoder", name, target, config, summary)

    def text_encoder(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """Report -> features. ``config.text_spec()`` gives its sizes without weights."""
        self._add("text_encoder", name, target, config, summary)

    def backbone(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """The denoising network."""
        self._add("backbone", name, target, config, summary)

    def classifier(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """Volume -> which labels it has."""
        self._add("classifier", name, target, config, summary)

    def schedule(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """The path between data and noise, and its times."""
        self._add("schedule", name, target, config, summary)

    def rollout(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """How a volume is cut into blocks for training and composed of blocks in sampling."""
        self._add("rollout", name, target, config, summary)

    def objective(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """What training minimises, and which component it trains."""
        self._add("objective", name, target, config, summary)

    def dataset(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """Cases: volumes with reports and labels."""
        self._add("dataset", name, target, config, summary)

    def metric(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """A streaming score."""
        self._add("metric", name, target, config, summary)

    def feature_extractor(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """Volume -> features for metrics that compare distributions."""
        self._add("feature_extractor", name, target, config, summary)

    def exporter(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """A file format to write volumes in."""
        self._add("exporter", name, target, config, summary)

    def generator(self, name: str, *, target: str, config: type[ComponentConfig], summary: str = "") -> None:
        """A whole report-to-volume system."""
        self._add("generator", name, target, config, summary)

    def preset(self, name: str, *, package: str, resource: str, summary: str = "") -> None:
        """A recipe inside the plugin's package, usable as ``extends: preset:NAME`` and ``ctgen run preset:NAME``."""
        self._ship("preset", self.presets, Preset(name, self.plugin, package, resource, summary))

    def suite(self, name: str, *, package: str, resource: str, summary: str = "") -> None:
        """Cases to compare models on: a YAML file inside the plugin's package, for ``ctgen bench --suite NAME``."""
        self._ship("suite", self.suites, Preset(name, self.plugin, package, resource, summary))

    def protocol(self, name: str, *, package: str, resource: str, summary: str = "") -> None:
        """How to score: a YAML file inside the plugin's package that names feature extractors and metrics."""
        self._ship("protocol", self.protocols, Preset(name, self.plugin, package, resource, summary))

    def _ship(self, what: str, shipped: list[Preset], new: Preset) -> None:
        if any(known.name == new.name for known in shipped):
            raise PluginError(f"plugin {self.plugin!r} registers {what} {new.name!r} twice")
        shipped.append(new)


class Host:
    """Registry, presets, plugin records and the pluggy hooks, for one set of plugins."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.presets: list[Preset] = []
        self.suites: list[Preset] = []
        self.protocols: list[Preset] = []
        self.plugins: list[PluginRecord] = []
        self.manager = pluggy.PluginManager("ctgen")
        self.manager.add_hookspecs(hookspecs)

    @classmethod
    def discover(cls) -> Host:
        """A host with the built-in components and every installed plugin of the entry-point group ``ctgen``."""
        from ctgen.builtin import plugin as builtin

        host = cls()
        host.register(builtin, "builtin", "ctgen-framework", _version("ctgen-framework"))
        seen: set[str] = set()
        for entry in sorted(metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: (entry.name, entry.value)):
            distribution = entry.dist.name if entry.dist else "unknown"
            version = entry.dist.version if entry.dist else "?"
            name = entry.name if entry.name not in seen else f"{entry.name}@{distribution}"
            seen.add(entry.name)
            try:
                module = entry.load()
            # SystemExit too: a plugin that calls sys.exit() at import must not take the program down.
            except (Exception, SystemExit) as error:
                host.plugins.append(PluginRecord(name, distribution, version, error))
                continue
            host.register(module, name, distribution, version)
        return host

    def register(self, module: Any, name: str, distribution: str = "", version: str = "") -> PluginRecord:
        """Add one plugin; its failure is kept in the record and nothing of it stays registered."""
        record = PluginRecord(name, distribution or name, version)
        self.plugins.append(record)
        try:
            self._refuse_twice(module, name)
        except PluginError as error:
            # Nothing to undo, and undoing would take the first plugin of that name or module with it.
            record.error = error
            return record
        registrar = Registrar(name, self.registry)
        try:
            _check_module(module, name)
            self.manager.register(module, name=name)
            caller = self.manager.subset_hook_caller(
                "ctgen_register", [other for other in self.manager.get_plugins() if other is not module]
            )
            caller(registrar=registrar)
        except (Exception, SystemExit) as error:
            record.error = error
            self.registry.remove_plugin(name)
            if self.manager.is_registered(module):
                self.manager.unregister(module)
            return record
        self.presets.extend(registrar.presets)
        self.suites.extend(registrar.suites)
        self.protocols.extend(registrar.protocols)
        record.components = sum(component.plugin == name for component in self.registry)
        return record

    def _refuse_twice(self, module: Any, name: str) -> None:
        if self.manager.has_plugin(name):
            raise PluginError(f"a plugin named {name!r} is loaded already; the entry point needs another name")
        if self.manager.is_registered(module):
            raise PluginError(f"the entry points {self.manager.get_name(module)!r} and {name!r} load the same module")

    @property
    def hook(self) -> Any:
        return self.manager.hook

    def component(self, kind: str, name: str) -> Component:
        """The record of a component; an unknown name's error lists choices and the plugins that failed to load."""
        if kind not in KINDS:
            raise UnknownComponentError(
                f"no component kind named {kind!r}", hint=f"{did_you_mean(kind, KINDS)}\nkinds: {', '.join(KINDS)}".strip()
            )
        return self.registry.get(kind, name, notes=self.failure_notes())

    def failure_notes(self) -> str:
        """One line per plugin that failed, or the empty string."""
        failed = [record for record in self.plugins if record.error]
        lines = [f"{record.describe()}" + (f"\n  {record.hint}" if record.hint else "") for record in failed]
        return "\n".join([*lines, "details: ctgen ls plugins --traceback"] if lines else [])

    def configure(self, kind: str, name: str, **fields: Any) -> ComponentConfig:
        """A component's typed config; wrong fields are one ConfigError."""
        component = self.component(kind, name)
        try:
            return component.config.model_validate(fields)
        except ValidationError as error:
            lines = []
            for item in error.errors():
                key = ".".join(map(str, item["loc"]))
                near = did_you_mean(key, component.config.model_fields) if item["type"] == "extra_forbidden" else ""
                lines.append(f"{kind} {name!r}: {key}: {item['msg']}" + (f"; {near}" if near else ""))
            raise ConfigError("\n".join(lines)) from error

    def build(self, kind: str, name: str, config: ComponentConfig, **context: Any) -> Any:
        """Import the target and build it from a checked config and its kind's context (see CONTEXT)."""
        wanted = CONTEXT.get(kind, frozenset())
        if set(context) != wanted:
            raise ConfigError(f"{kind} {name!r} needs {sorted(wanted) or 'no context'}, got {sorted(context)}")
        component = self.component(kind, name)
        target = component.load()
        if kind == "generator" and "host" in inspect.signature(target).parameters:
            context["host"] = self
        try:
            return target(config, **context)
        except CtgenError:
            raise
        except Exception as error:
            raise PluginError(
                f"{kind} {name!r} of plugin {component.plugin!r} failed while being built: {type(error).__name__}: {error}"
            ) from error

    def create(self, kind: str, name: str, **fields: Any) -> Any:
        """Build a component by name: ``host.create("backbone", "stdit", latent=..., text=..., width=384)``."""
        wanted = CONTEXT.get(kind, frozenset())
        context = {key: value for key, value in fields.items() if key in wanted}
        config = self.configure(kind, name, **{key: value for key, value in fields.items() if key not in wanted})
        return self.build(kind, name, config, **context)

    def preset(self, name: str) -> Preset:
        """The preset called ``name`` or ``plugin:name``."""
        return self._shipped("preset", self.presets, name)

    def suite(self, name: str) -> Preset:
        """The suite called ``name`` or ``plugin:name``."""
        return self._shipped("suite", self.suites, name)

    def protocol(self, name: str) -> Preset:
        """The protocol called ``name`` or ``plugin:name``."""
        return self._shipped("protocol", self.protocols, name)

    def _shipped(self, what: str, shipped: list[Preset], name: str) -> Preset:
        found = [one for one in shipped if name in (one.name, f"{one.plugin}:{one.name}")]
        if len(found) == 1:
            return found[0]
        if found:
            names = " or ".join(f"{one.plugin}:{one.name}" for one in found)
            raise AmbiguousComponentError(f"{what} {name!r} comes from {len(found)} plugins", hint=f"write {names}")
        known = [one.name for one in shipped]
        lines = [did_you_mean(name, known), "available: " + (", ".join(sorted(known)) or "none"), self.failure_notes()]
        raise UnknownComponentError(f"no {what} named {name!r}", hint="\n".join(line for line in lines if line))


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _check_module(module: Any, name: str) -> None:
    """Find what pluggy would ignore or blame on another: another plugin API, an unknown hook, a hook without its marker."""
    api = getattr(module, "PLUGIN_API", PLUGIN_API)
    if api != PLUGIN_API:
        raise PluginError(f"plugin {name!r} is written for plugin API {api}, this ctgen has {PLUGIN_API}")
    known = [hook for hook in vars(hookspecs) if hook.startswith("ctgen_")]
    for attribute in dir(module):
        value = inspect.getattr_static(module, attribute)
        options = getattr(value, "ctgen_impl", None)
        if isinstance(options, dict):
            hook = options.get("specname") or attribute
            if hook not in known and not options.get("optionalhook"):
                raise PluginError(
                    f"plugin {name!r} implements an unknown hook {hook!r}; {did_you_mean(hook, known)}".rstrip("; "),
                    hint=f"hooks: {', '.join(known)}",
                )
        elif attribute in known and callable(value):
            raise PluginError(f"plugin {name!r} defines {attribute} without @hookimpl, so that it would never be called")
