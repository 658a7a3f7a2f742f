"""What the documents say is true: hooks as specified, every command of first-plugin.md run as written."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ctgen import hookspecs
from ctgen.host import Registrar
from ctgen.registry import KINDS
from tests.e2e.sandbox import Sandbox

DOCS = Path(__file__).parents[2] / "docs"


def commands(text: str) -> list[str]:
    """Lines of the ```sh blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip() and not line.startswith("#")]


def test_every_hook_is_documented_with_its_exact_arguments() -> None:
    specified = {
        f"{name}({', '.join(inspect.signature(function).parameters)})"
        for name, function in vars(hookspecs).items()
        if name.startswith("ctgen_")
    }
    documented = set(re.findall(r"^## `(ctgen_\w+\([^)]*\))`$", (DOCS / "plugin-hooks.md").read_text("utf-8"), re.MULTILINE))
    assert documented == specified


def test_the_registrars_methods_are_documented() -> None:
    text = (DOCS / "plugin-hooks.md").read_text(encoding="utf-8")
    for kind in KINDS:
        assert kind in text
        assert list(inspect.signature(getattr(Registrar, kind)).parameters) == ["self", "name", "target", "config", "summary"]
    assert 'registrar.backbone(name, *, target, config, summary="")' in text
    assert 'registrar.preset(name, *, package, resource, summary="")' in text
    assert list(inspect.signature(Registrar.preset).parameters) == ["self", "name", "package", "resource", "summary"]


def test_the_twelve_kinds_of_the_architecture_page() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert "## Twelve kinds of component" in text
    assert len(KINDS) == 12
    assert all(kind in text for kind in KINDS)


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.slow
def test_every_command_of_the_first_plugin_guide(tmp_path: Path) -> None:
    lines = commands((DOCS / "first-plugin.md").read_text(encoding="utf-8"))
    assert lines[0] == "ctgen new-plugin mynet"
    sandbox = Sandbox(tmp_path)
    output = {line: sandbox.run(line, timeout=600).stdout for line in lines}
    assert "mynet" in output["ctgen ls backbone"]
    run = sandbox.folder / "runs" / "mynet"
    assert len(list(run.rglob("report.html"))) == 2, output[lines[-1]]
    assert len(list(run.glob("prepare-*"))) == 1
    assert len(list(run.glob("train-*"))) == 2
