"""Errors carry data and read well."""

from __future__ import annotations

import pickle

import pytest

from ctgen.errors import CtgenError, Mark, MissingFileError, Problem, RecipeError, VolumeError, did_you_mean


def test_hint_follows_the_message() -> None:
    error = MissingFileError("no file", hint="get it")
    assert (error.message, error.hint, str(error)) == ("no file", "get it", "no file\n  get it")
    assert str(CtgenError("alone")) == "alone"


def test_problem_says_where_what_and_what_next() -> None:
    problem = Problem(Mark("r.yaml", 9, 8), "backbone.use", "no such name", "available: a\ndid you mean 'a'?")
    assert str(problem) == "r.yaml:9:8: backbone.use: no such name\n  available: a\n  did you mean 'a'?"
    assert str(Problem(Mark("command line"), "", "what")) == "command line: what"


def test_recipe_error_keeps_all_problems_in_order() -> None:
    problems = [Problem(Mark("r.yaml", line, 1), f"k{line}", "wrong") for line in (1, 5, 9)]
    error = RecipeError(problems)
    assert error.problems == tuple(problems)
    assert [line.partition(":")[2][0] for line in str(error).split("\n")] == ["1", "5", "9"]


def test_volume_error_names_its_file() -> None:
    error = VolumeError("scan.nii.gz", "2 axes, 3 wanted")
    assert str(error).startswith("scan.nii.gz: 2 axes")
    assert error.path.name == "scan.nii.gz"


@pytest.mark.parametrize(("word", "wanted"), [("stditt", "did you mean 'stdit'?"), ("zzz", ""), ("", "")])
def test_did_you_mean(word: str, wanted: str) -> None:
    assert did_you_mean(word, ["stdit", "flux-vae"]) == wanted


@pytest.mark.parametrize("error", [CtgenError("m", hint="h"), VolumeError("p.nii", "m", hint="h")])
def test_errors_cross_process_boundaries(error: CtgenError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.hint == error.hint
    assert again.message == error.message
