"""Whatever a field may hold is read back from the resolved recipe bit for bit."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctgen.recipe.source import MapNode, natural, parse
from ctgen.recipe.values import to_python
from ctgen.recipe.writing import dump

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufeff"), max_size=40)


def read_back(value, annotation):
    problems = []
    root = parse(dump({"section": {"field": value}}), "r.yaml", problems)
    assert not problems and isinstance(root, MapNode)
    return to_python(root.get("section").get("field"), annotation)


@settings(max_examples=150, deadline=None)
@given(PRINTABLE)
@example("no")
@example("1e-4")
@example("null")
@example("~")
@example("")
@example("a: b # c")
@example("line\nbreak\ttab")
@example("- x")
@example("1_000")
@example("'\"\\")
@example("x" * 300 + " " + "y" * 300)
def test_text_comes_back(value):
    assert read_back(value, str) == value
    assert read_back(value, int | float | bool | str) == value
    assert read_back([value], list[str | None]) == [value]
    assert read_back(value, Any) == value


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False))
@example(1e-5)
@example(1e16)
@example(math.inf)
def test_numbers_come_back_bit_for_bit(value):
    found = read_back(value, float)
    assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))
    assert read_back([value], tuple[float, ...]) == [value]
    assert read_back(value, float | str) == value


@pytest.mark.parametrize("value", [True, False, None, 3, [], {}, [1, 2.5], {"a": [True, None]}, [[1], [2]]])
def test_other_values_come_back(value):
    assert read_back(value, Any) == value


def test_other_tools_read_it_too():
    import yaml

    values = {"lr": 1e-05, "text": "no", "size": [1, 2], "nothing": None, "on": True}
    assert yaml.safe_load(dump(values)) == values
    assert natural(parse(dump({"a": "1e-4"}), "r", []).get("a")) == "1e-4"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab :\n[]{}'\"-#,&*!|>%@`?\t~<=.\x00\x85\u2028é"), max_size=60))
def test_any_text_is_read_or_refused_with_a_place(text):
    from ctgen.recipe.source import Refused

    problems = []
    try:
        parse(text, "r.yaml", problems)
    except Refused as refused:
        problems.append(refused.problem)
    assert all(found.mark.line >= 1 and found.mark.column >= 1 for found in problems)
