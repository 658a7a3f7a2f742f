"""YAML of suites and protocols -> checked definitions; mistakes are reported all together with file:line:col."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ctgen.bench.definitions import Protocol, ProtocolSettings, Suite, SuiteSettings, field_of
from ctgen.errors import CtgenError, Mark, Problem, RecipeError, UnknownComponentError
from ctgen.host import Host, Preset
from ctgen.recipe.complaints import problems_of, shown
from ctgen.recipe.merge import with_use
from ctgen.recipe.model import Use
from ctgen.recipe.source import Entry, ListNode, MapNode, Node, Refused, Scalar, parse, read_text
from ctgen.recipe.values import to_python

M = TypeVar("M", bound=BaseModel)
YAML = (".yaml", ".yml")


def load_suite(reference: str, host: Host, data: Sequence[str] = ()) -> Suite:
    """A suite by its registered name, or from a .yaml file; ``data``: FIELD=VALUE of its data set. UnknownComponentError,
    RecipeError."""
    name, source, text = _fetch(reference, host, "suite")
    reader = _Reader(host, source)
    entries = reader.top(text)
    data_entry = entries.pop("data", None)
    use = None
    if data_entry is None:
        reader.add(Mark(source, 1, 1), "data", "is required and not given", "write data: {use: NAME, ...}")
    else:
        use = reader.component("data", "dataset", reader.with_fields(with_use(data_entry.node), data))
    train = entries.pop("train", None)
    learnt = reader.component("train", "dataset", with_use(train.node)) if train is not None else None
    generators = reader.generators(entries.pop("generators", None))
    settings = reader.model("suite", SuiteSettings, entries)
    reader.finish()
    assert use is not None and settings is not None
    return Suite(name, source, settings, use, learnt, generators)


def load_protocol(reference: str, host: Host, weights: Sequence[str] = ()) -> Protocol:
    """A protocol by name or file. ``weights``: folders to look in, or EXTRACTOR=FILE.

    What it needs and this installation does not have (weights, a plugin's component) stands in ``missing``.
    """
    name, source, text = _fetch(reference, host, "protocol")
    reader = _Reader(host, source, lenient=True)
    entries = reader.top(text)
    extractors, metrics = entries.pop("extractors", None), entries.pop("metrics", None)
    settings = reader.model("protocol", ProtocolSettings, entries) or ProtocolSettings.model_validate({})
    found: dict[str, Path] = {}
    for key, need in settings.weights.items():
        path = _locate(key, need.file, weights)
        if path is None:
            reader.missing.append(f"{need.file} (extractor {key!r}) is not here; {need.where}")
        else:
            found[key] = path
    uses: dict[str, Use] = {}
    for key, node in reader.named("extractors", extractors):
        wanted = [file for file in settings.weights if field_of(file)[0] == key]
        if any(file not in found for file in wanted):
            continue
        for file in wanted:
            node = _with_file(node, field_of(file)[1], found[file])
        if use := reader.component(f"extractors.{key}", "feature_extractor", with_use(node)):
            uses[key] = use
    scored: dict[str, Use] = {}
    for key, node in reader.named("metrics", metrics):
        if use := reader.component(f"metrics.{key}", "metric", with_use(node)):
            scored[key] = use
    if metrics is None:
        reader.add(Mark(source, 1, 1), "metrics", "is required and not given", "write metrics: {NAME: {use: METRIC, ...}}")
    declared = [key for key, _ in reader.named("extractors", extractors)]
    for key, use in scored.items():
        features = getattr(use.config, "features", None)
        if features is not None and features not in declared:
            names = ", ".join(declared) or "none"
            reader.add(
                Mark(source), f"metrics.{key}.features", f"no extractor {features!r} in this protocol; there are: {names}"
            )
    reader.finish()
    return Protocol(name, source, settings, uses, scored, tuple(reader.missing))


def _fetch(reference: str, host: Host, what: str) -> tuple[str, str, str]:
    """(name, source for messages, text)."""
    path = Path(reference).expanduser()
    if path.suffix.lower() in YAML or path.is_file():
        try:
            return path.stem, str(path), read_text(path)
        except Refused as refused:
            raise RecipeError([refused.problem]) from None
    preset: Preset = host.suite(reference) if what == "suite" else host.protocol(reference)
    return preset.name, f"{what}:{preset.name}", preset.read()


def _locate(key: str, file: str, places: Sequence[str]) -> Path | None:
    for place in places:
        name, equals, path = place.partition("=")
        if equals and name == key:
            return Path(path).expanduser().absolute()
        if not equals and (found := Path(place).expanduser() / file).exists():
            return found.absolute()
    return None


def _with_file(node: Node, name: str, path: Path) -> Node:
    node = with_use(node)
    if not isinstance(node, MapNode):
        return node
    here = Mark("--weights")
    return MapNode(node.mark, {**node.entries, name: Entry(here, Scalar(str(path), here, quoted=True))})


@dataclass
class _Reader:
    """``lenient``: a component that is not installed is noted in ``missing`` and is no mistake of the file."""

    host: Host
    source: str
    lenient: bool = False
    problems: list[Problem] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, mark: Mark, key: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(mark, key, message, hint))

    def finish(self) -> None:
        if self.problems:
            raise RecipeError(self.problems)

    def top(self, text: str) -> dict[str, Entry]:
        try:
            node = parse(text, self.source, self.problems)
        except Refused as refused:
            raise RecipeError([refused.problem]) from None
        if not isinstance(node, MapNode):
            raise RecipeError([Problem(Mark(self.source, 1, 1), "", "expected 'key: value' lines")])
        return dict(node.entries)

    def named(self, section: str, entry: Entry | None) -> list[tuple[str, Node]]:
        """The entries of a mapping NAME -> component; a list of names is understood too."""
        if entry is None or (isinstance(entry.node, Scalar) and entry.node.is_null):
            return []
        if isinstance(entry.node, MapNode):
            return [(key, inner.node) for key, inner in entry.node.entries.items()]
        if isinstance(entry.node, ListNode) and all(isinstance(item, Scalar) for item in entry.node.items):
            return [(item.text, item) for item in entry.node.items if isinstance(item, Scalar)]
        problem = Problem(entry.node.mark, section, f"expected NAME: {{use: ...}} lines, got {shown(entry.node)}")
        if problem not in self.problems:
            self.problems.append(problem)
        return []

    def component(self, key: str, kind: str, node: Node) -> Use | None:
        use = node.get("use") if isinstance(node, MapNode) else None
        if not isinstance(node, MapNode) or not isinstance(use, Scalar) or use.is_null:
            names = ", ".join(self.host.registry.names(kind)) or "none"
            self.add(node.mark, key, f"expected a component {{use: NAME, ...}}, got {shown(node)}", f"available: {names}")
            return None
        try:
            component = self.host.component(kind, use.text)
        except UnknownComponentError as error:
            if self.lenient:
                self.missing.append(f"{key}: {error.message}" + (f" ({error.hint.splitlines()[0]})" if error.hint else ""))
            else:
                self.add(use.mark, f"{key}.use", error.message, error.hint)
            return None
        except CtgenError as error:
            self.add(use.mark, f"{key}.use", error.message, error.hint)
            return None
        fields = {name: entry for name, entry in node.entries.items() if name != "use"}
        config = self.model(key, component.config, fields, node.mark)
        return None if config is None else Use(kind, use.text, component.plugin, config)

    def model(self, key: str, model: type[M], entries: Mapping[str, Entry], mark: Mark | None = None) -> M | None:
        node = MapNode(mark or Mark(self.source, 1, 1), dict(entries))
        try:
            return model.model_validate(to_python(node, model))
        except ValidationError as error:
            self.problems.extend(problems_of(error, key, node, model))
            return None

    def with_fields(self, node: Node, words: Sequence[str]) -> Node:
        """``node`` with FIELD=VALUE words over it."""
        if not words or not isinstance(node, MapNode):
            return node
        entries = dict(node.entries)
        for word in words:
            key, equals, text = word.partition("=")
            here = Mark("--data")
            if not equals:
                self.add(here, "data", f"expected FIELD=VALUE, got {word!r}", "write --data root=FOLDER")
                continue
            try:
                value = parse(text, "--data", self.problems, at=here)
            except Refused as refused:
                self.problems.append(refused.problem)
                continue
            entries[key] = Entry(here, value if value is not None else Scalar("", here))
        return MapNode(node.mark, entries)

    def generators(self, entry: Entry | None) -> dict[str, dict[str, Any]]:
        """Fields of generator components; the component may come from a plugin that is not installed."""
        found: dict[str, dict[str, Any]] = {}
        for name, node in self.named("generators", entry):
            plugin_has_it = name in self.host.registry.names("generator")
            wanted = self.host.component("generator", name).config if plugin_has_it else dict[str, Any]
            value = to_python(node, wanted)
            if isinstance(value, dict):
                found[name] = value
            else:
                self.add(node.mark, f"generators.{name}", f"expected a mapping of fields, got {shown(node)}")
        return found
