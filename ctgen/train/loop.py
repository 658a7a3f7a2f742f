"""The training loop: over Hugging Face Accelerate, killed anywhere it goes on bit for bit.

Everything random is a function of (seed, step, rank, micro-batch), the learning rate and the EMA's decay are functions of the
step; a checkpoint therefore holds tensors and a handful of counters. On a CPU an interrupted and resumed run equals an
uninterrupted one: weights, averages, optimiser and metrics.jsonl (but for its ``seconds``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ctgen.errors import Interrupted
from ctgen.interfaces import Objective, TrainingSource
from ctgen.recipe.settings import TrainSettings
from ctgen.train.batches import step_loader
from ctgen.train.log import MetricsLog
from ctgen.train.signals import stop_on_signals
from ctgen.train.training import Training


@dataclass(frozen=True)
class TrainResult:
    """``final_loss`` is the last logged one; ``seconds`` of training, earlier sessions included."""

    steps: int
    final_loss: float
    checkpoint: Path
    seconds: float


def fit(
    objective: Objective,
    source: TrainingSource,
    settings: TrainSettings,
    folder: Path,
    *,
    spec: Mapping[str, Any],
    valid_source: TrainingSource | None = None,
    on_log: Callable[[int, dict[str, float]], None] | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train ``objective.model`` to ``settings.steps``, from the newest checkpoint under ``folder`` if there is one.

    ``spec`` (JSON-ready) goes into every checkpoint; one written under another spec is a CheckpointError. ``valid_source`` adds
    ``valid_loss``, of the averaged weights, every ``settings.checkpoint_every`` steps. ``on_log(step, values)`` and
    ``progress(step, steps, values)`` run on the main process. SIGINT, SIGTERM or ``should_stop()`` end the run after the
    current step: a checkpoint, then Interrupted. A loss that is not finite is a TrainingError; older checkpoints are kept.

    An objective may also have ``extra: nn.Module``, trained and saved (head.safetensors) beside the model, not averaged;
    ``prepare(source)``, called once before the first batch is drawn; and ``validate(source)``, scores that are logged beside
    ``valid_loss``, each as valid_<name>.
    """
    training = Training(objective, settings, folder, spec)
    accelerator = training.accelerator
    training.resume()
    prepare = getattr(objective, "prepare", None)
    if prepare is not None:
        prepare(source)
    with ExitStack() as stack:
        stopped = stack.enter_context(stop_on_signals())
        # Dropout draws from the global generator: seeded at each step in here, and put back afterwards.
        stack.enter_context(torch.random.fork_rng(devices=[accelerator.device] if accelerator.device.type == "cuda" else []))
        log = stack.enter_context(MetricsLog(folder, training.step)) if accelerator.is_main_process else None
        loader = step_loader(
            objective, source, settings, rank=accelerator.process_index, first_step=training.step + 1,
            pin_memory=accelerator.device.type == "cuda",
        )  # fmt: skip
        batches = iter(loader)
        while training.step < settings.steps:
            values, stop = training.advance(batches, lambda: stopped() or (should_stop is not None and should_stop()))
            step, last = training.step, training.step == settings.steps
            due = step % settings.checkpoint_every == 0 or last
            line = training.close_window() if step % settings.log_every == 0 or last else {}
            if due and valid_source is not None and len(valid_source.ids):
                line["valid_loss"] = training.validate(valid_source)
                line.update(training.scores(valid_source))
            if log is not None:
                if line:
                    line["seconds"] = training.seconds
                    log.write(step, line)
                    if on_log is not None:
                        on_log(step, dict(line))
                if progress is not None:
                    progress(step, settings.steps, values)
                if due or stop:
                    log.sync()
            if due or stop:
                training.save()
            if stop and not last:
                raise Interrupted(
                    f"stopped after step {step} of {settings.steps}; saved {training.checkpoint}",
                    hint="run the same command to go on",
                )
    assert training.checkpoint is not None
    return TrainResult(settings.steps, training.final_loss, training.checkpoint, training.seconds)
