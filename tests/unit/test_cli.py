"""The command line's own work: words to arguments, errors to text and exit codes, plugins' commands."""

from __future__ import annotations

import sys
import types
from importlib import metadata

import pytest
import typer

from ctgen.cli import app, main
from ctgen.commands.failing import code_for
from ctgen.commands.generate import parse_spacing, wanted_reports
from ctgen.commands.listing import listing, table
from ctgen.commands.plugged import add_plugin_commands
from ctgen.errors import ConfigError, CtgenError, Interrupted, Mark, Problem, RecipeError, UnknownComponentError
from ctgen.host import Host


def run(*words):
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("bad", hint="do this"), 2, "error: bad\n  do this\n"),
        (
            RecipeError([Problem(Mark("r.yaml", 3, 4), "a.b", "is wrong", "x")]),
            2,
            "r.yaml:3:4: a.b: is wrong\n  x\n1 problem\n",
        ),
        (Interrupted("stopped after step 40"), 130, "stopped after step 40\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on where it can\n"),
    ],
)
def test_errors_become_one_message_and_a_code(error, code, text, capsys):
    assert code_for(error) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", text)


def test_an_unexpected_error_is_a_defect_and_shows_its_trace_on_request(capsys, monkeypatch):
    def failing():
        raise KeyError("secret")

    monkeypatch.delenv("CTGEN_TRACEBACK", raising=False)
    with pytest.raises(KeyError) as caught:
        failing()
    assert code_for(caught.value) == 1
    text = capsys.readouterr().err
    assert "this is a defect in ctgen" in text and "CTGEN_TRACEBACK=1" in text and "Traceback" not in text
    monkeypatch.setenv("CTGEN_TRACEBACK", "1")
    assert code_for(caught.value) == 1
    assert "Traceback" in capsys.readouterr().err


def entry(monkeypatch, tmp_path, name, source):
    """An installed plugin whose entry module has this source."""
    module = f"cli_test_{name}_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    return metadata.EntryPoint(name, module, "ctgen")


def install(monkeypatch, *entries):
    monkeypatch.setattr(metadata, "entry_points", lambda **_: list(entries))


def test_a_defect_in_a_plugin_is_named(monkeypatch, tmp_path, capsys):
    found = entry(monkeypatch, tmp_path, "guilty", "def crash():\n    return 1 / 0\n")
    install(monkeypatch, found)
    with pytest.raises(ZeroDivisionError) as caught:
        found.load().crash()
    assert code_for(caught.value) == 1
    assert "defect in plugin 'guilty'" in capsys.readouterr().err


COMMAND = """
from ctgen import hookimpl

@hookimpl
def ctgen_add_commands(app):
    @app.command("greet")
    def greet(name: str):
        print("hello", name)
    @app.command("run")
    def run():
        print("mine now")
"""


def test_plugins_add_commands_but_take_none_away(monkeypatch, tmp_path, capsys):
    silent = entry(monkeypatch, tmp_path, "silent", "raise RuntimeError('imported')\n")
    broken = entry(monkeypatch, tmp_path, "broken", "# ctgen_add_commands\nraise RuntimeError('boom')\n")
    good = entry(monkeypatch, tmp_path, "good", COMMAND)
    install(monkeypatch, silent, broken, good)
    fresh = typer.Typer()
    fresh.command("run")(lambda: None)
    add_plugin_commands(fresh, {"run"})
    assert [command.name for command in fresh.registered_commands] == ["run", "greet"]
    text = capsys.readouterr().err
    assert "plugin 'broken' could not add its commands: RuntimeError: boom" in text
    assert "'good' adds a command 'run', which exists already" in text
    assert silent.module not in sys.modules, "a plugin without commands is not imported for them"


