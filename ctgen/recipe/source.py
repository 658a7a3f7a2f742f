"""YAML text -> a tree of nodes that remember where they stand. Values stay raw text; their type is the reader's business.

A recipe is data and nothing else: tags (``!!python/...``), anchors and aliases are refused here, before anything is made of
them.
PyYAML's own values are not used, because it reads ``1e-4`` as a string and ``no`` as False whatever the field wants.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from ctgen.errors import Mark, Problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
NO_ALIAS = "write the value out, or use extends:"
NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True)
class Scalar:
    """``text`` as written, without quotes; ``quoted`` scalars are always text."""

    text: str
    mark: Mark
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        return not self.quoted and self.text in NULLS


@dataclass(frozen=True)
class Entry:
    """One ``key: value`` of a mapping; ``mark`` is the key's place."""

    mark: Mark
    node: Node


@dataclass(frozen=True)
class MapNode:
    mark: Mark
    entries: dict[str, Entry] = field(default_factory=dict)

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry.node if entry else None


@dataclass(frozen=True)
class ListNode:
    mark: Mark
    items: tuple[Node, ...] = ()


Node: TypeAlias = Scalar | MapNode | ListNode


class Refused(Exception):
    """The text cannot be read any further; carries the one problem that says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_text(path: Path, *, shown: str | None = None) -> str:
    """A recipe file's text, or Refused: absent, a folder, too large for a recipe, not UTF-8."""
    mark = Mark(shown or str(path))
    if path.is_dir():
        inside = path / "recipe.yaml"
        hint = f"did you mean {inside}?" if inside.is_file() else "give the path of a .yaml file or preset:NAME"
        raise Refused(Problem(mark, "", "is a folder, not a recipe file", hint))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refused(Problem(mark, "", f"has {path.stat().st_size} bytes; a recipe has at most {MAX_BYTES}"))
        content = path.read_bytes()
    except FileNotFoundError:
        raise Refused(Problem(mark, "", "no such file", _nearby(path))) from None
    except OSError as error:
        raise Refused(Problem(mark, "", f"cannot be read: {error.strerror or error}")) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        at = Mark(mark.source, line, column)
        message = f"is not UTF-8 text (byte 0x{content[error.start]:02x})"
        raise Refused(Problem(at, "", message, "save the file as UTF-8")) from None


