"""YAML text to nodes with marks."""

from __future__ import annotations

import pytest

from ctgen.recipe.source import MAX_BYTES, ListNode, MapNode, Refused, Scalar, natural, parse, read_text


def parsed(text, source="r.yaml"):
    problems = []
    return parse(text, source, problems), problems


def test_nodes_carry_the_raw_text_and_its_place():
    root, problems = parsed("a: 1e-4\nb: [no, 'no']\nc:\n  d: ~\n")
    assert not problems
    assert root.get("a") == Scalar("1e-4", root.get("a").mark)
    assert str(root.get("a").mark) == "r.yaml:1:4"
    items = root.get("b").items
    assert isinstance(root.get("b"), ListNode) and [item.text for item in items] == ["no", "no"]
    assert [item.quoted for item in items] == [False, True]
    assert isinstance(root.get("c"), MapNode) and root.get("c").get("d").is_null
    assert str(root.get("c").entries["d"].mark) == "r.yaml:4:3"


def test_every_duplicate_key_is_a_problem_and_the_first_value_stays():
    root, problems = parsed("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert [(str(found.mark), found.key) for found in problems] == [("r.yaml:2:11", "b.c"), ("r.yaml:3:1", "a")]
    assert "line 1" in problems[1].message
    assert root.get("a").text == "1"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: !!python/object/apply:os.system ['touch owned']\n", "!!python/object/apply:os.system"),
        ("a: !!python/name:os.system\n", "!!python/name"),
        ("a: !mine 3\n", "!mine"),
        ("a: !!int 3\n", "!!int"),
        ("a: &anchor 3\n", "&anchor"),
        ("a: &anchor [1]\nb: *anchor\n", "*anchor"),
        ("a: &anchor [*anchor]\n", "*anchor"),
    ],
)
def test_tags_anchors_and_aliases_are_refused_in_place(text, word):
    _, problems = parsed(text)
    assert any(word in found.message for found in problems)
    assert all(found.mark.line for found in problems)


def test_the_billion_laughs_do_not_grow():
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    root, problems = parsed("\n".join(lines))
    assert len(problems) == 60 + 2 * 59
    assert len(root.entries) == 60


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1, 2\nb: 3\n", "r.yaml:2", "bracket"),
        ("a:\n\tb: 1\n", "r.yaml:2:1", "tabs"),
        ("a: b: c\n", "r.yaml:1:5", "quote"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2:1", "second document"),
        ("a: \x07\n", "r.yaml:1:4", "U+0007"),
        ("[" * 100, "r.yaml:1:21", "nested deeper"),
        ("a: 'open\n", "r.yaml", "end of stream"),
        ("%YAML 9.9 x\n---\na: 1", "r.yaml:1", ""),
    ],
)
def test_text_that_is_no_yaml_is_one_clear_problem(text, place, words):
    with pytest.raises(Refused) as caught:
        parsed(text)
    assert str(caught.value).startswith(place), str(caught.value)
    assert words in str(caught.value)


def test_a_key_must_be_a_word():
    _, problems = parsed("? [1, 2]\n: 3\n? {a: 1}\n: 4\n")
    assert [found.message for found in problems] == ["a key must be a plain word, not a list or a mapping"] * 2


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "~\n"])
def test_an_empty_document_has_no_root(text):
    assert parsed(text) == (None, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-3", -3), ("010", 10), ("1e-4", 1e-4), (".5", 0.5), ("true", True), ("no", "no"), ("x", "x"), ("~", None),
        ("1_000", "1_000"), ("inf", "inf"), ("nan", "nan"), (".inf", float("inf")), ("-.inf", float("-inf")), ("1.2", 1.2),
    ],
)  # fmt: skip
def test_natural_values(text, value):
    found = natural(Scalar(text, None))
    assert found == value and type(found) is type(value)
    assert natural(Scalar(text, None, quoted=True)) == text


def test_files_that_are_no_recipes(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("name: x\nb: café\n".encode("latin-1"))
    (tmp_path / "huge.yaml").write_bytes(b"a" * (MAX_BYTES + 1))
    (tmp_path / "near.yaml").write_text("name: x\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("name: x\n")
    for name, words in {
        "latin.yaml": "latin.yaml:2:7: is not UTF-8 text (byte 0xe9)",
        "huge.yaml": "a recipe has at most",
        "nerr.yaml": "did you mean 'near.yaml'?",
        "absent/x.yaml": "does not exist either",
        "run": "did you mean",
        "": "is a folder",
    }.items():
        with pytest.raises(Refused) as caught:
            read_text(tmp_path / name)
        assert words in str(caught.value)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_text(tmp_path / "bom.yaml") == "name: x\n"
