"""Which cases go into which file of the latent cache: decided once, before any is encoded, and written down.

The plan does not depend on how many processes there are: each takes every n-th shard. A case that an earlier cache of the
same autoencoder, text encoder and weights has, with the same voxels and report, is found there, and its shard is linked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ctgen.atomic import fingerprint, read_json, write_json
from ctgen.data.prepared import link_or_copy

PLAN = "plan.json"


class Job(NamedTuple):
    """A case and the hash of what it is encoded from."""

    id: str
    key: str


@dataclass(frozen=True)
class Shard:
    """``file``: its path in the stage's folder, named after what is in it."""

    file: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Plan:
    """``taken``: case -> (shard, group) that an earlier run wrote; ``shards``: to be written by this one."""

    taken: dict[str, tuple[str, str]]
    shards: tuple[Shard, ...]

    def places(self, ids: Sequence[str]) -> list[tuple[str, str, str]]:
        """(case, shard, group in it) of every case, in the order of ``ids``."""
        made = {job.id: (shard.file, job.id) for shard in self.shards for job in shard.jobs}
        return [(case_id, *(self.taken.get(case_id) or made[case_id])) for case_id in ids]


def make_plan(folder: Path, jobs: Sequence[Job], earlier: Sequence[Path], cases: int) -> Plan:
    """Link the shards of ``earlier`` folders that have one of ``jobs``, share out the rest by ``cases``, and write it down."""
    there: dict[str, tuple[Path, str, str]] = {}
    for other in earlier:
        if (other / PLAN).is_file():
            for key, file, group in _contents(other):
                there.setdefault(key, (other, file, group))
    taken = {job.id: there[job.key] for job in jobs if job.key in there}
    for other, file in sorted({(other, file) for other, file, _ in taken.values()}):
        if not (folder / file).is_file():
            link_or_copy(other / file, folder / file)
    todo = [job for job in jobs if job.id not in taken]
    groups = [tuple(todo[first : first + cases]) for first in range(0, len(todo), cases)]
    plan = Plan(
        {case_id: (file, group) for case_id, (_, file, group) in taken.items()},
        tuple(Shard(f"shards/{fingerprint([list(job) for job in group])}.h5", group) for group in groups),
    )
    keys = {job.id: job.key for job in jobs}
    write_json(
        folder / PLAN,
        {
            "taken": {case_id: [*place, keys[case_id]] for case_id, place in plan.taken.items()},
            "shards": [{"file": shard.file, "cases": [list(job) for job in shard.jobs]} for shard in plan.shards],
        },
    )
    return plan


def read_plan(folder: Path) -> Plan:
    stored: dict[str, Any] = read_json(folder / PLAN)
    return Plan(
        {case_id: (file, group) for case_id, (file, group, _) in stored["taken"].items()},
        tuple(Shard(shard["file"], tuple(Job(*job) for job in shard["cases"])) for shard in stored["shards"]),
    )


def _contents(folder: Path) -> list[tuple[str, str, str]]:
    """(key, shard, group) of every case in the cache of ``folder``; the shards of a broken-off one are whole or absent."""
    stored: dict[str, Any] = read_json(folder / PLAN)
    found = [(key, file, group) for file, group, key in stored["taken"].values()]
    found += [(key, shard["file"], case_id) for shard in stored["shards"] for case_id, key in shard["cases"]]
    present = {file: (folder / file).is_file() for file in {file for _, file, _ in found}}
    return [entry for entry in found if present[entry[1]]]
