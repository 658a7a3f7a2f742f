"""Numbers of two protocols never share a table: what a folder or a file holds is compared before anything is added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctgen.atomic import read_json, write_json
from ctgen.bench.cases import Cases
from ctgen.bench.score import Scored
from ctgen.errors import ConfigError

PINNED = "bench.json"


def require_same(out: Path, cases: Cases, scored: Sequence[Scored]) -> None:
    """Pin suite and protocols in ``out``. ConfigError, with what differs, if they are pinned there as others."""
    path = out / PINNED
    pinned: dict[str, Any] = read_json(path) if path.is_file() else {"suite": cases.identity, "protocols": {}}
    differs = list(differences(pinned["suite"], cases.identity))
    if differs:
        raise ConfigError(
            f"{out} holds a bench of another suite; numbers of both would not be comparable",
            hint="\n".join([*(f"suite.{line}" for line in differs[:8]), "choose another -o"]),
        )
    for one in scored:
        name = one.protocol.name
        if one.missing:
            continue
        before = pinned["protocols"].get(name)
        differs = [] if before is None else list(differences(before, one.definition))
        if differs:
            raise ConfigError(
                f"{out} holds results of another protocol {name!r}; the two must not share a table",
                hint="\n".join([*differs[:8], "choose another -o, or give the changed protocol another name"]),
            )
        pinned["protocols"][name] = one.definition
    write_json(path, pinned)


def differences(one: Any, other: Any, key: str = "") -> Iterator[str]:
    """ "protocol.seed: 0 there, 1 here" for every leaf that differs."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in sorted(one.keys() | other.keys()):
            yield from differences(one.get(name), other.get(name), f"{key}.{name}" if key else str(name))
    elif _plain(one) != _plain(other):
        yield f"{key}: {_short(one)} there, {_short(other)} here"


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 70 else f"{text[:67]}..."