def parse(text: str, source: str, problems: list[Problem], *, at: Mark | None = None) -> Node | None:
    """The document's root node, or None if it is empty.

    Duplicate keys, tags, anchors and keys that are no plain words are added to ``problems`` and reading goes on; text that is
    no YAML is Refused. ``at`` replaces every mark (a value given on the command line has no line of its own).
    """
    builder = _Builder(source, problems, at)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        where = builder.mark(error.problem_mark or error.context_mark)
        hint = _yaml_hint(error)
        raise Refused(Problem(where, "", f"is not valid YAML: {error.problem or error.context}", hint)) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        where = at or Mark(source, before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"is not valid YAML: character U+{ord(text[error.position]):04X} is not allowed"
        raise Refused(Problem(where, "", message)) from None
    return builder.root


def natural(scalar: Scalar) -> Any:
    """The value a person means where a field takes several types: null, true/false, whole number, number, or text."""
    if scalar.quoted:
        return scalar.text
    if scalar.is_null:
        return None
    if scalar.text in ("true", "True", "false", "False"):
        return scalar.text in ("true", "True")
    for convert in (int, float):
        try:
            # Underscores are legal in Python numbers but nobody means one in a name such as 1_2.
            if "_" not in scalar.text:
                return convert(special_float(scalar.text))
        except ValueError:
            continue
    return scalar.text


def special_float(text: str) -> str:
    """YAML's ``.inf`` and ``.nan`` as Python spells them; a bare ``nan`` or ``inf`` is text, not a number."""
    bare = text.lstrip("+-").lower()
    if bare in (".inf", ".nan"):
        return text.replace(".", "", 1)
    if bare in ("inf", "nan", "infinity"):
        return "text"
    return text


class _Builder:
    """Parser events -> nodes, with a stack instead of recursion so that deep nesting is an error and not a crash."""

    def __init__(self, source: str, problems: list[Problem], at: Mark | None) -> None:
        self.source, self.problems, self.at = source, problems, at
        self.root: Node | None = None
        self._documents = 0
        self._stack: list[_Open] = []

    def mark(self, mark: Any) -> Mark:
        if self.at is not None:
            return self.at
        return Mark(self.source, mark.line + 1, mark.column + 1) if mark is not None else Mark(self.source)

    def take(self, event: yaml.Event) -> None:
        where = self.mark(event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents == 2:
                raise Refused(Problem(where, "", "a second document begins here; a recipe is one document", "remove the '---'"))
        elif isinstance(event, yaml.AliasEvent):
            self._refuse(where, f"alias '*{event.anchor}' is not allowed in a recipe", NO_ALIAS)
            self._add(Scalar("", where))
        elif isinstance(event, yaml.NodeEvent):
            tag = getattr(event, "tag", None)
            if tag not in (None, "!"):
                written = tag.replace("tag:yaml.org,2002:", "!!", 1)
                self._refuse(where, f"tag {written!r} is not allowed in a recipe", "a recipe holds plain values, never code")
            if event.anchor:
                self._refuse(where, f"anchor '&{event.anchor}' is not allowed in a recipe", NO_ALIAS)
            if isinstance(event, yaml.ScalarEvent):
                self._add(Scalar(event.value, where, quoted=event.style is not None))
            else:
                if len(self._stack) >= MAX_DEPTH:
                    raise Refused(Problem(where, "", f"is nested deeper than {MAX_DEPTH} levels"))
                self._stack.append(_Open(where, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            top = self._stack.pop()
            self._add(MapNode(top.mark, top.entries) if top.mapping else ListNode(top.mark, tuple(top.items)))

    def _refuse(self, where: Mark, message: str, hint: str) -> None:
        self.problems.append(Problem(where, self._path(), message, hint))

    def _path(self) -> str:
        return ".".join(open_.key.text for open_ in self._stack if open_.key is not None)

    def _add(self, node: Node) -> None:
        if not self._stack:
            self.root = None if isinstance(node, Scalar) and node.is_null else node
            return
        top = self._stack[-1]
        if not top.mapping:
            top.items.append(node)
        elif top.key is None:
            if not isinstance(node, Scalar):
                self.problems.append(Problem(node.mark, self._path(), "a key must be a plain word, not a list or a mapping"))
                node = Scalar(f"key at {node.mark.line}:{node.mark.column}", node.mark)
            top.key = node
        else:
            key, top.key = top.key, None
            first = top.entries.get(key.text)
            if first is None:
                top.entries[key.text] = Entry(key.mark, node)
                return
            dotted = f"{self._path()}.{key.text}".lstrip(".")
            place = f"line {first.mark.line}" if first.mark.line else "before"
            self.problems.append(Problem(key.mark, dotted, f"duplicate key; first given at {place}", "remove one of the two"))


@dataclass
class _Open:
    """A list or mapping whose end has not been seen; ``key`` waits for its value."""

    mark: Mark
    mapping: bool
    entries: dict[str, Entry] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    key: Scalar | None = None


def _yaml_hint(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "\\t" in problem:
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return "quote values that contain ': '"
    if "expected ',' or" in problem:
        return "a bracket or brace is not closed"
    return ""


def _nearby(path: Path) -> str:
    from ctgen.errors import did_you_mean

    try:
        near = did_you_mean(path.name, [found.name for found in path.parent.iterdir() if found.suffix in (".yaml", ".yml")])
    except OSError:
        return f"the folder {path.parent} does not exist either"
    return near or "ctgen ls presets lists the recipes that plugins ship"
