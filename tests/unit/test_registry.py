"""Records, look-up and lazy targets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ctgen.config import ComponentConfig
from ctgen.errors import AmbiguousComponentError, PluginError, UnknownComponentError
from ctgen.registry import Component, Kind, Registry


class Config(ComponentConfig):
    pass


def component(name: str, plugin: str = "p", kind: Kind = "backbone", target: str = "fractions:Fraction") -> Component:
    return Component(kind, name, target, Config, plugin)


def test_names_are_bare_where_unique() -> None:
    registry = Registry()
    for one in (component("a"), component("a", "q"), component("b"), component("a", kind="schedule")):
        registry.add(one)
    assert registry.names("backbone") == ["b", "p:a", "q:a"]
    assert registry.names("schedule") == ["a"]
    assert registry.get("backbone", "q:a").plugin == "q"
    with pytest.raises(AmbiguousComponentError):
        registry.get("backbone", "a")


def test_twice_from_one_plugin_is_an_error() -> None:
    registry = Registry()
    registry.add(component("a"))
    with pytest.raises(PluginError, match="registers backbone 'a' twice"):
        registry.add(component("a"))


def test_remove_plugin_keeps_the_others() -> None:
    registry = Registry()
    for one in (component("a"), component("a", "q"), component("b")):
        registry.add(one)
    registry.remove_plugin("p")
    assert [one.qualified for one in registry] == ["q:a"]


def test_unknown_name_lists_suggestion_choices_and_notes() -> None:
    registry = Registry()
    registry.add(component("stdit", "ctflow"))
    with pytest.raises(UnknownComponentError) as caught:
        registry.get("backbone", "stditt", notes="plugin 'x' failed")
    assert str(caught.value).split("\n") == [
        "no backbone named 'stditt'",
        "  did you mean 'stdit'?",
        "  available: stdit (ctflow)",
        "  plugin 'x' failed",
    ]


def test_a_target_is_imported_at_first_use_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_target_module.py").write_text("class Thing:\n    pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    registry.add(component("lazy", target="lazy_target_module:Thing"))
    found = registry.get("backbone", "lazy")
    assert "lazy_target_module" not in sys.modules
    assert found.load().__name__ == "Thing"
    assert "lazy_target_module" in sys.modules


def test_a_target_that_needs_a_missing_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_missing_module.py").write_text("import nobody_has_this.part\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError) as caught:
        component("net", target="needs_missing_module:Thing").load()
    assert "of plugin 'p'" in str(caught.value)
    assert caught.value.hint == "try: pip install nobody_has_this"


def test_a_target_without_the_attribute_is_a_plugin_error() -> None:
    with pytest.raises(PluginError, match="fractions:Fractoin"):
        component("net", target="fractions:Fractoin").load()
