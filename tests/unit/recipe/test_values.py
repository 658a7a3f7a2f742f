"""Raw text to the type that a field declares."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from ctgen.recipe.source import parse
from ctgen.recipe.values import to_python, type_name


class Colour(Enum):
    RED = "red"
    ONE = 1


class Inner(BaseModel):
    rate: float = 0.0
    name: str = ""


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("1e-4", float, 1e-4),
        ("1", float, 1.0),
        (".inf", float, float("inf")),
        ("1e-4", str, "1e-4"),
        ("no", str, "no"),
        ("no", bool, False),
        ("No", bool, False),
        ("on", bool, True),
        ("1", bool, True),
        ("no", Literal["no", "bf16"], "no"),
        ("010", int, 10),
        ("1.5", int, "1.5"),
        ("12", str, "12"),
        ("2024-01-01", str, "2024-01-01"),
        ("1:30", str, "1:30"),
        ("12", int | str, 12),
        ("'12'", int | str, "12"),
        ("12a", int | str, "12a"),
        ("yes", bool | str, "yes"),
        ("true", bool | str, True),
        ("3", float | str, 3),
        ("auto", float | Literal["auto"], "auto"),
        ("3", Literal["case"] | Annotated[int, Field(ge=1)], 3),
        ("x", Path, "x"),
        ("null", Optional[str], None),  # noqa: UP045
        ("'null'", str | None, "null"),
        ("red", Colour, "red"),
        ("1", Colour, 1),
        ("2", Literal[1, 2], 2),
        ("[1, 2]", tuple[int, float], [1, 2.0]),
        ("[1, no]", tuple[str, ...], ["1", "no"]),
        ("[1e-4, no]", list[Any], [1e-4, "no"]),
        ("{a: 1e-4}", dict[str, float], {"a": 1e-4}),
        ("{rate: 1e-4, name: no, other: 3}", Inner, {"rate": 1e-4, "name": "no", "other": 3}),
        ("{rate: 1}", Inner | None, {"rate": 1.0}),
        ("[{rate: 1, name: 2}]", list[Inner], [{"rate": 1.0, "name": "2"}]),
        ("[[1, 2], [3]]", tuple[tuple[int, ...], ...], [[1, 2], [3]]),
    ],
)
def test_the_field_decides_what_the_text_means(text, annotation, value):
    found = to_python(parse(text, "r.yaml", []), annotation) if text != "null" else to_python(_null(), annotation)
    assert found == value
    assert type(found) is type(value)


def _null():
    return parse("a: null", "r.yaml", []).get("a")


def test_type_names_for_the_reference():
    assert type_name(tuple[int, float]) == "[whole number, number]"
    assert type_name(Literal["a", "b"] | Annotated[int, Field(ge=1)]) == "`a` or `b` or whole number"
    assert type_name(Optional[list[str]]) == "[text, ...] or nothing"  # noqa: UP045
    assert type_name(dict[str, float]) == "mapping to number"
