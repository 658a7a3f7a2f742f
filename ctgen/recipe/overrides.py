"""``key=value`` from the command line as the topmost layer of a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctgen.errors import Mark, Problem
from ctgen.host import Host
from ctgen.recipe.merge import merge, normalise, overlay, uses_another, with_use
from ctgen.recipe.source import Entry, ListNode, MapNode, Node, Refused, Scalar, parse

COMMAND_LINE = Mark("command line")


def _split(override: str) -> tuple[list[str], str] | None:
    key, equals, value = override.partition("=")
    path = key.strip().split(".")
    return (path, value) if equals and all(path) else None


def _is_metric_item(path: Sequence[str]) -> bool:
    return len(path) > 1 and path[0] == "metrics"


def _value(path: Sequence[str], text: str, problems: list[Problem]) -> Node | None:
    """The node that ``text`` stands for, with the command line as its place; None after a problem."""
    try:
        node = parse(text, COMMAND_LINE.source, problems, at=COMMAND_LINE)
    except Refused as refused:
        problems.append(Problem(COMMAND_LINE, ".".join(path), f"{text!r} {refused.problem.message}", refused.problem.hint))
        return None
    return node if node is not None else Scalar("null", COMMAND_LINE)


def _nested(path: Sequence[str], node: Node) -> MapNode:
    for key in reversed(path):
        node = MapNode(COMMAND_LINE, {key: Entry(COMMAND_LINE, node)})
    assert isinstance(node, MapNode)
    return node


def layer_of(overrides: Sequence[str], problems: list[Problem], host: Host) -> MapNode:
    """All overrides except those inside ``metrics``, as one layer."""
    parsed = []
    for override in overrides:
        split = _split(override)
        if split is None:
            hint = "write section.key=value, as in train.steps=10"
            problems.append(Problem(COMMAND_LINE, "", f"{override!r} is not an override", hint))
        elif split[0][0] == "extends":
            hint = "write it in the recipe"
            problems.append(Problem(COMMAND_LINE, "extends", "cannot be given on the command line", hint))
        elif not _is_metric_item(split[0]):
            parsed.append(split)
    # What chooses a component comes first, so that the order of the words on the command line does not matter.
    parsed.sort(key=lambda item: (len(item[0]) > 1, item[0][-1] != "use"))
    layer = MapNode(COMMAND_LINE)
    for path, text in parsed:
        node = _value(path, text, problems)
        if node is not None:
            layer = merge(layer, normalise(_nested(path, node)), host)
    return layer


def override_metrics(root: MapNode, overrides: Sequence[str], problems: list[Problem], host: Host) -> MapNode:
    """``metrics.0.use=...``: overrides inside the list, after lists themselves have been decided."""
    chosen = [split for override in overrides if (split := _split(override)) and _is_metric_item(split[0])]
    chosen.sort(key=lambda item: (len(item[0]) > 2, item[0][-1] != "use"))
    for path, text in chosen:
        metrics = root.get("metrics")
        items = list(metrics.items) if isinstance(metrics, ListNode) else []
        if not re.fullmatch("[0-9]+", path[1]) or int(path[1]) >= len(items):
            have = f"this recipe has metrics.0 to metrics.{len(items) - 1}" if items else "this recipe has no metrics"
            problems.append(Problem(COMMAND_LINE, ".".join(path), "no such metric", f"{have}; metrics=[...] replaces the list"))
            continue
        node = _value(path, text, problems)
        if node is None:
            continue
        index = int(path[1])
        patch = with_use(_nested(path[2:], node) if path[2:] else node)
        before = items[index]
        if isinstance(before, MapNode) and isinstance(patch, MapNode) and not uses_another(before, patch, "metric", host):
            patch = overlay(before, patch)
        items[index] = patch
        entry = root.entries["metrics"]
        root = MapNode(root.mark, {**root.entries, "metrics": Entry(entry.mark, ListNode(entry.node.mark, tuple(items)))})
    return root
