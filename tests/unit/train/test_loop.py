from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ctgen.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from ctgen.train.checkpoint import list_checkpoints, newest_checkpoint
from ctgen.train.log import read_metrics
from ctgen.train.loop import fit

from .toys import Points, Regression, settings

SPEC = {"backbone": {"use": "toy", "width": 8}}


def run(folder: Path, objective: Regression | None = None, *, stop_after: int | None = None, **fields):
    """Train the toy, asked to stop after ``stop_after`` steps."""
    steps: list[int] = []
    return fit(
        objective or Regression(), Points(), settings(**fields), folder, spec=SPEC, valid_source=Points(8),
        progress=lambda step, total, values: steps.append(step),
        should_stop=lambda: stop_after is not None and len(steps) + 1 >= stop_after,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, object]:
    """All that must be equal between an uninterrupted and a resumed run."""
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    found: dict[str, object] = {}
    for file in newest.folder.glob("*.safetensors"):
        found[file.name] = {name: value.tolist() for name, value in load_file(file).items()}
    state = torch.load(newest.folder / "state" / "optimisers.pt", weights_only=True)
    found["state"] = json.loads(json.dumps(state, default=lambda value: value.tolist()))
    found["metrics"] = [{key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(folder)]
    return found


def test_loss_falls_and_what_a_run_leaves_behind(tmp_path):
    result = run(tmp_path, steps=60, lr=3e-2, log_every=10, checkpoint_every=20)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50, 60]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert result.steps == 60 and result.final_loss == lines[-1]["loss"] and result.seconds > 0
    assert {"lr", "grad_norm", "error", "odd_error", "seconds"} <= set(lines[0])
    assert [line["step"] for line in lines if "valid_loss" in line] == [20, 40, 60]
    assert lines[-1]["valid_loss"] < lines[1]["valid_loss"]
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "checkpoints")] == [40, 60]
    assert result.checkpoint == tmp_path / "checkpoints" / "step-60"
    assert list((tmp_path / "tensorboard").iterdir())
    assert set(load_file(result.checkpoint / "model.safetensors")) == set(Regression().model.state_dict())
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.parametrize("stop_after", [1, 5, 8])
@pytest.mark.parametrize(
    "fields",
    [{}, {"precision": "bf16"}, {"accumulate": 3, "log_every": 5}, {"workers": 1, "decay": "cosine"}],
    ids=["plain", "bf16", "accumulate", "workers"],
)
def test_resumed_run_equals_uninterrupted_run(tmp_path, stop_after, fields):
    run(tmp_path / "whole", Regression(adversary=True, extra=True), **fields)
    with pytest.raises(Interrupted, match=f"after step {stop_after} of 12"):
        run(tmp_path / "parts", Regression(adversary=True, extra=True), stop_after=stop_after, **fields)
    assert newest_checkpoint(tmp_path / "parts" / "checkpoints").step == stop_after
    torch.manual_seed(99)  # nothing may depend on the global generator
    run(tmp_path / "parts", Regression(adversary=True, extra=True), **fields)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_lines_after_the_checkpoint_are_written_once(tmp_path):
    run(tmp_path / "whole")
    run(tmp_path / "parts", keep_checkpoints=3)
    # as if killed between a log line and its checkpoint, with the last line torn
    (tmp_path / "parts" / "checkpoints" / "step-12" / "spec.json").unlink()
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "lo')
    run(tmp_path / "parts", keep_checkpoints=3)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = run(tmp_path)
    objective = Regression()
    again = run(tmp_path, objective)
    assert objective.seen == []
    assert (again.steps, again.final_loss, again.checkpoint) == (first.steps, first.final_loss, first.checkpoint)
    assert torch.equal(objective.model.first.weight, load_file(first.checkpoint / "model.safetensors")["first.weight"])
    with pytest.raises(CheckpointError, match=r"step-12 is past train.steps = 8"):
        run(tmp_path, steps=8)


def test_another_spec_is_refused_with_its_differences(tmp_path):
    run(tmp_path, steps=4)
    with pytest.raises(CheckpointError) as error:
        fit(Regression(), Points(), settings(), tmp_path, spec={"backbone": {"use": "toy", "width": 16}, "text": "x"})
    assert "backbone.width: checkpoint 8, wanted 16" in str(error.value)
    assert 'text: checkpoint "absent", wanted "x"' in str(error.value)
    assert len(read_metrics(tmp_path)) == 4


def test_a_damaged_checkpoint_is_not_trained_from(tmp_path):
    result = run(tmp_path, steps=4)
    path = result.checkpoint / "ema.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"ema.safetensors is damaged"):
        run(tmp_path)


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(tmp_path):
    class Explodes(Regression):
        def loss(self, batch, step, generator):
            terms = dict(super().loss(batch, step, generator))
            return {**terms, "loss": terms["loss"] * (float("inf") if step == 7 else 1.0)}

    with pytest.raises(TrainingError, match=r"at step 7 of 12; the last checkpoint is .*step-4"):
        run(tmp_path, Explodes())
    assert newest_checkpoint(tmp_path / "checkpoints").step == 4
    assert [line["step"] for line in read_metrics(tmp_path)][-1] == 6


def test_nothing_to_train(tmp_path):
    objective = Regression()
    objective.model.requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter of Network wants a gradient"):
        run(tmp_path, objective)


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 runs on a GPU")
def test_fp16_without_a_gpu_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"train.precision: fp16 needs a GPU"):
        run(tmp_path, precision="fp16")


