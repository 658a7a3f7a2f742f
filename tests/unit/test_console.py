"""Progress for people, plain lines for logs."""

from __future__ import annotations

import io

import pytest

from ctgen.console import Console


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_results_go_to_stdout_and_progress_to_stderr():
    out, err = io.StringIO(), io.StringIO()
    with Console(out=out, err=err) as console:
        console.plain_interval_s = 0.0
        console.say("hello")
        console.warn("careful")
        with console.task("encode", 4, unit="cases") as task:
            task.advance(2, note="x.nii")
    assert out.getvalue() == "hello\n"
    assert err.getvalue().splitlines() == ["warning: careful", "encode: 2/4 cases, 0 s left, x.nii"]


def test_quiet_keeps_results_and_warnings():
    out, err = io.StringIO(), io.StringIO()
    with Console(quiet=True, out=out, err=err) as console:
        console.plain_interval_s = 0.0
        console.say("chatter")
        console.result("the path")
        console.warn("careful")
        assert list(console.track([1, 2], "count")) == [1, 2]
    assert out.getvalue() == "the path\n"
    assert err.getvalue() == "warning: careful\n"


def test_bars_in_a_terminal_may_be_nested_and_are_taken_away():
    err = Terminal()
    with Console(out=io.StringIO(), err=err) as console:
        with console.task("outer", 2) as outer:
            for _ in console.track(range(3), "inner"):
                outer.set(1, total=3)
        assert console._progress is None
        assert "outer" in err.getvalue() and "inner" in err.getvalue()


def test_an_exception_takes_the_bars_away():
    console = Console(out=io.StringIO(), err=Terminal())
    with pytest.raises(RuntimeError), console.task("work", 2):
        raise RuntimeError
    assert console._progress is None


def test_without_a_terminal_there_are_no_control_characters():
    err = io.StringIO()
    console = Console(out=err, err=err)
    console.plain_interval_s = 0.0
    for _ in console.track([1, 2, 3], "work"):
        console.say("line")
    assert "\x1b" not in err.getvalue() and "\r" not in err.getvalue()
