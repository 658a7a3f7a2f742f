"""The installed ``ctgen`` program on what needs no torch: help, ls, validate, show, schema; broken plugins beside good ones."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "diffusers", "transformers", "accelerate", "SimpleITK", "scipy", "matplotlib")
PROGRAM = [sys.executable, "-c", "from ctgen.cli import main; main()"]
AND_MODULES = f"""
import atexit, json, sys
atexit.register(lambda: print("MODULES", json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr))
from ctgen.cli import main
main()
"""

RECIPE = """\
data: {use: folder, root: scans}
autoencoder: tiny-ae
text_encoder: hash-text
backbone: tiny-conv
schedule: linear-flow
rollout: whole-volume
objective: latent-flow
prepare: {size: [16, 64, 64]}
"""


def ctgen(*words, cwd=None, path=None, program=PROGRAM):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path or []))}
    environment.pop("CTGEN_TRACEBACK", None)
    return subprocess.run([*program, *map(str, words)], capture_output=True, text=True, cwd=cwd, env=environment, timeout=60)


def install(folder: Path, name: str, source: str, version: str = "1.0") -> Path:
    """A distribution in ``folder`` as pip leaves it: a module and its entry point in group ctgen."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[ctgen]\n{name} = {name}\n")
    return folder


GOOD = """
from pydantic import Field
from ctgen import hookimpl
from ctgen.config import ComponentConfig

class GoodNet(ComponentConfig):
    width: int = Field(8, description="channels")

@hookimpl
def ctgen_register(registrar):
    registrar.backbone("good-net", target="goodplug:Missing", config=GoodNet, summary="from outside")

@hookimpl
def ctgen_add_commands(app):
    @app.command("greet")
    def greet(name: str):
        "Say hello."
        print("hello", name)
    @app.command("crash")
    def crash():
        raise ZeroDivisionError("oh")
"""


@pytest.fixture
def plugins(tmp_path):
    """One good plugin between two broken ones."""
    folder = tmp_path / "site"
    install(folder, "aaa_broken", "import a_module_that_nobody_has\n", "0.3")
    install(folder, "goodplug", GOOD)
    install(folder, "zzz_broken", "import sys\nsys.exit('no')\n")
    return [folder]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("run", "--help"),
        ("ls",),
        ("ls", "plugins"),
        ("validate", "small.yaml"),
        ("show", "small.yaml"),
        ("schema",),
    ],
)
def test_light_commands_import_nothing_heavy(words, recipe):
    done = ctgen(*words, cwd=recipe.parent, program=[sys.executable, "-c", AND_MODULES])
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "MODULES []"


@pytest.mark.parametrize(("words", "limit"), [(("--help",), 0.4), (("ls",), 0.6)])
def test_light_commands_are_fast(words, limit):
    # Processor time, which is the time on the clock of an idle machine, and does not depend on who else is working.
    best = min(_processor_seconds([*PROGRAM, *words]) for _ in range(3))
    assert best < limit, f"{best:.2f} s"


def _processor_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_broken_plugins_stop_nothing_and_are_shown(plugins, recipe):
    done = ctgen("ls", "backbone", path=plugins)
    assert done.returncode == 0
    assert "good-net" in done.stdout and "from outside" in done.stdout
    assert "aaa_broken" in done.stdout and "zzz_broken" in done.stdout
    done = ctgen("ls", "plugins", path=plugins)
    assert "ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in done.stdout
    assert "try: pip install a_module_that_nobody_has" in done.stdout and "Traceback" not in done.stdout
    done = ctgen("ls", "plugins", "--traceback", path=plugins)
    assert "Traceback" in done.stdout and "aaa_broken.py" in done.stdout
    done = ctgen("validate", recipe, "backbone=good-net", path=plugins)
    assert done.returncode == 0, done.stderr
    done = ctgen("validate", recipe, "backbone=lost-net", path=plugins)
    assert done.returncode == 2
    assert "command line: backbone.use: no backbone named 'lost-net'" in done.stderr
    assert "plugin 'aaa_broken' (aaa_broken 0.3) failed to load" in done.stderr
    done = ctgen("doctor", path=plugins)
    assert done.returncode == 0 and "plugin 'zzz_broken'" in done.stdout


def test_a_plugins_commands_are_in_help_and_work(plugins):
    done = ctgen("--help", path=plugins)
    assert "greet" in done.stdout and "Say hello." in done.stdout
    assert ctgen("greet", "Ada", path=plugins).stdout == "hello Ada\n"
    done = ctgen("crash", path=plugins)
    assert done.returncode == 1 and "this is a defect in plugin 'goodplug'" in done.stderr and "Traceback" not in done.stderr


def test_the_schema_includes_installed_plugins(plugins, tmp_path):
    done = ctgen("schema", "-o", tmp_path / "schema.json", path=plugins)
    assert done.returncode == 0, done.stderr
    backbone = json.loads((tmp_path / "schema.json").read_text())["properties"]["backbone"]["anyOf"]
    net = next(item for item in backbone if item.get("title") == "good-net")
    assert net["properties"]["width"]["description"] == "channels"


def test_validate_reports_every_recipe(recipe):
    wrong = recipe.with_name("wrong.yaml")
    wrong.write_text(RECIPE.replace("tiny-conv", "{use: tiny-conv, widht: 3}") + "trian: {steps: 3}\n")
    done = ctgen("validate", "small.yaml", "wrong.yaml", "absent.yaml", cwd=recipe.parent)
    assert done.returncode == 2
    assert done.stdout.startswith("small.yaml: ok (folder, tiny-ae")
    assert "wrong.yaml:4:28: backbone.widht: unknown key\n  did you mean 'width'?" in done.stderr
    assert "wrong.yaml:9:1: trian: unknown section\n  did you mean 'train'?" in done.stderr
    assert "wrong.yaml: 2 problems" in done.stderr and "absent.yaml: no such file" in done.stderr


def test_show_prints_values_with_their_origin_and_the_resolved_recipe_runs_again(recipe):
    done = ctgen("show", "small.yaml", "train.lr=3e-5", cwd=recipe.parent)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["train.lr"] == ["train.lr", "3e-05", "command", "line"]
    assert rows["backbone.use"] == ["backbone.use", "tiny-conv", "small.yaml:4:11"]
    assert rows["train.seed"][2] == "default"
    resolved = ctgen("show", "small.yaml", "train.lr=3e-5", "--yaml", cwd=recipe.parent)
    recipe.with_name("resolved.yaml").write_text(resolved.stdout)
    again = ctgen("show", "resolved.yaml", "--yaml", cwd=recipe.parent)
    assert again.stdout == resolved.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("run", "absent.yaml"), "absent.yaml: no such file"),
        (("run", "."), "is a folder"),
        (("ls", "backbones"), "did you mean 'backbone'?"),
        (("validate",), "Missing argument"),
        (("validate", "a=b"), "no recipe to check"),
        (("sohw", "x"), "No such command"),
        (("schema", "--plugin", "biultin"), "did you mean 'builtin'?"),
        (("generate", "absent", "-o", "x"), "no report given"),
    ],
)
def test_what_the_user_can_mend_ends_with_code_2(words, text, tmp_path):
    done = ctgen(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_output_into_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -c 'from ctgen.cli import main; main()' schema | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout == "{\n" and "Traceback" not in done.stderr and "Error" not in done.stderr


def test_version():
    assert ctgen("--version").stdout.startswith("ctgen ")
