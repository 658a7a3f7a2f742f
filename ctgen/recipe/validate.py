"""A resolved tree -> a checked Recipe, or all problems."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ctgen.config import ComponentConfig
from ctgen.errors import CtgenError, Mark, Problem, did_you_mean
from ctgen.host import Host
from ctgen.recipe.complaints import problems_of, shown
from ctgen.recipe.model import ALWAYS_NEEDED, COMPONENT_SECTIONS, DEFAULT, DEFAULT_USE, SECTIONS, Recipe, Use, sizes_of
from ctgen.recipe.provenance import flat, origins
from ctgen.recipe.resolve import Resolved
from ctgen.recipe.sampling import sampling_problems
from ctgen.recipe.settings import SETTINGS, PrepareSettings, SampleSettings, Settings, TrainSettings
from ctgen.recipe.source import Entry, ListNode, MapNode, Node, Scalar
from ctgen.recipe.values import to_python


def validate(resolved: Resolved, host: Host) -> Recipe | None:
    """The recipe, or None with at least one problem added to ``resolved.problems``."""
    return _Check(resolved, host).run()


class _Check:
    def __init__(self, resolved: Resolved, host: Host) -> None:
        self.resolved, self.host, self.problems = resolved, host, resolved.problems
        self.nodes: dict[str, MapNode] = {}
        self.uses: dict[str, Use] = {}
        self.settings: dict[str, Settings] = {}

    def run(self) -> Recipe | None:
        entries = self.resolved.root.entries
        for section, entry in entries.items():
            if section not in SECTIONS:
                self._unknown_section(section, entry)
        for section, kind in COMPONENT_SECTIONS.items():
            if section == "metrics":
                self._metrics(entries.get(section))
            elif section == "extractors":
                self._extractors(entries.get(section))
            else:
                self._component(section, kind, entries.get(section))
        for section, model in SETTINGS.items():
            self._settings(section, model, entries.get(section))
        self._missing_sections()
        self._extractors_of_metrics()
        self._sampling()
        self._impressions()
        self._sizes()
        return self._recipe() if not self.problems else None

    def _add(self, mark: Mark, key: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(mark, key, message, hint))

    def _unknown_section(self, section: str, entry: Entry) -> None:
        owners = [f"{name}.{section}" for name, model in SETTINGS.items() if section in model.model_fields]
        if owners:
            hint = f"did you mean {' or '.join(owners)}?"
        else:
            hint = did_you_mean(section, [*SECTIONS, "extends", "name"]) or f"sections: {', '.join(SECTIONS)}"
        self._add(entry.mark, section, "unknown section", hint)

    def _component(self, section: str, kind: str, entry: Entry | None) -> None:
        if entry is None or (isinstance(entry.node, Scalar) and entry.node.is_null):
            if section not in DEFAULT_USE:
                return
            name = Scalar(DEFAULT_USE[section], DEFAULT)
            entry = Entry(DEFAULT, MapNode(DEFAULT, {"use": Entry(DEFAULT, name)}))
        self._use(section, kind, entry.node)

    def _metrics(self, entry: Entry | None) -> None:
        if entry is None or (isinstance(entry.node, Scalar) and entry.node.is_null):
            return
        if not isinstance(entry.node, ListNode):
            hint = "write metrics: [NAME, {use: NAME, ...}]"
            self._add(entry.node.mark, "metrics", f"expected a list, got {shown(entry.node)}", hint)
            return
        for index, node in enumerate(entry.node.items):
            self._use(f"metrics.{index}", "metric", node)

    def _extractors(self, entry: Entry | None) -> None:
        if entry is None or (isinstance(entry.node, Scalar) and entry.node.is_null):
            return
        if not isinstance(entry.node, MapNode):
            hint = "write extractors: {KEY: {use: NAME, ...}}; metrics name them by KEY"
            self._add(entry.node.mark, "extractors", f"expected a mapping, got {shown(entry.node)}", hint)
            return
        for key, below in entry.node.entries.items():
            self._use(f"extractors.{key}", "feature_extractor", below.node)

    def _extractors_of_metrics(self) -> None:
        """A metric's field ``features`` is a key of the section extractors."""
        entry = self.resolved.root.entries.get("extractors")
        known = list(entry.node.entries) if entry is not None and isinstance(entry.node, MapNode) else []
        if not self.resolved.complete:
            return
        for section, use in self.uses.items():
            key = getattr(use.config, "features", None) if section.startswith("metrics.") else None
            if isinstance(key, str) and key not in known:
                have = f"extractors here: {', '.join(known)}" if known else "write extractors: {" + key + ": {use: NAME}}"
                hint = did_you_mean(key, known) or have
                self._add(self._place(section, "features"), f"{section}.features", f"there is no extractor {key!r}", hint)

    def _impressions(self) -> None:
        """An objective that takes impressions alone from the cache needs them there."""
        objective, encode = self.uses.get("objective"), self.settings.get("encode")
        config = objective.config if objective is not None and getattr(objective.config, "reads", "") == "latents" else None
        if getattr(config, "impressions_only", 0.0) and encode is not None and not getattr(encode, "impressions", False):
            mark, key = self._place("objective", "impressions_only"), "objective.impressions_only"
            self._add(mark, key, "no text features of impressions alone are made", "add encode: {impressions: true}")

    def _use(self, section: str, kind: str, node: Node) -> None:
        if not isinstance(node, MapNode):
            self._add(node.mark, section, f"expected a component name or {{use: NAME, ...}}, got {shown(node)}")
            return
        use = node.get("use")
        if not isinstance(use, Scalar) or use.is_null:
            if use is None and not self.resolved.complete:
                return  # It may have been in the layer that could not be read.
            what = "missing 'use'" if use is None else f"expected a component name, got {shown(use)}"
            available = ", ".join(self.host.registry.names(kind)) or "none"
            self._add(use.mark if use else node.mark, f"{section}.use", what, f"available: {available}")
            return
        try:
            component = self.host.component(kind, use.text)
        except CtgenError as error:
            self._add(use.mark, f"{section}.use", error.message, error.hint)
            return
        fields = MapNode(node.mark, {key: entry for key, entry in node.entries.items() if key != "use"})
        try:
            config = component.config.model_validate(to_python(fields, component.config))
        except ValidationError as error:
            self.problems.extend(problems_of(error, section, fields, component.config))
            return
        except Exception as error:
            self._defect(node.mark, section, component.plugin, "checking its config", error)
            return
        self.nodes[section] = node
        self.uses[section] = Use(kind, use.text, component.plugin, config)

    def _settings(self, section: str, model: type[Settings], entry: Entry | None) -> None:
        node: Node = entry.node if entry else MapNode(DEFAULT)
        if isinstance(node, Scalar) and node.is_null:
            node = MapNode(node.mark)
        if not isinstance(node, MapNode):
            example = next(iter(model.model_fields))
            self._add(node.mark, section, f"expected a mapping, got {shown(node)}", f"write {section}: {{{example}: ...}}")
            return
        try:
            self.settings[section] = model.model_validate(to_python(node, model))
        except ValidationError as error:
            self.problems.extend(problems_of(error, section, node, model))
            return
        self.nodes[section] = node

    def _missing_sections(self) -> None:
        # A section that was written wrongly has been reported already; one in an unreadable layer is not missing.
        if not self.resolved.complete:
            return
        objective = self.uses.get("objective")
        needed = ALWAYS_NEEDED | frozenset(getattr(objective.config, "sections", ()) if objective else ())
        for section in (name for name in COMPONENT_SECTIONS if name in needed):
            written = self.resolved.root.entries.get(section)
            if written is None or (isinstance(written.node, Scalar) and written.node.is_null):
                why = "" if section in ALWAYS_NEEDED or objective is None else f"; objective {objective.name!r} needs it"
                available = ", ".join(self.host.registry.names(COMPONENT_SECTIONS[section])) or "none"
                mark = written.mark if written else self.resolved.root.mark
                self._add(mark, section, f"missing section{why}", f"write {section}: {{use: NAME}}; available: {available}")

    def _sizes(self) -> None:
        prepare = self.settings.get("prepare")
        if not isinstance(prepare, PrepareSettings):
            return
        autoencoder = self.uses.get("autoencoder")
        if autoencoder is not None:
            try:
                latent = autoencoder.config.latent_spec()  # type: ignore[attr-defined]
                latent.grid(prepare.size)
                if prepare.depth == "crop" and prepare.depth_multiple % latent.stride[0]:
                    self._add(
                        self._place("prepare", "depth_multiple"),
                        "prepare.depth_multiple",
                        f"scans may keep any multiple of {prepare.depth_multiple} slices, "
                        f"autoencoder {autoencoder.name!r} needs one of {latent.stride[0]}",
                        f"set prepare.depth_multiple={latent.stride[0]}, or prepare.depth=pad",
                    )
            except ValueError as error:
                mark = self._place("prepare", "size")
                self._add(mark, "prepare.size", str(error), f"autoencoder {autoencoder.name!r} sets the stride")
                return
            except Exception as error:
                self._defect(self.nodes["autoencoder"].mark, "autoencoder", autoencoder.plugin, "telling its sizes", error)
                return
        # Sizes need every part that is written; a part with problems of its own is reported for those first.
        parts = ("autoencoder", "text_encoder", "rollout")
        if any(self._written(section) and section not in self.uses for section in parts):
            return
        configs: list[ComponentConfig | None] = []
        for section in parts:
            configs.append(self.uses[section].config if section in self.uses else None)
        try:
            sizes = sizes_of(prepare, *configs)
        except Exception as error:
            section = next((name for name in ("rollout", "text_encoder") if name in self.uses), "prepare")
            plugin = self.uses[section].plugin if section in self.uses else "builtin"
            self._defect(self.nodes[section].mark, section, plugin, "deriving sizes", error)
            return
        for section, use in self.uses.items():
            try:
                found = list(use.config.check(sizes))
            except Exception as error:
                self._defect(self.nodes[section].mark, section, use.plugin, "checking sizes", error)
                continue
            for field, message in found:
                self._add(self._place(section, field), f"{section}.{field}" if field else section, message)

    def _sampling(self) -> None:
        sample, train = self.settings.get("sample"), self.settings.get("train")
        if isinstance(sample, SampleSettings) and isinstance(train, TrainSettings):
            for field, message, hint in sampling_problems(self.uses, sample, train):
                self._add(self._place("sample", field), f"sample.{field}", message, hint)

    def _written(self, section: str) -> bool:
        entry = self.resolved.root.entries.get(section)
        return entry is not None and not (isinstance(entry.node, Scalar) and entry.node.is_null)

    def _place(self, section: str, field: str) -> Mark:
        """Where ``field`` was written, else its section, else the recipe."""
        node: Node = self.nodes.get(section, self.resolved.root)
        for part in field.split(".") if field else ():
            below = node.get(part) if isinstance(node, MapNode) else None
            if below is None:
                break
            node = below
        return node.mark if node.mark != DEFAULT else self.resolved.root.mark

    def _defect(self, mark: Mark, key: str, plugin: str, doing: str, error: Exception) -> None:
        message = f"plugin {plugin!r} failed while {doing}: {type(error).__name__}: {error}"
        self._add(mark, key, message, "this is a defect of the plugin")

    def _recipe(self) -> Recipe:
        sections: dict[str, Any] = {section: self.uses.get(section) for section in COMPONENT_SECTIONS}
        named = {name.partition(".")[2]: use for name, use in self.uses.items() if name.startswith("extractors.")}
        sections["extractors"] = named
        sections["metrics"] = tuple(use for section, use in self.uses.items() if section.startswith("metrics."))
        sections.update(self.settings)
        origin: dict[str, Mark] = {}
        recipe = Recipe(name=self.resolved.name, source=self.resolved.source, origin=origin, host=self.host, **sections)
        origin.update(origins(self.resolved.root, flat(recipe.as_dict())))
        origin["name"] = self.resolved.name_mark
        return recipe
