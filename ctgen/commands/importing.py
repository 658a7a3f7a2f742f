"""Words of ``ctgen data import`` that need more than a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ctgen.errors import ConfigError, Problem, did_you_mean

if TYPE_CHECKING:
    from ctgen.dicom.config import DicomReading


def parse_reading(words: Sequence[str]) -> DicomReading:
    """``gaps=resample kernels=[B30f]`` by the types of the fields, as in a recipe; ConfigError names every mistake."""
    from ctgen.dicom.config import DicomReading
    from ctgen.recipe.source import Refused, parse
    from ctgen.recipe.values import to_python

    fields = DicomReading.model_fields
    problems: list[Problem] = []
    mistakes: list[str] = []
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            mistakes.append(f"{word!r} is no key=value")
        elif key not in fields:
            mistakes.append(f"no field named {key!r}; {did_you_mean(key, fields)}".rstrip("; "))
        else:
            try:
                node = parse(text, "command line", problems)
            except Refused as refused:
                mistakes.append(f"{key}: {text!r} {refused.problem.message}")
                continue
            values[key] = None if node is None else to_python(node, fields[key].annotation)
    mistakes += [str(problem) for problem in problems]
    if not mistakes:
        try:
            return DicomReading.model_validate(values)
        except ValidationError as error:
            mistakes = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
    raise ConfigError("\n".join(mistakes), hint=f"fields: {', '.join(fields)}")
