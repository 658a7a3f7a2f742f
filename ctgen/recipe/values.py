"""Nodes -> Python values for the type that a field declares."""

from __future__ import annotations

import types
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from ctgen.recipe.source import ListNode, MapNode, Node, Scalar, natural, special_float

_TRUE = frozenset({"true", "yes", "on", "1", "y", "t"})
_FALSE = frozenset({"false", "no", "off", "0", "n", "f"})


def to_python(node: Node, annotation: Any) -> Any:
    """What ``node`` means where ``annotation`` is wanted; text that does not fit is left for pydantic to refuse."""
    wanted = _plain_type(annotation)
    if isinstance(node, MapNode):
        return _mapping(node, wanted)
    if isinstance(node, ListNode):
        return _list(node, wanted)
    return _scalar(node, wanted)


def _plain_type(annotation: Any) -> Any:
    """Without Annotated, type aliases and NewType."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__value__") and not isinstance(annotation, type):
            annotation = annotation.__value__
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        else:
            return annotation


def _members(wanted: Any) -> list[Any]:
    """The alternatives of a union without None; a single type is its only alternative."""
    if get_origin(wanted) in (Union, types.UnionType):
        return [_plain_type(member) for member in get_args(wanted) if member is not type(None)]
    return [wanted]


def _is_model(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, BaseModel)


def _mapping(node: MapNode, wanted: Any) -> dict[str, Any]:
    for member in _members(wanted):
        if _is_model(member):
            fields = member.model_fields
            return {
                key: to_python(entry.node, fields[key].annotation if key in fields else Any)
                for key, entry in node.entries.items()
            }
        arguments = get_args(member)
        if isinstance(get_origin(member), type) and len(arguments) == 2 and get_origin(member) is not tuple:
            return {key: to_python(entry.node, arguments[1]) for key, entry in node.entries.items()}
    return {key: to_python(entry.node, Any) for key, entry in node.entries.items()}


def _list(node: ListNode, wanted: Any) -> list[Any]:
    for member in _members(wanted):
        arguments = get_args(member)
        if get_origin(member) is tuple and arguments and arguments[-1] is not Ellipsis:
            kinds = [*arguments, *[Any] * len(node.items)]
            return [to_python(item, kind) for item, kind in zip(node.items, kinds, strict=False)]
        if isinstance(get_origin(member), type) and arguments and get_origin(member) not in (dict, types.UnionType):
            return [to_python(item, arguments[0]) for item in node.items]
    return [to_python(item, Any) for item in node.items]


def _scalar(node: Scalar, wanted: Any) -> Any:
    if node.is_null:
        return None
    members = _members(wanted)
    if len(members) == 1:
        return _as(node, members[0])
    meant = natural(node)
    for member in members:
        if _choice(node, member) is not None:
            return _choice(node, member)
    # bool is an int to Python, not to a person.
    kind = type(meant)
    if kind in members or (kind is int and float in members):
        return meant
    return node.text


def _as(node: Scalar, wanted: Any) -> Any:
    if wanted is str or wanted is Path:
        return node.text
    if wanted is bool:
        lower = node.text.lower()
        return True if lower in _TRUE else False if lower in _FALSE else node.text
    if wanted is int or wanted is float:
        try:
            return wanted(special_float(node.text)) if "_" not in node.text else node.text
        except ValueError:
            return node.text
    if get_origin(wanted) is Literal or (isinstance(wanted, type) and issubclass(wanted, Enum)):
        choice = _choice(node, wanted)
        return node.text if choice is None else choice
    if wanted is Any or wanted is object:
        return natural(node)
    return node.text if isinstance(wanted, type) else natural(node)


def _choice(node: Scalar, wanted: Any) -> Any:
    """The member of a Literal or Enum that ``node`` names, or None."""
    if get_origin(wanted) is Literal:
        choices = get_args(wanted)
    elif isinstance(wanted, type) and issubclass(wanted, Enum):
        choices = tuple(member.value for member in wanted)
    else:
        return None
    if node.text in [choice for choice in choices if isinstance(choice, str)]:
        return node.text
    meant = natural(node)
    return next((choice for choice in choices if type(choice) is type(meant) and choice == meant), None)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type names, directly or as an alternative."""
    return [member for member in _members(_plain_type(annotation)) if _is_model(member)]


def type_name(annotation: Any) -> str:
    """A type as people write it: "number", "text", "true/false", "[whole number, whole number]"."""
    wanted = _plain_type(annotation)
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        names = [type_name(member) for member in arguments if member is not type(None)]
        return " or ".join([*names, "nothing"] if type(None) in arguments else names)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"[{', '.join(type_name(item) for item in arguments)}]"
    if isinstance(origin, type) and len(arguments) == 2 and origin is not tuple:
        return f"mapping to {type_name(arguments[1])}"
    if isinstance(origin, type) and arguments:
        return f"[{type_name(arguments[0])}, ...]"
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return " or ".join(f"`{member.value}`" for member in wanted)
    known = {int: "whole number", float: "number", str: "text", bool: "true/false", Path: "path"}
    return known.get(wanted) or (wanted.__name__ if isinstance(wanted, type) else "anything")
