"""pydantic's errors in a recipe's words: the place in the file, what was expected, what was found, the nearest choice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ctgen.errors import Mark, Problem, did_you_mean
from ctgen.recipe.source import ListNode, MapNode, Node, Scalar

_EXPECTED: Mapping[str, str] = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list such as [1, 2, 3]",
    "tuple_type": "a list such as [1, 2, 3]",
    "set_type": "a list such as [1, 2, 3]",
    "dict_type": "a mapping such as {key: value}",
    "model_type": "a mapping such as {key: value}",
    "model_attributes_type": "a mapping such as {key: value}",
    "path_type": "a path",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "a value greater than"),
    "greater_than_equal": ("ge", "a value of at least"),
    "less_than": ("lt", "a value less than"),
    "less_than_equal": ("le", "a value of at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}


def problems_of(error: ValidationError, section: str, node: MapNode, model: type[BaseModel]) -> list[Problem]:
    """One problem per place; the alternatives of a union are one problem."""
    grouped: dict[tuple[str, bool], list[tuple[Mapping[str, Any], Mark, Node]]] = {}
    for item in error.errors(include_url=False):
        location = [part for part in item["loc"] if part != "[key]"]
        missing = item["type"] == "missing"
        extra = item["type"] == "extra_forbidden"
        path, mark, found = _find(node, location, key_mark=extra)
        if missing:
            path = [*path, *(str(part) for part in location[len(path) :][:1])]
        grouped.setdefault((".".join([section, *path]), missing or extra), []).append((dict(item), mark, found))
    return [_problem(key, items, model) for (key, _), items in grouped.items()]


def unknown_key(mark: Mark, key: str, word: str, known: Iterable[str]) -> Problem:
    """``word`` is not one of the ``known`` keys."""
    choices = list(known)
    return Problem(mark, key, "unknown key", did_you_mean(word, choices) or f"known here: {', '.join(choices) or 'none'}")


def shown(node: Node) -> str:
    """What was written, for a message."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return f"a list of {len(node.items)}"
    return "nothing" if node.is_null else repr(node.text if len(node.text) <= 60 else f"{node.text[:57]}...")


def _find(node: Node, location: Sequence[int | str], *, key_mark: bool) -> tuple[list[str], Mark, Node]:
    """Walk as far as ``location`` names something that was written; names of union members are passed over."""
    path: list[str] = []
    mark = node.mark
    for part in location:
        if isinstance(node, MapNode) and part in node.entries:
            entry = node.entries[str(part)]
            node, mark = entry.node, entry.mark if key_mark else entry.node.mark
        elif isinstance(node, ListNode) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            mark = node.mark
        else:
            continue
        path.append(str(part))
    return path, mark, node


def _problem(key: str, items: Sequence[tuple[Mapping[str, Any], Mark, Node]], model: type[BaseModel]) -> Problem:
    first, mark, found = items[0]
    if first["type"] == "extra_forbidden":
        word = key.rpartition(".")[2]
        return unknown_key(mark, key, word, _fields_at(model, first["loc"]))
    if first["type"] == "missing":
        before, _, last = key.rpartition(".")
        if last.isdigit():
            return Problem(mark, before, f"too few values, got {shown(found)}")
        return Problem(mark, key, "is required and not given")
    own_words = [_own_message(item) for item, _, _ in items]
    if all(own_words):
        return Problem(mark, key, "; ".join(dict.fromkeys(own_words)))
    expected = list(dict.fromkeys(_expectation(item) for item, _, _ in items))
    choices = [choice for item, _, _ in items for choice in _choices(item)]
    hint = did_you_mean(found.text, choices) if isinstance(found, Scalar) else ""
    return Problem(mark, key, f"expected {' or '.join(expected)}, got {shown(found)}", hint)


def _own_message(item: Mapping[str, Any]) -> str:
    """What a validator of the component itself said, or the empty string."""
    if item["type"] in ("value_error", "assertion_error"):
        return str(item.get("ctx", {}).get("error", item["msg"]))
    return ""


def _expectation(item: Mapping[str, Any]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{words} {context[name]:g}" if isinstance(context[name], float) else f"{words} {context[name]}"
    if kind in ("literal_error", "enum"):
        return str(context["expected"])
    if kind in ("too_long", "too_short"):
        bound = context.get("max_length", context.get("min_length"))
        return f"at {'most' if kind == 'too_long' else 'least'} {bound} values"
    message = str(item["msg"])
    return message.removeprefix("Input should be ").removeprefix("Value error, ")


def _choices(item: Mapping[str, Any]) -> list[str]:
    expected = str(item.get("ctx", {}).get("expected", "")) if item["type"] in ("literal_error", "enum") else ""
    return re.findall(r"'([^']*)'", expected)


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Field names of the model that the unknown key stands in (nested models included)."""
    from ctgen.recipe.values import models_in

    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        below = models_in(field.annotation) if field else []
        if below:
            model = below[0]
    return list(model.model_fields)
