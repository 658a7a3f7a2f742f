"""The template plugin: copied, renamed, installed by pip, listed, validated, tested; and beside two broken plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.plugins import install
from tests.e2e.sandbox import Sandbox

MISSING = "import a_package_nobody_has\n"
RAISES = """
from ctgen import hookimpl
from ctgen.config import ComponentConfig

@hookimpl
def ctgen_register(registrar):
    registrar.backbone("half-net", target="nowhere:Net", config=ComponentConfig)
    raise RuntimeError("the licence server is asleep")
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    made = Sandbox(tmp_path_factory.mktemp("template"))
    made.run("ctgen new-plugin my-net")
    made.run("pip install ./ctgen-my-net")
    return made


def test_the_new_plugin_is_listed_as_any_other(sandbox: Sandbox) -> None:
    listed = sandbox.run("ctgen ls backbone").stdout.splitlines()
    assert any(line.split()[:3] == ["backbone", "my-net", "my-net"] for line in listed)
    plugins = sandbox.run("ctgen ls plugins").stdout
    assert "ctgen-my-net" in plugins
    assert "failed" not in plugins


def test_installed_from_a_wheel_it_is_found_outside_its_folder(sandbox: Sandbox) -> None:
    where = sandbox.run("cd / && python -c 'import ctgen_my_net; print(ctgen_my_net.__file__)'").stdout
    assert str(sandbox.venv) in where


def test_its_recipe_is_valid_and_its_own_test_passes(sandbox: Sandbox) -> None:
    sandbox.run("ctgen validate ctgen-my-net/recipe.yaml")
    assert "1 passed" in sandbox.run("pytest -p no:cacheprovider ctgen-my-net").stdout


def test_its_fields_are_checked_like_anybody_elses(sandbox: Sandbox) -> None:
    done = sandbox.run("ctgen validate ctgen-my-net/recipe.yaml backbone.widht=3", check=False)
    assert done.returncode != 0
    assert "did you mean 'width'" in done.stdout + done.stderr


def test_a_name_in_use_is_refused(sandbox: Sandbox) -> None:
    done = sandbox.run("ctgen new-plugin my-net", check=False)
    assert done.returncode != 0
    assert "exists already" in done.stderr


def test_two_broken_plugins_beside_a_good_one(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    sandbox.run("ctgen new-plugin my-net && pip install ./ctgen-my-net")
    packages = next((sandbox.venv / "lib").glob("python*")) / "site-packages"
    install(packages, "a-missing", MISSING)
    install(packages, "z-raises", RAISES)

    listed = sandbox.run("ctgen ls backbone").stdout
    assert "my-net" in listed
    assert "half-net" not in listed

    plugins = sandbox.run("ctgen ls plugins").stdout
    assert "No module named 'a_package_nobody_has'" in plugins
    assert "try: pip install a_package_nobody_has" in plugins
    assert "RuntimeError: the licence server is asleep" in plugins
    assert "Traceback" not in plugins
    assert "Traceback" in sandbox.run("ctgen ls plugins --traceback").stdout

    sandbox.run("ctgen validate ctgen-my-net/recipe.yaml")
    unknown = sandbox.run("ctgen validate ctgen-my-net/recipe.yaml backbone.use=half-net", check=False)
    assert unknown.returncode != 0
    text = unknown.stdout + unknown.stderr
    assert "half-net" in text
    assert "the licence server is asleep" in text
    assert "a_package_nobody_has" in text


def test_a_plugin_whose_target_needs_a_missing_package_is_listed_and_explained(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    sandbox.run("ctgen new-plugin my-net")
    net = sandbox.folder / "ctgen-my-net" / "ctgen_my_net" / "net.py"
    text = net.read_text(encoding="utf-8")
    net.write_text(text.replace("import torch\n", "import a_package_nobody_has\nimport torch\n", 1), encoding="utf-8")
    sandbox.run("pip install ./ctgen-my-net")
    assert "my-net" in sandbox.run("ctgen ls backbone").stdout
    code = (
        "from ctgen import Host; from ctgen.interfaces import *; "
        "Host.discover().create('backbone', 'my-net', latent=LatentSpec(4, (1, 8, 8)), text=TextSpec(8, 8))"
    )
    done = sandbox.run(f'python -c "{code}"', check=False)
    assert "PluginError" in done.stderr
    assert "try: pip install a_package_nobody_has" in done.stderr