def test_precision_may_change_between_runs_of_one_process(tmp_path):
    losses = [run(tmp_path / str(number), precision=name).final_loss for number, name in enumerate(["no", "bf16", "no"])]
    assert losses[0] == losses[2] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_accumulation_equals_one_large_batch(tmp_path):
    """Two micro-batches of the same size: gradients are their mean. Checked against a step by hand."""
    objective = Regression(dropout=0.0)
    run(tmp_path, objective, steps=1, accumulate=2, warmup_steps=0, weight_decay=0.0, clip_norm=1e6)
    trained = objective.model.last.weight.detach().clone()
    fresh = Regression(dropout=0.0)
    from ctgen.train.batches import generator_for

    optimiser = torch.optim.AdamW(fresh.model.parameters(), lr=1e-2, weight_decay=0.0)
    losses = []
    for micro in range(2):
        batch = fresh.batch(Points(), 4, generator_for(0, "batch", 1, 0, micro))
        losses.append(fresh.loss(batch, 1, generator_for(0, "noise", 1, 0, micro))["loss"])
    (sum(losses) / 2).backward()
    optimiser.step()
    assert torch.allclose(trained, fresh.model.last.weight, atol=1e-6)
    assert not torch.equal(objective.seen[0], objective.seen[1])


def test_adversary_learns_and_takes_no_gradient_from_the_models_loss(tmp_path):
    class Watched(Regression):
        def loss(self, batch, step, generator):
            assert not any(parameter.requires_grad for parameter in self.adversary.parameters())
            return super().loss(batch, step, generator)

        def adversary_loss(self, batch, step):
            assert all(parameter.requires_grad for parameter in self.adversary.parameters())
            assert self.model.last.weight.grad is None  # the model's step is over
            return super().adversary_loss(batch, step)

    objective = Watched(adversary=True)
    result = run(tmp_path, objective, steps=30, adversary_lr=0.05)
    lines = read_metrics(tmp_path)
    assert lines[-1]["adversary_loss"] < lines[0]["adversary_loss"]
    saved = load_file(result.checkpoint / "adversary.safetensors")
    assert torch.equal(saved["weight"], objective.adversary.weight) and saved["weight"].item() != pytest.approx(0.1)


def test_extra_module_is_trained_saved_and_not_averaged(tmp_path):
    objective = Regression(extra=True)
    result = run(tmp_path, objective)
    head = load_file(result.checkpoint / "head.safetensors")
    assert torch.equal(head["weight"], objective.extra.weight) and head["weight"].item() != 0
    assert not any("extra" in name for name in load_file(result.checkpoint / "model.safetensors"))


def test_average_is_saved_and_differs_from_the_model(tmp_path):
    result = run(tmp_path, ema_decay=0.5, ema_warmup=False)
    model, ema = (load_file(result.checkpoint / f"{name}.safetensors") for name in ("model", "ema"))
    assert not torch.equal(model["first.weight"], ema["first.weight"])
    assert torch.equal(ema["first.weight"], ema["tied"])
    assert torch.equal(model["frozen"], ema["frozen"])


def test_channels_last_weights_resume_exactly(tmp_path):
    def build() -> Regression:
        objective = Regression()
        objective.model = Convolution()
        return objective

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1).to(memory_format=torch.channels_last)
            nn.init.normal_(self.conv.weight, generator=torch.Generator().manual_seed(1))
            nn.init.zeros_(self.conv.bias)

        def forward(self, x):
            return self.conv(x[:, :, None, None].expand(-1, -1, 4, 4)).mean((1, 2, 3))[:, None]

    run(tmp_path / "whole", build())
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", build(), stop_after=5)
    run(tmp_path / "parts", build())
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


SCRIPT = """
import sys, time
from pathlib import Path
from {package}.toys import Points, Regression, settings
from ctgen.train.loop import fit

class Slow(Regression):
    def batch(self, source, size, generator):
        time.sleep(0.02)
        return super().batch(source, size, generator)

config = settings(steps=30, workers=int(sys.argv[2]))
objective = Slow(adversary=True)
fit(objective, Points(), config, Path(sys.argv[1]), spec={spec!r}, valid_source=Points(8))
"""


def start(folder: Path, workers: int, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    script = folder.parent / "train.py"
    script.write_text(SCRIPT.format(package="train_toys", spec=SPEC))
    package = folder.parent / "train_toys"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / "toys.py").write_text(Path(__file__).with_name("toys.py").read_text())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(folder.parent), *sys.path[1:]])}
    command = [sys.executable, *launcher, str(script), str(folder), str(workers)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_steps(process: subprocess.Popen[str], folder: Path, steps: int) -> None:
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() or len(metrics.read_text().splitlines()) < steps:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGKILL, 0), (signal.SIGTERM, 1)])
def test_killed_process_goes_on_as_if_nothing_had_happened(tmp_path, number, workers):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, Regression(adversary=True), steps=30)
    process = start(parts, workers)
    wait_for_steps(process, parts, 10)
    process.send_signal(number)
    assert process.wait(60) != 0
    message = process.stderr.read()
    newest = newest_checkpoint(parts / "checkpoints")
    assert newest is not None and newest.step < 30
    if number == signal.SIGTERM:
        assert f"Interrupted: stopped after step {newest.step} of 30" in message
        assert newest.step >= 10
    again = start(parts, workers)
    assert again.wait(120) == 0, again.stderr.read()
    assert contents(parts) == contents(whole)
