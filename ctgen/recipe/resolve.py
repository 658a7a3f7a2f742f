"""Layers of a recipe into one tree: what it extends, itself, then ``key=value`` from the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ctgen.errors import CtgenError, Mark, Problem
from ctgen.host import Host
from ctgen.recipe.merge import merge, normalise
from ctgen.recipe.model import DEFAULT, SECTIONS
from ctgen.recipe.overrides import layer_of, override_metrics
from ctgen.recipe.source import ListNode, MapNode, Node, Refused, Scalar, parse, read_text

PRESET = "preset:"


@dataclass
class Resolved:
    """One tree whose nodes still carry the marks of the file (or command line) that set them."""

    name: str
    source: str
    """The recipe as the user named it: a path or preset:NAME."""
    root: MapNode
    sources: list[str] = field(default_factory=list)
    """Every file read, the recipe itself first."""
    problems: list[Problem] = field(default_factory=list)
    name_mark: Mark = DEFAULT
    complete: bool = True
    """False if a layer could not be read: what seems to be missing may have been in it."""


def resolve(recipe: str | Path, overrides: Sequence[str], host: Host) -> Resolved:
    """Read ``recipe`` and what it extends, apply ``overrides``. Problems are collected, not raised."""
    shown = str(recipe)
    resolved = Resolved(_default_name(shown), shown, MapNode(Mark(shown, 1, 1)))
    layers = _Layers(host, resolved)
    root = layers.read(shown)
    root = merge(root, layer_of(overrides, resolved.problems, host), host)
    root = override_metrics(root, overrides, resolved.problems, host)
    entries = dict(root.entries)
    named = entries.pop("name", None)
    if named is not None:
        resolved.name, resolved.name_mark = _checked_name(named.node, resolved), named.node.mark
    resolved.root = MapNode(Mark(shown, 1, 1), entries)
    return resolved


class _Layers:
    """Follows ``extends`` from the recipe to its oldest ancestor."""

    def __init__(self, host: Host, resolved: Resolved) -> None:
        self.host, self.resolved = host, resolved
        self._chain: list[tuple[str, str]] = []

    def read(self, reference: str) -> MapNode:
        """The recipe that the user named, with its ancestors merged under it."""
        try:
            identity, shown, text = self._fetch(reference)
        except Refused as refused:
            return self._give_up(refused.problem)
        return self._layer(identity, shown, text)

    def _fetch(self, reference: str) -> tuple[str, str, str]:
        """(identity, name for messages, text)."""
        if reference.startswith(PRESET):
            try:
                preset = self.host.preset(reference.removeprefix(PRESET))
                return f"{PRESET}{preset.plugin}:{preset.name}", f"{PRESET}{preset.name}", preset.read()
            except CtgenError as error:
                raise Refused(Problem(Mark(reference), "", error.message, error.hint)) from None
            except (OSError, ModuleNotFoundError, UnicodeDecodeError) as error:
                message = f"the plugin's file cannot be read: {type(error).__name__}: {error}"
                raise Refused(Problem(Mark(reference), "", message, "this is a defect of the plugin")) from None
        path = Path(reference).expanduser()
        return str(path.resolve()), str(path), read_text(path)

    def _layer(self, identity: str, shown: str, text: str) -> MapNode:
        self.resolved.sources.append(shown)
        self._chain.append((identity, shown))
        try:
            node = parse(text, shown, self.resolved.problems)
        except Refused as refused:
            return self._give_up(refused.problem)
        if node is None:
            return self._give_up(Problem(Mark(shown, 1, 1), "", "is empty", f"a recipe has sections: {', '.join(SECTIONS)}"))
        if not isinstance(node, MapNode):
            what = "a list" if isinstance(node, ListNode) else "text"
            return self._give_up(Problem(node.mark, "", f"expected 'section: ...' lines, got {what}"))
        entries = dict(normalise(node).entries)
        extends = entries.pop("extends", None)
        own = MapNode(node.mark, entries)
        return merge(self._ancestor(extends.node, shown), own, self.host) if extends else own

    def _ancestor(self, node: Node, child: str) -> MapNode:
        if not isinstance(node, Scalar) or node.is_null:
            return self._give_up(Problem(node.mark, "extends", "expected one path or preset:NAME"))
        reference = node.text
        if not reference.startswith(PRESET):
            if child.startswith(PRESET):
                return self._give_up(Problem(node.mark, "extends", "a preset can extend only another preset (preset:NAME)"))
            reference = os.path.normpath(Path(child).expanduser().parent / Path(reference).expanduser())
        try:
            identity, shown, text = self._fetch(reference)
        except Refused as refused:
            at_fault = refused.problem
            return self._give_up(Problem(node.mark, "extends", f"{at_fault.mark}: {at_fault.message}", at_fault.hint))
        known = [seen for seen, _ in self._chain]
        if identity in known:
            chain = " -> ".join([name for _, name in self._chain[known.index(identity) :]] + [shown])
            return self._give_up(Problem(node.mark, "extends", f"goes round in a circle: {chain}"))
        # The parent is read without its own mapping of overrides or name: a recipe's name is its own.
        merged = self._layer(identity, shown, text)
        return MapNode(merged.mark, {key: entry for key, entry in merged.entries.items() if key != "name"})

    def _give_up(self, problem: Problem) -> MapNode:
        self.resolved.problems.append(problem)
        self.resolved.complete = False
        return MapNode(Mark(self.resolved.source, 1, 1))


def _default_name(shown: str) -> str:
    name = shown.removeprefix(PRESET).rpartition(":")[2] if shown.startswith(PRESET) else Path(shown).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "recipe"


def _checked_name(node: Node, resolved: Resolved) -> str:
    if isinstance(node, Scalar) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", node.text):
        return node.text
    message = "expected a short name of letters, digits, '.', '_' and '-' (folders are named after it)"
    resolved.problems.append(Problem(node.mark, "name", message))
    return resolved.name
