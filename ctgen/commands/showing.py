"""``ctgen show`` and ``ctgen schema``: what a recipe says, and what recipes can say."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ctgen.commands.listing import table
from ctgen.errors import ConfigError, did_you_mean
from ctgen.host import Host
from ctgen.recipe import Recipe
from ctgen.recipe.provenance import flat


def provenance_table(recipe: Recipe) -> str:
    """A line per value: dotted key (as an override would name it), value, where it came from."""
    rows = [(key, _shown(value), str(recipe.origin[key])) for key, value in flat(recipe.as_dict()).items()]
    return table(("KEY", "VALUE", "FROM"), rows)


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def write_schema(out: Path | None, *, markdown: bool, plugins: Sequence[str] | None) -> None:
    """To ``out``, or to stdout; ``plugins`` limits it to their components."""
    from ctgen.atomic import write_text
    from ctgen.recipe.reference import reference
    from ctgen.recipe.schema import json_schema

    host = Host.discover()
    known = [record.name for record in host.plugins if record.error is None]
    for name in plugins or ():
        if name not in known:
            near = did_you_mean(name, known) or f"loaded: {', '.join(known)}"
            raise ConfigError(f"no plugin named {name!r} is loaded", hint=f"{near}\n{host.failure_notes()}".strip())
    chosen = frozenset(plugins) if plugins else None
    text = reference(host, plugins=chosen) if markdown else json.dumps(json_schema(host, plugins=chosen), indent=1) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
        print(f"wrote {out}")
