"""Two processes under torchrun, gloo on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctgen.train.checkpoint import list_checkpoints
from ctgen.train.log import read_metrics

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch, torch.distributed as dist
from train_toys.toys import Points, Regression, settings
from ctgen.errors import Interrupted
from ctgen.train.loop import fit

folder, stop = Path(sys.argv[1]), int(sys.argv[2])
rank = int(os.environ["RANK"])
objective = Regression(adversary=True, extra=True)
if rank == 1:  # a different start: the first process's weights must win
    with torch.no_grad():
        objective.model.first.weight += 1
steps = []

def should_stop():
    steps.append(1)
    return stop > 0 and rank == 1 and len(steps) >= stop  # only one process is told

try:
    fit(objective, Points(), settings(steps=8, accumulate=2), folder, spec={}, valid_source=Points(8), should_stop=should_stop)
except Interrupted:
    stop = -1
facts = {
    "world": dist.get_world_size(), "backend": dist.get_backend(), "interrupted": stop == -1,
    "first_batch": objective.seen[0].tolist() if objective.seen else None,
    "weights": objective.model.first.weight.tolist(), "head": objective.extra.weight.tolist(),
    "adversary": objective.adversary.weight.tolist(),
}
(folder / f"rank-{rank}.json").write_text(json.dumps(facts))
dist.barrier()  # a process that leaves while the other still talks to it takes that one down
dist.destroy_process_group()
os._exit(0)  # all is written and closed; now and then gloo's threads abort the interpreter's own end
"""


def train(folder: Path, stop: int = 0) -> list[dict]:
    package = folder.parent / "train_toys"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / "toys.py").write_text(Path(__file__).with_name("toys.py").read_text())
    script = folder.parent / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(folder.parent), *sys.path[1:]])}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *launcher, str(script), str(folder), str(stop)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_train_one_model_on_different_batches_and_resume_exactly(tmp_path):
    first, second = train(tmp_path / "whole")
    assert (first["world"], first["backend"]) == (2, "gloo")
    assert first["first_batch"] != second["first_batch"]
    for name in ("weights", "head", "adversary"):
        assert first[name] == second[name]
    assert [line["step"] for line in read_metrics(tmp_path / "whole")] == list(range(1, 9))
    assert [found.step for found in list_checkpoints(tmp_path / "whole" / "checkpoints")] == [4, 8]

    stopped = train(tmp_path / "parts", stop=3)
    assert all(rank["interrupted"] for rank in stopped)
    assert [found.step for found in list_checkpoints(tmp_path / "parts" / "checkpoints")] == [3]
    resumed = train(tmp_path / "parts")
    assert [rank["weights"] for rank in resumed] == [first["weights"]] * 2

    def lines(folder: Path) -> list[dict]:
        return [{key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(folder)]

    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
