"""A resolved recipe as YAML text that reads back to the same values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from ctgen.errors import Mark
from ctgen.recipe.source import Scalar, natural


class _Dumper(yaml.SafeDumper):
    """Sections as blocks, lists of plain values on one line, text quoted wherever it could be taken for something else."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    plain = natural(Scalar(value, Mark("")))
    style = None if isinstance(plain, str) and plain == value else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    # repr is the shortest text that reads back to the same bits; YAML 1.1 knows 1e-05 as a number only with a point.
    text = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e", 1)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


def _list(dumper: yaml.SafeDumper, value: Sequence[Any]) -> yaml.Node:
    flow = not any(isinstance(item, dict | list | tuple) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(float, _number)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(tuple, _list)
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign, assignment]


def dump(resolved: dict[str, Any]) -> str:
    """``resolved`` as block YAML in its own order."""
    return yaml.dump(resolved, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
