"""Tables from a results document, and two documents in one."""

from __future__ import annotations

import copy
import csv
import io

import pytest

from ctgen.bench.joining import join
from ctgen.bench.rows import best, notes_of, rows_of
from ctgen.bench.tables import csv_text, markdown, plain, show
from ctgen.errors import ConfigError


def score(value, better=False, **more):
    return {"value": value, "n": 4, "low": None, "high": None, "higher_is_better": better, "meaning": "what it is", **more}


def model(floor=False, error="", label="MINI", fingerprint="f"):
    facts = {"weights": {"backbone": {"label": label}}}
    return {
        "kind": "recipe", "source": "a.yaml", "floor": floor, "fingerprint": fingerprint, "facts": facts,
        "n": 0 if error else 4, "error": error, "left_out": {}, "unknown": [],
    }  # fmt: skip


def result(value, cases):
    values = {"m": {"error": score(value), "error.bone": score(value / 2), "steps": score(3, None)}}
    return {"n": 4, "values": values, "per_case": {case_id: {"m.error": number} for case_id, number in cases.items()}}


def document(**changed):
    results = {
        "floor": result(0.5, dict.fromkeys("wxyz", 0.5)),
        "a": result(2.5, dict(zip("wxyz", (1.0, 2.0, 3.0, 4.0), strict=True))),
        "b": result(1.5, dict(zip("wxyz", (0.0, 1.0, 2.0, 3.0), strict=True))),
    }
    one = {
        "definition": {"protocol": {"version": 1, "seed": 0}}, "fingerprint": "0123456789", "reproduces": "nothing",
        "quirks": ["mind the | gap"], "missing": [], "errors": {}, "results": results, "comparisons": [],
    }  # fmt: skip
    lost = {**one, "missing": ["net.pt is not here; get it there"], "results": {}}
    found = {
        "format": 1,
        "suite": {"name": "s", "summary": "", "fingerprint": "", "identity": {"seed": 0}, "ids": list("wxyz"), "n": 4},
        "provenance": {"device": "cpu", "versions": {}},
        "models": {
            "a": model(), "broken": model(error="it broke\nhere"),
            "floor": model(floor=True, label="NONE"), "b": model(fingerprint="g"),
        },
        "order": ["a", "broken", "floor", "b"],
        "protocols": {"p": one, "lost": lost},
    }  # fmt: skip
    return {**found, **changed}


def test_floors_come_first_and_the_best_model_is_marked_never_a_floor():
    (error, steps) = rows_of(document(), "p")
    assert list(error.scores) == ["floor", "a", "b"]
    assert best(error, document()) == "b"
    assert best(steps, document()) == ""


def test_details_are_left_out_of_the_headline():
    assert [row.key for row in rows_of(document(), "p")] == ["error", "steps"]
    assert [row.key for row in rows_of(document(), "p", details=True)] == ["error", "error.bone", "steps"]


def test_equal_models_are_both_not_best():
    found = document()
    found["protocols"]["p"]["results"]["b"] = found["protocols"]["p"]["results"]["a"]
    assert best(rows_of(found, "p")[0], found) == ""


@pytest.mark.parametrize("form", ["plain", "markdown", "terminal"])
def test_every_form_names_weights_failures_and_what_was_not_run(form):
    stream = io.StringIO()
    if form == "terminal":
        show(document(), stream)
    text = {"plain": plain, "markdown": markdown}.get(form, lambda _: stream.getvalue())(document())
    joined = " ".join(text.split())
    assert "MINI AND NONE" in joined and "FAILED" in joined and "it broke" in joined
    assert "NOT RUN lost: net.pt is not here; get it there" in joined
    assert "lost v1" not in joined


def test_csv_has_a_line_for_every_number():
    rows = list(csv.DictReader(io.StringIO(csv_text(document()))))
    assert len(rows) == 9
    assert {(row["model"], row["floor"]) for row in rows} == {("floor", "1"), ("a", "0"), ("b", "0")}
    assert next(row for row in rows if row["model"] == "b" and row["key"] == "error.bone")["value"] == "0.75"


def test_quirks_are_told_only_of_protocols_that_were_run():
    assert [note for note in notes_of(document()) if "gap" in note] == ["p: mind the | gap"]


def test_two_files_become_one_table_with_a_test_by_cases():
    second = document()
    second["models"]["a"] = model(fingerprint="other")
    second["protocols"]["p"]["results"]["a"] = result(3.5, dict(zip("wxyz", (2.0, 3.0, 4.0, 5.0), strict=True)))
    joined = join(document(), second, "A", "B")
    assert "a@2" in joined["models"] and "b@2" not in joined["models"]
    entry = next(
        one
        for one in joined["protocols"]["p"]["comparisons"]
        if (one["first"], one["second"], one["key"]) == ("a", "a@2", "error")
    )
    assert entry["value"] == -1.0 and entry["better"] == "a"
    assert entry["p"] == pytest.approx(2 / 2**4)
    assert "a@2" in plain(joined)


def test_what_is_of_the_real_scans_is_not_compared():
    first, second = document(), document()
    second["models"]["a"] = model(fingerprint="other")
    for found in (first, second):
        for one in found["protocols"]["p"]["results"].values():
            one["values"]["m"]["error_real"] = score(0.1, None, meaning="floor: the real scans'")
    joined = join(first, second, "A", "B")
    assert {one["key"] for one in joined["protocols"]["p"]["comparisons"]} == {"error", "error.bone", "steps"}


def test_files_of_another_suite_or_protocol_are_refused():
    other = copy.deepcopy(document())
    other["suite"]["identity"]["seed"] = 1
    with pytest.raises(ConfigError, match=r"suite\.seed: 0 there, 1 here"):
        join(document(), other, "A", "B")
    other = copy.deepcopy(document())
    other["protocols"]["p"]["definition"]["protocol"]["seed"] = 7
    with pytest.raises(ConfigError, match=r"protocol\.seed: 0 there, 7 here"):
        join(document(), other, "A", "B")
