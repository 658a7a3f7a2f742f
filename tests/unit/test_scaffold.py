"""New plugins are renamed copies of the template."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctgen.errors import ConfigError
from ctgen.scaffold import TEMPLATE, new_plugin


def test_the_template_that_ships_is_the_plugin_in_the_repository() -> None:
    plugin = Path(__file__).parents[2] / "plugins" / "ctgen-template"
    assert TEMPLATE.resolve() == plugin.resolve()


def test_a_new_plugin_is_renamed_everywhere(tmp_path: Path) -> None:
    made = new_plugin("my-net", tmp_path / "deep")
    assert made == tmp_path / "deep" / "ctgen-my-net"
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "pyproject.toml",
        "recipe.yaml",
        "ctgen_my_net/__init__.py",
        "ctgen_my_net/config.py",
        "ctgen_my_net/net.py",
        "ctgen_my_net/plugin.py",
        "tests/test_my_net.py",
    }
    for path in made.rglob("*"):
        assert "template" not in path.name.lower()
        if path.is_file():
            assert "template" not in path.read_text(encoding="utf-8").lower(), path
    assert "class MyNet(nn.Module)" in (made / "ctgen_my_net" / "net.py").read_text(encoding="utf-8")
    assert [path.name for path in made.parent.iterdir()] == ["ctgen-my-net"]


def test_the_prefix_may_be_written(tmp_path: Path) -> None:
    assert new_plugin("ctgen-mynet", tmp_path).name == "ctgen-mynet"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    made = new_plugin("mynet", tmp_path)
    (made / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists already"):
        new_plugin("mynet", tmp_path)
    assert (made / "mine.txt").read_text(encoding="utf-8") == "keep"


@pytest.mark.parametrize(
    "name", ["", "My Net", "1net", "net_", "../net", "a--b", "ctgen-", "json", "framework", "none", "ctflow"]
)
def test_unusable_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        new_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_usable_name_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ctgen new-plugin my-net"):
        new_plugin("My Net", tmp_path)
