"""Where each leaf of a resolved recipe came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ctgen.errors import Mark
from ctgen.recipe.model import DEFAULT
from ctgen.recipe.source import ListNode, MapNode, Node


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted leaves of a resolved recipe: lists of sections are entered by index, other lists are leaves."""
    found: dict[str, Any] = {}
    if isinstance(value, dict) and (value or not prefix):
        for key, below in value.items():
            found.update(flat(below, f"{prefix}.{key}" if prefix else key))
    elif prefix == "metrics":
        for index, below in enumerate(value):
            found.update(flat(below, f"{prefix}.{index}"))
    else:
        found[prefix] = value
    return found


def origins(root: MapNode, leaves: Iterable[str]) -> dict[str, Mark]:
    """For each dotted leaf of a resolved recipe: the mark of the node that set it, or of nothing ("default")."""
    return {leaf: _origin(root, leaf.split(".")) for leaf in leaves}


def _origin(node: Node, path: Sequence[str]) -> Mark:
    for part in path:
        below: Node | None = None
        if isinstance(node, MapNode):
            below = node.get(part)
        elif isinstance(node, ListNode):
            below = node.items[int(part)] if part.isdigit() and int(part) < len(node.items) else None
        if below is None:
            return DEFAULT
        node = below
    return node.mark
