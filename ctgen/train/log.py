"""metrics.jsonl and TensorBoard: a line per logged step, cut back to the checkpoint when a run goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from ctgen.atomic import write_text

METRICS = "metrics.jsonl"


def read_metrics(folder: Path, *, until: int | None = None) -> list[dict[str, float]]:
    """The logged lines of a training folder up to step ``until``; a torn last line is left out."""
    return [json.loads(line) for line in _whole_lines(folder / METRICS, until)]


class MetricsLog:
    """Appends to ``folder/metrics.jsonl`` and ``folder/tensorboard`` what comes after step ``done``."""

    def __init__(self, folder: Path, done: int) -> None:
        path = folder / METRICS
        kept = list(_whole_lines(path, done))
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)  # type: ignore[no-untyped-call]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)  # type: ignore[no-untyped-call]

    def sync(self) -> None:
        """Down to the disk: called before a checkpoint, whose resume relies on these lines."""
        os.fsync(self._file.fileno())
        self._writer.flush()  # type: ignore[no-untyped-call]

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._writer.close()  # type: ignore[no-untyped-call]


class Window:
    """Means over the steps since the last logged line; a NaN means "nothing to say this step" and is left out."""

    def __init__(self, sums: Mapping[str, list[float]] | None = None) -> None:
        self.sums: dict[str, list[float]] = {name: list(pair) for name, pair in (sums or {}).items()}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                pair = self.sums.setdefault(name, [0.0, 0.0])
                pair[0] += value
                pair[1] += 1

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.sums.items()}


def _whole_lines(path: Path, until: int | None) -> Iterator[str]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError):
            continue
        if until is None or step <= until:
            yield line
