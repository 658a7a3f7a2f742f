"""docs/recipe-reference.md, from the same models that check recipes."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from ctgen.host import Host
from ctgen.recipe.model import ALWAYS_NEEDED, COMPONENT_SECTIONS, DEFAULT_USE
from ctgen.recipe.schema import components_of, descriptions
from ctgen.recipe.settings import SETTINGS
from ctgen.recipe.values import type_name
from ctgen.registry import Component

HEAD = """\
# Recipe reference

Generated from the models that check recipes; do not edit. To make it again:

```
{command}
```

A recipe is a YAML file of sections. Component sections name a component with `use:` and set its fields beside it; a bare name
(`text_encoder: NAME`) means `use: NAME`. Settings sections belong to a stage. `extends:` starts from another recipe (a path
relative to the file, or `preset:NAME`); `name:` names the run folder. On the command line, `section.key=value` changes
a value. `ctgen show RECIPE` prints every value and where it came from.

Relative paths in fields start at the current folder. A value is read as the type that its field declares: `1e-4` is a number
where a number is wanted, and `no` is text where text is wanted.
"""


def reference(host: Host, *, plugins: Collection[str] | None = None) -> str:
    """The whole page for the host's components, or for those of the named plugins."""
    chosen = " ".join(f"--plugin {name}" for name in sorted(plugins)) + " " if plugins else ""
    parts = [HEAD.format(command=f"ctgen schema --markdown {chosen}-o docs/recipe-reference.md"), "## Component sections\n"]
    components = components_of(host, plugins)
    for section, kind in COMPONENT_SECTIONS.items():
        parts.append(f"### {section}\n\n{_about(section)}\n")
        for component in components:
            if component.kind == kind:
                parts.append(_component(section, component))
    parts.append("## Settings sections\n")
    for section, model in SETTINGS.items():
        parts.append(f"### {section}\n\n{(model.__doc__ or '').strip()}\n")
        parts.append(_table(model, neutral=model.neutral))
    return "\n".join(parts).rstrip() + "\n"


def _about(section: str) -> str:
    if section == "metrics":
        return "A list of metrics; each item is a name or `{use: NAME, ...}`. Optional."
    if section == "extractors":
        return "By keys of your own: `extractors: {KEY: {use: NAME, ...}}`; metrics name them by `features: KEY`. Optional."
    if section in DEFAULT_USE:
        return f"Default: `{DEFAULT_USE[section]}`."
    return "Required." if section in ALWAYS_NEEDED else "Required if the objective needs it."


def _component(section: str, component: Component) -> str:
    summary = f": {component.summary}" if component.summary else ""
    lines = [f"#### {section}: {component.name}\n", f"Plugin `{component.plugin}`{summary}.\n"]
    sections = getattr(component.config, "sections", None)
    if component.kind == "objective" and sections:
        needed = ", ".join(f"`{name}`" for name in COMPONENT_SECTIONS if name in sections)
        lines.append(f"Trains `{getattr(component.config, 'trains', '?')}`; needs {needed}.\n")
    lines.append(_table(component.config, neutral=component.config.neutral))
    return "\n".join(lines)


def _table(model: type[BaseModel], *, neutral: Collection[str]) -> str:
    if not model.model_fields:
        return "No fields.\n"
    texts = descriptions(model)
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        remarks = [_cell(texts.get(name, ""))]
        bounds = _bounds(field)
        if bounds:
            remarks.append(f"({bounds})")
        if name in neutral:
            remarks.append("*Not in fingerprints.*")
        lines.append(
            f"| `{name}` | {_cell(type_name(field.annotation))} | {_default(field)} | {' '.join(filter(None, remarks))} |"
        )
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "**required**"
    value = to_jsonable_python(value)
    if isinstance(value, str) and Path(value).is_absolute():
        # A default that depends on the machine would make the page differ from one machine to the next.
        return "(a path)"
    return f"`{_cell(json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value or repr(value))}`"


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [f"{sign} {getattr(item, name)}" for item in field.metadata for name, sign in signs.items() if hasattr(item, name)]
    return ", ".join(found)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
