"""Work of earlier runs that the same settings over another list of scans can use: folders of one stage side by side.

A stage's folder belongs to one list of cases and never changes. When scans are added, changed or removed, a new folder is made
beside it, and what is the same in both is linked, not made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctgen.atomic import read_json, write_json
from ctgen.stages.plan import DONE

MARK = "cache.json"
"""Holds the key of everything but the list of cases: folders of one key may share results."""


def mark(folder: Path, key: str, *, name: str = MARK) -> None:
    """Write down, before the first result, what the results of ``folder`` depend on."""
    if not (folder / name).is_file():
        write_json(folder / name, {"key": key})


def earlier_folders(run_dir: Path, stage: str, key: str, folder: Path, *, mark: str = MARK) -> list[Path]:
    """Folders of ``stage`` with the same key but ``folder``, the newest first; broken-off ones too, for what they have."""
    found = [path.parent for path in run_dir.glob(f"{stage}-*/{mark}") if path.parent != folder]
    same = [path for path in found if read_json(path / mark).get("key") == key]
    return sorted(same, key=lambda path: (path / mark).stat().st_mtime_ns, reverse=True)


class Changes:
    """What is different from the newest finished folder of ``earlier``."""

    def __init__(self, earlier: Sequence[Path]) -> None:
        self.since = next((path for path in earlier if (path / DONE).is_file()), None)
        self._before: dict[str, Any] = {}
        if self.since is not None:
            manifest = read_json(self.since / "manifest.json")
            self._before = {entry["id"]: entry for entry in (*manifest["cases"], *manifest["skipped"])}
        self.added: list[str] = []
        self.changed: list[str] = []
        self.same = 0

    def note(self, case_id: str, entry: Mapping[str, Any]) -> None:
        """A case of the new folder as its manifest has it, kept or left out; in any order, each once."""
        before = self._before.pop(case_id, None)
        if before is None:
            self.added.append(case_id)
        elif before == entry:
            self.same += 1
        else:
            self.changed.append(case_id)

    def found(self) -> dict[str, Any]:
        """JSON-ready; ``removed``: cases that were there before."""
        return {
            "since": self.since.name if self.since else None,
            "unchanged": self.same,
            "added": self.added,
            "changed": self.changed,
            "removed": sorted(self._before),
        }

    def __str__(self) -> str:
        found = self.found()
        parts = [f"{self.same} cases as in {found['since']}" if self.since else "no earlier run was finished"]
        for name in ("added", "changed", "removed"):
            if ids := found[name]:
                parts.append(f"{len(ids)} {name} ({', '.join(ids[:4])}{', ...' if len(ids) > 4 else ''})")
        return ", ".join(parts)
