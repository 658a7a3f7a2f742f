"""JSON Schema of recipes with the components of a host, for completion and checks in an editor."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ctgen.host import Host
from ctgen.recipe.model import COMPONENT_SECTIONS
from ctgen.recipe.settings import SETTINGS
from ctgen.registry import Component

Schema = dict[str, Any]


def json_schema(host: Host, *, plugins: Collection[str] | None = None) -> Schema:
    """Draft 2020-12. ``plugins`` limits it to the components of these plugins."""
    components = components_of(host, plugins)
    models: list[type[BaseModel]] = [*SETTINGS.values(), *(component.config for component in components)]
    unique = list(dict.fromkeys(models))
    by_model, defs = models_json_schema([(model, "validation") for model in unique], ref_template="#/$defs/{model}")
    definitions: Schema = defs.get("$defs", {})
    properties: Schema = {
        "extends": {"type": "string", "description": "a recipe to start from: a path relative to this file, or preset:NAME"},
        "name": {"type": "string", "description": "the run folder's name; default: the file's name"},
    }
    resolved = {model: _inlined(by_model[model, "validation"], definitions, model) for model in unique}
    for section, kind in COMPONENT_SECTIONS.items():
        choices = [component for component in components if component.kind == kind]
        one = _component_section(host, choices, resolved)
        if section == "metrics":
            properties[section] = {"type": "array", "items": one}
        elif section == "extractors":
            about = "feature extractors by key; metrics name them in their field features"
            properties[section] = {"type": ["object", "null"], "additionalProperties": one, "description": about}
        else:
            properties[section] = one
    for section, model in SETTINGS.items():
        properties[section] = {**resolved[model], "description": (model.__doc__ or "").strip()}
    used = _referenced(properties, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ctgen recipe",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {name: definitions[name] for name in sorted(used)},
    }


def components_of(host: Host, plugins: Collection[str] | None) -> list[Component]:
    """The host's components, or those of the named plugins."""
    return [component for component in host.registry if plugins is None or component.plugin in plugins]


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Field -> one line about it: pydantic's description, else the string literal below the field in the source."""
    found: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if isinstance(parent, type) and issubclass(parent, BaseModel) and parent is not BaseModel:
            found.update(_docstrings(parent))
    found.update({name: field.description for name, field in model.model_fields.items() if field.description})
    return {name: " ".join(text.split()) for name, text in found.items() if name in model.model_fields}


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    # Read from the source only when a reference is asked for; pydantic's own option would read it at every start.
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, str] = {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for statement, below in pairwise(body):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[statement.target.id] = below.value.value
    return found


def _component_section(host: Host, choices: list[Component], resolved: dict[type[BaseModel], Schema]) -> Schema:
    bare = host.registry.names(choices[0].kind) if choices else []
    names = {component: component.name if component.name in bare else component.qualified for component in choices}
    alternatives: list[Schema] = [{"type": "string", "enum": sorted({*names.values(), *(item.qualified for item in choices)})}]
    for component in choices:
        fields = dict(resolved[component.config])
        use = {"enum": sorted({names[component], component.qualified}), "description": component.summary}
        fields["properties"] = {"use": use, **fields.get("properties", {})}
        fields["required"] = ["use", *fields.get("required", [])]
        alternatives.append({**fields, "title": names[component], "description": component.summary})
    # A recipe that extends another may change fields of a component without naming it again.
    alternatives.append({"type": "object", "not": {"required": ["use"]}, "title": "fields of the extended recipe's component"})
    alternatives.append({"type": "null"})
    return {"anyOf": alternatives}


def _inlined(schema: Schema, definitions: Schema, model: type[BaseModel]) -> Schema:
    """The model's own schema with descriptions, without one step of $ref and without pydantic's titles."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    texts = descriptions(model)
    properties = {}
    for name, field in schema.get("properties", {}).items():
        described = {key: value for key, value in field.items() if key != "title"}
        properties[name] = {**described, "description": texts[name]} if name in texts else described
    return {**{key: value for key, value in schema.items() if key not in ("title", "description")}, "properties": properties}


def _referenced(value: Any, definitions: Schema) -> set[str]:
    """Names of definitions that ``value`` refers to, directly or through others."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            name = str(item.get("$ref", "")).rpartition("/")[2]
            if name in definitions and name not in found:
                found.add(name)
                waiting.append(definitions[name])
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return found
