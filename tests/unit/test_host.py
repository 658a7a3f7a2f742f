"""Discovery, failures kept, and what a plugin cannot do to others."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ctgen.config import ComponentConfig
from ctgen.errors import AmbiguousComponentError, ConfigError, PluginError, UnknownComponentError
from ctgen.hookspecs import hookimpl
from ctgen.host import Host


class NetConfig(ComponentConfig):
    width: int = 8


def plugin(register: Any = None, **attributes: Any) -> ModuleType:
    module = ModuleType("made_up_plugin")
    if register is not None:

        @hookimpl
        def ctgen_register(registrar: Any) -> None:
            register(registrar)

        module.ctgen_register = ctgen_register  # type: ignore[attr-defined]
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def one_net(registrar: Any) -> None:
    registrar.backbone("net", target="collections:Counter", config=NetConfig)
    registrar.preset("small", package="ctgen", resource="py.typed")


def install(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution as pip leaves it: a module, and metadata with an entry point."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[ctgen]\n{name} = {name}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)


GOOD = """
from ctgen import hookimpl
from ctgen.config import ComponentConfig
class Config(ComponentConfig):
    pass
@hookimpl
def ctgen_register(registrar):
    registrar.schedule("good-one", target="good_plugin:Config", config=Config)
"""


def test_broken_plugins_do_not_hide_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "a_broken", "import a_package_nobody_has", monkeypatch)
    install(tmp_path, "b_exits", "import sys; sys.exit(3)", monkeypatch)
    install(tmp_path, "good_plugin", GOOD, monkeypatch)
    install(tmp_path, "z_syntax", "def (", monkeypatch)
    host = Host.discover()
    assert host.component("schedule", "good-one").plugin == "good_plugin"
    failed = {record.name: record for record in host.plugins if record.error}
    assert set(failed) == {"a_broken", "b_exits", "z_syntax"}
    assert "pip install a_package_nobody_has" in failed["a_broken"].hint
    assert "a_package_nobody_has" in failed["a_broken"].traceback
    with pytest.raises(UnknownComponentError) as caught:
        host.component("schedule", "good-two")
    text = str(caught.value)
    assert "did you mean 'good-one'?" in text
    assert all(name in text for name in failed)


def test_discovery_without_plugins_has_the_built_in_components() -> None:
    host = Host.discover()
    assert host.component("backbone", "tiny-conv").plugin == "builtin"
    assert [record.name for record in host.plugins].count("builtin") == 1


def test_register_hook_is_called_once_per_plugin() -> None:
    calls: list[str] = []
    host = Host()
    for name in ("first", "second", "third"):
        host.register(plugin(lambda registrar: calls.append(registrar.plugin)), name)
    assert calls == ["first", "second", "third"]


def test_a_plugin_that_raises_while_registering_leaves_nothing() -> None:
    def half(registrar: Any) -> None:
        one_net(registrar)
        raise RuntimeError("half way")

    host = Host()
    record = host.register(plugin(half, ctgen_stage_started=hookimpl(lambda stage, folder: None)), "half")
    assert isinstance(record.error, RuntimeError)
    assert list(host.registry) == []
    assert host.presets == []
    assert host.hook.ctgen_stage_started.get_hookimpls() == []
    with pytest.raises(UnknownComponentError, match="half way"):
        host.component("backbone", "net")


def test_a_misspelt_hook_is_its_own_plugins_failure() -> None:
    host = Host()
    good = host.register(plugin(one_net), "good")
    bad = host.register(plugin(ctgen_regster=hookimpl(lambda registrar: None)), "bad")
    after = host.register(plugin(lambda registrar: None), "after")
    assert good.error is None
    assert after.error is None
    assert "did you mean 'ctgen_register'?" in str(bad.error)


def test_a_hook_without_its_marker_is_reported() -> None:
    record = Host().register(plugin(ctgen_register=lambda registrar: None), "bare")
    assert "without @hookimpl" in str(record.error)


def test_a_hook_with_a_wrong_argument_is_reported() -> None:
    host = Host()
    record = host.register(plugin(ctgen_register=hookimpl(lambda registar: None)), "typo")
    assert "registar" in str(record.error)
    assert host.register(plugin(one_net), "good").error is None


def test_a_plugin_for_another_api_is_refused() -> None:
    record = Host().register(plugin(one_net, PLUGIN_API=2), "later")
    assert "plugin API 2" in str(record.error)
    assert "has 1" in str(record.error)


def test_a_second_plugin_of_the_same_name_does_not_harm_the_first() -> None:
    host = Host()
    host.register(plugin(one_net), "net")
    second = host.register(plugin(one_net), "net")
    assert "loaded already" in str(second.error)
    assert host.component("backbone", "net").name == "net"


def test_the_same_module_under_two_names_is_kept_once() -> None:
    host, module = Host(), plugin(one_net, ctgen_train_step=hookimpl(lambda step, values: None))
    host.register(module, "first")
    assert "same module" in str(host.register(module, "second").error)
    assert len(host.hook.ctgen_train_step.get_hookimpls()) == 1
    assert host.component("backbone", "net").plugin == "first"


def test_two_plugins_with_one_name_are_both_reachable_in_full() -> None:
    host = Host()
    host.register(plugin(one_net), "p")
    host.register(plugin(one_net), "q")
    with pytest.raises(AmbiguousComponentError, match="'p:net' or 'q:net'"):
        host.component("backbone", "net")
    assert host.component("backbone", "q:net").plugin == "q"
    with pytest.raises(AmbiguousComponentError, match="p:small or q:small"):
        host.preset("small")
    assert host.preset("q:small").plugin == "q"


@pytest.mark.parametrize(
    ("name", "target", "config"),
    [("net", "no.colon", NetConfig), ("net", "a:b", dict), ("a:b", "a:b", NetConfig), ("", "a:b", NetConfig)],
)
def test_a_wrong_declaration_is_the_plugins_failure(name: str, target: str, config: Any) -> None:
    host = Host()
    record = host.register(plugin(lambda registrar: registrar.backbone(name, target=target, config=config)), "wrong")
    assert isinstance(record.error, PluginError)


def test_create_builds_from_fields_and_context() -> None:
    host = Host()

    def register(registrar: Any) -> None:
        registrar.backbone("net", target="types:SimpleNamespace", config=NetConfig)
        registrar.schedule("line", target="ctgen.builtin.schedule:LinearFlow", config=NetConfig)

    host.register(plugin(register), "p")
    assert host.create("schedule", "line", width=3).config.width == 3
    with pytest.raises(ConfigError, match="latent"):
        host.create("backbone", "net")
    with pytest.raises(ConfigError, match="did you mean 'width'") as caught:
        host.create("schedule", "line", widht=3, other=1)
    assert "other" in str(caught.value)


def test_an_error_inside_a_target_names_its_plugin() -> None:
    host = Host()
    host.register(plugin(lambda registrar: registrar.metric("m", target="types:new_class", config=NetConfig)), "p")
    with pytest.raises(PluginError, match="metric 'm' of plugin 'p' failed while being built: TypeError"):
        host.create("metric", "m")


def test_unknown_kind_and_preset_suggest() -> None:
    host = Host()
    host.register(plugin(one_net), "p")
    with pytest.raises(UnknownComponentError, match="did you mean 'backbone'"):
        host.component("backbon", "net")
    with pytest.raises(UnknownComponentError, match="did you mean 'small'"):
        host.preset("smal")


def test_life_cycle_hooks_reach_plugins() -> None:
    seen: list[int] = []
    host = Host()
    host.register(plugin(ctgen_train_step=hookimpl(lambda step, values: seen.append(step))), "listener")
    host.hook.ctgen_train_step(step=3, values={"loss": 1.0})
    assert seen == [3]


def test_an_object_can_be_a_plugin() -> None:
    class Plugin:
        @hookimpl
        def ctgen_register(self, registrar: Any) -> None:
            one_net(registrar)

    host = Host()
    assert host.register(Plugin(), "object").error is None
    assert host.component("backbone", "net").plugin == "object"
