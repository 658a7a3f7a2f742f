"""``ctgen new-plugin``: a renamed copy of the template plugin, which ships with ctgen."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
import tempfile
from pathlib import Path

from ctgen.errors import ConfigError, MissingFileError

# In the repository this is a link to plugins/ctgen-template; a wheel holds the files themselves.
TEMPLATE = Path(__file__).parent / "scaffold_template"

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "build", "dist", "runs")


def new_plugin(name: str, folder: Path | str = ".") -> Path:
    """Make ``folder``/ctgen-NAME, a plugin with a backbone called NAME; returns its path.

    The folder appears whole or not at all. Raises ConfigError: not a usable name, or the folder exists.
    """
    name = name.removeprefix("ctgen-")
    _check_name(name)
    if not TEMPLATE.is_dir():
        raise MissingFileError(
            f"the plugin template is not at {TEMPLATE}",
            hint="in a clone without symbolic links, copy plugins/ctgen-template there",
        )
    target = Path(folder) / f"ctgen-{name}"
    if target.exists():
        raise ConfigError(f"{target} exists already; nothing was changed", hint="choose another name or --folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-plugin-", dir=target.parent) as temporary:
        copy = Path(temporary) / target.name
        shutil.copytree(TEMPLATE, copy, ignore=_LEFT_OUT)
        # Deepest first, so that a renamed folder does not change the paths still to come.
        for path in sorted(copy.rglob("*"), key=lambda path: len(path.parts), reverse=True):
            if path.is_file():
                path.write_text(_renamed(path.read_text(encoding="utf-8"), name), encoding="utf-8")
            path.rename(path.with_name(_renamed(path.name, name)))
        copy.rename(target)
    return target


def _renamed(text: str, name: str) -> str:
    module = name.replace("-", "_")
    for old, new in (
        ("ctgen-template", f"ctgen-{name}"),
        ("ctgen_template", f"ctgen_{module}"),
        ("TemplateNet", "".join(part.capitalize() for part in name.split("-"))),
        ("template-net", name),
        ("template_net", module),
    ):
        text = text.replace(old, new)
    return text


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
        raise ConfigError(
            f"{name!r} is not a plugin name: small letters, digits and single '-', beginning with a letter",
            hint=f"try: ctgen new-plugin {near}" if _NAME.fullmatch(near) else "",
        )
    # A class is named after the plugin, and `ctgen-framework` and the like are other distributions.
    if (
        keyword.iskeyword(name.capitalize())
        or name in sys.stdlib_module_names
        or name in ("framework", "ctflow", "baseline", "template")
    ):
        raise ConfigError(f"{name!r} is taken", hint="choose another name")
