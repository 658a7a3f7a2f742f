"""Volumes of a model for the cases of a suite: resumable per case, shared out to processes, the same for any number of them."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ctgen.atomic import remove_leftovers, write_json
from ctgen.bench.cases import Cases, PreparedDataset
from ctgen.bench.memory import peak_bytes, reset_peak
from ctgen.bench.models import ModelSpec
from ctgen.bench.opening import Model, RecipeModel, ReconstructionModel, model_fingerprint, open_model
from ctgen.bench.product import SUFFIX, Product, folder_of, store
from ctgen.bench.threads import one_thread
from ctgen.bench.volumes import content_problem, geometry_problem
from ctgen.console import Console
from ctgen.data.prepared import PreparedCases
from ctgen.errors import CtgenError, Interrupted
from ctgen.host import Host
from ctgen.stages.context import Stopper
from ctgen.volume import Volume


@dataclass(frozen=True)
class Job:
    """All that a worker process needs; picklable."""

    spec: ModelSpec
    of: ModelSpec | None
    """Whose autoencoder it is, for a reconstruction."""
    steps: int | None
    seed: int
    samples: Path
    held_out: Path
    ids: tuple[str, ...]
    train: Path | None = None
    """Folders of prepared cases."""


def produce(
    spec: ModelSpec,
    of: ModelSpec | None,
    cases: Cases,
    out: Path,
    *,
    host: Host,
    console: Console,
    stopper: Stopper,
    processes: int,
    train: Path | None,
) -> Product:
    """Make what is missing. A model that fails is a Product with an error; Interrupted is raised."""
    suite = cases.suite.settings
    product = Product(spec)
    job = Job(spec, of, suite.steps, suite.seed, out, cases.prepared.folder, cases.ids, train)
    try:
        with one_thread():
            model = _open(job, host, console)
    except CtgenError as error:
        product.error = str(error)
        return product
    except Exception as error:
        product.error = f"{type(error).__name__}: {error}"
        return product
    if isinstance(model, RecipeModel):
        model.check = stopper.check
    product.fingerprint = model_fingerprint(model, cases.identity)
    product.facts = dict(model.facts)
    folder = product.folder = folder_of(out, spec.name, product.fingerprint)
    identity = {"name": spec.name, "kind": spec.kind, "source": spec.source, "fingerprint": product.fingerprint}
    if not (folder / "model.json").is_file():
        write_json(folder / "model.json", {**identity, "identity": dict(model.identity), "facts": product.facts})
    missing = [case_id for case_id in cases.ids if not product.json(case_id).is_file()]
    if len(missing) < len(cases.ids):
        console.say(f"{spec.name}: {len(cases.ids) - len(missing)} of {len(cases.ids)} volumes are there already")
    job = replace(job, samples=folder / "samples")
    done = len(cases.ids) - len(missing)
    with (
        console.task(spec.name, len(cases.ids), unit="volumes", done=done) as task,
        closing(_outcomes(job, model, cases, missing, processes)) as outcomes,
    ):
        problems = []
        for case_id, problem in outcomes:
            if problem:
                problems.append(f"case {case_id}: {problem}" if case_id else problem)
            else:
                task.advance(note=case_id)
            stopper.check()
        product.error = "\n".join(problems)
    remove_leftovers(folder)
    return product


def _open(job: Job, host: Host, console: Console) -> Model:
    if job.spec.kind == "reconstruction":
        assert job.of is not None
        opened = open_model(job.of, host=host, console=Console(quiet=True), steps=job.steps)
        assert isinstance(opened, RecipeModel)
        return ReconstructionModel(job.spec, opened)
    train, held_out = None, None
    if job.spec.kind == "generator":
        held_out = PreparedDataset(PreparedCases(job.held_out), job.ids)
        if job.train is not None:
            shown = PreparedCases(job.train)
            train = PreparedDataset(shown, shown.ids())
    return open_model(job.spec, host=host, console=console, steps=job.steps, train=train, held_out=held_out)


def _one(job: Job, model: Model, request: Any, real: Volume) -> None:
    reset_peak()
    made = model.make(request, real, job.seed)
    peak = peak_bytes()
    volume = made.volume
    if not np.isfinite(volume.hu).all():
        raise ValueError("voxels are NaN or infinite")
    if problem := geometry_problem(volume, real):
        raise ValueError(problem)
    facts = {
        "seed": job.seed,
        "synthetic": True,
        "report": asdict(request.report),
        "seconds": round(made.seconds, 3),
        "evaluations": made.evaluations,
        "peak_bytes": peak,
        "boundaries": list(made.boundaries),
        "note": made.note,
    }
    if problem := content_problem(volume, real):
        facts["note"] = "; ".join(text for text in (made.note, problem) if text)
    store(job.samples / f"{request.id}{SUFFIX}", job.samples / f"{request.id}.json", request.id, volume, real, facts)


def _outcomes(job: Job, model: Model, cases: Cases, ids: list[str], processes: int) -> Generator[tuple[str, str], None, None]:
    """(case id, "" or what went wrong) as they are done; no id where a process itself was lost.

    After a failure no more cases are handed out; what other processes have begun is finished.
    """
    workers = min(processes, len(ids))
    if workers <= 1:
        with one_thread():
            for case_id in ids:
                problem = _tried(job, model, cases.request(case_id), cases.prepared.volume(case_id))
                yield case_id, problem
                if problem:
                    return
        return
    failed = False

    def requests() -> Iterator[Any]:
        for case_id in ids:
            if failed:
                return
            yield delayed(_in_worker)(job, cases.request(case_id))

    # loky: fresh processes (a forked copy of torch's thread pools can hang), without re-running the caller's script
    pool = Parallel(workers, return_as="generator_unordered", pre_dispatch=workers, batch_size=1)
    try:
        for case_id, problem in pool(requests()):
            failed = failed or bool(problem)
            yield case_id, problem
    except TerminatedWorkerError:
        yield "", "a process was killed from outside, most likely because the memory was full; use fewer --processes"


def _tried(job: Job, model: Model, request: Any, real: Volume) -> str:
    try:
        _one(job, model, request, real)
    except Interrupted:
        raise
    except CtgenError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


_opened: dict[Path, Model | str] = {}
"""In a worker process: the model that it is working for, or why that could not be opened."""


def _worker_model(job: Job) -> Model | str:
    """Opened once per worker process, which does one thread's work beside the others."""
    if job.samples not in _opened:
        # the parent decides when to stop; Ctrl-C reaches the whole process group
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(1)
        _opened.clear()
        try:
            _opened[job.samples] = _open(job, Host.discover(), Console(quiet=True))
        except Exception as error:
            _opened[job.samples] = str(error)
    return _opened[job.samples]


def _in_worker(job: Job, request: Any) -> tuple[str, str]:
    model = _worker_model(job)
    if isinstance(model, str):
        return request.id, model
    return request.id, _tried(job, model, request, PreparedCases(job.held_out).volume(request.id))
