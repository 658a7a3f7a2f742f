"""One layer of a recipe over another."""

from __future__ import annotations

from ctgen.errors import CtgenError
from ctgen.host import Host
from ctgen.recipe.model import COMPONENT_SECTIONS, SEVERAL
from ctgen.recipe.source import Entry, ListNode, MapNode, Node, Scalar


def normalise(root: MapNode) -> MapNode:
    """Bare component names become ``{use: NAME}``, so that later steps see one form."""
    entries = dict(root.entries)
    for section, entry in root.entries.items():
        if section == "metrics" and isinstance(entry.node, ListNode):
            entries[section] = Entry(entry.mark, ListNode(entry.node.mark, tuple(map(with_use, entry.node.items))))
        elif section == "extractors" and isinstance(entry.node, MapNode):
            named = {key: Entry(below.mark, with_use(below.node)) for key, below in entry.node.entries.items()}
            entries[section] = Entry(entry.mark, MapNode(entry.node.mark, named))
        elif section in COMPONENT_SECTIONS and section not in SEVERAL:
            entries[section] = Entry(entry.mark, with_use(entry.node))
    return MapNode(root.mark, entries)


def with_use(node: Node) -> Node:
    if isinstance(node, Scalar) and not node.is_null:
        return MapNode(node.mark, {"use": Entry(node.mark, node)})
    return node


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null


def merge(parent: MapNode, child: MapNode, host: Host) -> MapNode:
    """``child`` over ``parent``, section by section.

    If a section's ``use`` changes, the parent's other keys of that section are dropped: they belong to another component.
    """
    entries = dict(parent.entries)
    for section, entry in child.entries.items():
        before = parent.get(section)
        kind = COMPONENT_SECTIONS.get(section)
        if isinstance(before, MapNode) and isinstance(entry.node, MapNode):
            if section == "extractors" and kind:
                entries[section] = Entry(entry.mark, merge_named(before, entry.node, kind, host))
            elif kind and uses_another(before, entry.node, kind, host):
                entries[section] = entry
            else:
                entries[section] = Entry(entry.mark, overlay(before, entry.node))
        elif before is not None and kind is None and is_null(entry.node):
            continue  # A settings section with nothing in it sets nothing.
        else:
            entries[section] = entry
    return MapNode(parent.mark, entries)


def merge_named(parent: MapNode, child: MapNode, kind: str, host: Host) -> MapNode:
    """Components by key: each over the one of the same key; null takes a key away."""
    entries = dict(parent.entries)
    for key, entry in child.entries.items():
        before = parent.get(key)
        if is_null(entry.node):
            entries.pop(key, None)
        elif (
            isinstance(before, MapNode) and isinstance(entry.node, MapNode) and not uses_another(before, entry.node, kind, host)
        ):
            entries[key] = Entry(entry.mark, overlay(before, entry.node))
        else:
            entries[key] = entry
    return MapNode(child.mark, entries)


def overlay(parent: MapNode, child: MapNode) -> MapNode:
    entries = dict(parent.entries)
    for key, entry in child.entries.items():
        before = parent.get(key)
        both = isinstance(before, MapNode) and isinstance(entry.node, MapNode)
        entries[key] = Entry(entry.mark, overlay(before, entry.node)) if both else entry  # type: ignore[arg-type]
    return MapNode(child.mark, entries)


def uses_another(parent: MapNode, child: MapNode, kind: str, host: Host) -> bool:
    before, after = parent.get("use"), child.get("use")
    if not isinstance(before, Scalar) or not isinstance(after, Scalar) or before.text == after.text:
        return False
    try:
        return host.component(kind, before.text) != host.component(kind, after.text)
    except CtgenError:
        return True