def test_plugins_are_asked_only_for_words_that_are_not_commands(monkeypatch):
    asked = []
    monkeypatch.setattr("ctgen.commands.plugged.add_plugin_commands", lambda app, known: asked.append(known))
    assert run("ls", "backbones") == 2
    assert asked == []
    assert run("greet") == 2
    known = {
        "run",
        "generate",
        "bench",
        "evaluate",
        "ls",
        "show",
        "validate",
        "schema",
        "new-plugin",
        "doctor",
        "data",
        "weights",
    }
    assert known == asked[0]


def test_every_command_has_help_with_an_example():
    for command in app.registered_commands:
        text = command.callback.__doc__
        name = command.name or command.callback.__name__
        assert len(text.splitlines()[0]) <= 58, "the list of commands would cut it"
        assert name == "doctor" or f"ctgen {name}" in text


@pytest.mark.parametrize(
    "words", [("--help",), ("run", "--help"), ("generate", "--help"), ("data", "--help"), ("data", "inspect", "--help")]
)
def test_help_is_plain_and_fits_a_terminal(words, capsys):
    assert run(*words) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and "\b" not in text
    assert max(map(len, text.splitlines())) <= 92


def test_run_passes_its_words_on(monkeypatch, tmp_path, capsys):
    from ctgen import recipe, stages

    calls = []
    monkeypatch.setattr(recipe, "load_recipe", lambda *given, **named: calls.append(given) or "the recipe")
    monkeypatch.setattr(
        stages,
        "run",
        lambda *given, **named: calls.append((given, named)) or types.SimpleNamespace(report=None, run_dir="runs/x"),
    )
    assert (
        run(
            "run",
            "r.yaml",
            "train.steps=3",
            "data.use=folder",
            "--run-dir",
            "out",
            "--from",
            "train",
            "--until",
            "sample",
            "-q",
        )
        == 0
    )
    assert calls[0] == ("r.yaml", ["train.steps=3", "data.use=folder"])
    given, named = calls[1]
    assert given == ("the recipe",)
    assert (str(named["run_dir"]), named["start"], named["until"], named["console"].quiet) == ("out", "train", "sample", True)
    assert capsys.readouterr().out == "run folder: runs/x\n"


def test_words_of_generate(tmp_path):
    assert parse_spacing(None) is None
    assert parse_spacing("3, 1.5,1.5") == (3.0, 1.5, 1.5)
    assert parse_spacing("2") == (2.0, 2.0, 2.0)
    for wrong in ("1,2", "a", "0", "-1,1,1", "nan", "inf", ""):
        with pytest.raises(ConfigError, match="voxel spacing"):
            parse_spacing(wrong)
    with pytest.raises(ConfigError, match="no report given"):
        wanted_reports([], None)
    with pytest.raises(ConfigError, match="both --report and --reports"):
        wanted_reports(["a"], tmp_path / "r.csv")
    assert [report.findings for _, report in wanted_reports(["Effusion.", "Nodule.", "Effusion."], None)] == [
        "Effusion.",
        "Nodule.",
    ]


def test_generate_without_reports_stops_before_anything_is_loaded(capsys):
    assert run("generate", "runs/none", "-o", "out") == 2
    assert "no report given" in capsys.readouterr().err


def test_listing_shows_failures_and_suggests():
    host = Host()
    host.register(types.ModuleType("nothing"), "nothing", "nothing-dist", "1.0")
    with pytest.raises(UnknownComponentError) as caught:
        listing(host, "backbones")
    assert "did you mean 'backbone'?" in caught.value.hint and "plugins, presets" in caught.value.hint
    assert listing(host, "backbone").startswith("no backbone is installed")
    assert listing(host, "presets") == "no plugin ships a preset"
    assert "nothing-dist" in listing(host, "plugins")


def test_tables_have_no_trailing_blanks():
    assert table(("A", "B"), [("x", ""), ("long", "y")]) == "A     B\nx\nlong  y"


def test_a_missing_file_of_the_user_is_not_a_defect(capsys, tmp_path):
    assert run("show", str(tmp_path / "absent.yaml")) == 2
    assert "no such file" in capsys.readouterr().err
    assert issubclass(RecipeError, CtgenError)
