"""Stage encode: prepared volumes and reports to posterior moments and text features; see ctgen.data.latents for the files."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctgen.atomic import fingerprint, read_json, remove_leftovers, write_json
from ctgen.data.latent_stats import case_stats, half_warning, together
from ctgen.data.latents import IMPRESSIONS, LatentStore, merge_parts, write_index, write_part
from ctgen.data.prepared import PreparedCases
from ctgen.errors import StageError
from ctgen.interfaces import Posterior, Prompt, TextFeatures
from ctgen.stages.components import device, require
from ctgen.stages.context import Context
from ctgen.stages.earlier import earlier_folders, mark
from ctgen.stages.known_latents import MARK as LATENTS_MARK
from ctgen.stages.known_latents import KnownLatents
from ctgen.stages.plan import DONE, sharing_key
from ctgen.stages.processes import rank, wait_for_files, world_size
from ctgen.stages.shards import PLAN, Job, Plan, make_plan, read_plan


def encode_slices(autoencoder: Any, hu: np.ndarray[Any, Any], batch_slices: int, where: torch.device) -> Posterior:
    """(D, H, W) HU -> moments (1, c, d, h, w) on the CPU, ``batch_slices`` at a time if the code has no stride along D."""
    step = batch_slices if autoencoder.latent.stride[0] == 1 else len(hu)
    parts: list[Posterior] = []
    with torch.inference_mode():
        for first in range(0, len(hu), step):
            # only these slices become float32; of a memory-mapped file, only these are read
            part = torch.from_numpy(np.array(hu[first : first + step], dtype=np.float32))[None, None]
            moments = autoencoder.encode(part.to(where))
            parts.append(Posterior(moments.mean.cpu(), None if moments.logvar is None else moments.logvar.cpu()))
    mean = torch.cat([part.mean for part in parts], dim=2)
    variances = [part.logvar for part in parts if part.logvar is not None]
    return Posterior(mean, torch.cat(variances, dim=2) if len(variances) == len(parts) else None)


def finalised(autoencoder: Any, posterior: Posterior, where: torch.device) -> Tensor:
    """The posterior's mean in the backbone's units, on ``where``, where the autoencoder's scale and shift are."""
    logvar = None if posterior.logvar is None else posterior.logvar.to(where)
    with torch.inference_mode():
        latent: Tensor = autoencoder.finalise(Posterior(posterior.mean.to(where), logvar), generator=None)
    return latent


def decode_slices(autoencoder: Any, latent: Tensor, where: torch.device, batch_slices: int = 16) -> Tensor:
    """(1, c, d, h, w) finalised latent -> (D, H, W) HU on the CPU, not clipped; in parts as in ``encode_slices``."""
    step = batch_slices if autoencoder.latent.stride[0] == 1 else latent.shape[2]
    with torch.inference_mode():
        parts = [autoencoder.decode(part.to(where))[0, 0].cpu() for part in torch.split(latent, step, dim=2)]
    return torch.cat(parts).float()


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Resumable per case, shared out over torchrun's processes by shards; the first process writes index and manifest."""
    recipe = context.recipe
    if (folder / "manifest.json").is_file():
        # killed after the end, before the stage could say that it is done
        if rank() == 0:
            shutil.rmtree(folder / "parts", ignore_errors=True)
        return dict(read_json(folder / "manifest.json")["summary"])
    autoencoder = require(context.components, "autoencoder").to(own_device())
    text_encoder = require(context.components, "text_encoder").to(own_device())
    prepared = PreparedCases(context.folders["prepare"])
    if recipe.encode.impressions and not any(prepared.prompt(case_id).report.impressions for case_id in prepared.ids()):
        raise StageError(
            "encode.impressions: no report of this data set has impressions",
            hint="encode.impressions=false and objective.impressions_only=0",
        )
    latents_key = sharing_key(recipe, "latents", context.components)
    known = KnownLatents.beside(context.run_dir, latents_key, folder)
    if rank() == 0:
        key = sharing_key(recipe, "encode", context.components)
        earlier = earlier_folders(context.run_dir, "encode", key, folder)
        mark(folder, key)
        mark(folder, latents_key, name=LATENTS_MARK)
        if not (folder / PLAN).is_file():
            make_plan(
                folder,
                [Job(case_id, case_key(prepared, case_id)) for case_id in prepared.ids()],
                earlier,
                recipe.encode.shard_cases,
            )
    wait_for_files([folder / PLAN], context.stopper.check)
    plan = read_plan(folder)
    encode_case = partial(_encode_case, context, prepared=prepared, known=known, networks=(autoencoder, text_encoder))
    _encode(context, folder, plan, encode_case)
    if rank() > 0:
        wait_for_files([folder / DONE], context.stopper.check)
        return {}
    wait_for_files([folder / shard.file for shard in plan.shards], context.stopper.check)
    return _finish(context, folder, plan, prepared, autoencoder)


def own_device() -> torch.device:
    """The accelerator of this process; no process group is joined for it, because encoding needs none."""
    if world_size() > 1:
        count = torch.cuda.device_count()
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % count) if count else torch.device("cpu")
    return device()


def case_key(prepared: PreparedCases, case_id: str) -> str:
    """What a case's latents and features are computed from: its voxels and its prompt."""
    return fingerprint([prepared.record(case_id)["voxels_sha256"], asdict(prepared.prompt(case_id))])


def _encode(context: Context, folder: Path, plan: Plan, encode_case: Callable[[Job, Path], bool]) -> None:
    """This process's shards: each case is a small file until all of its shard are there and merged."""
    own = plan.shards[rank() :: world_size()]
    if plan.taken:
        context.console.say(f"  {len(plan.taken)} cases are encoded already, by an earlier run")
    parts = {job.id: folder / "parts" / f"{job.id}.h5" for shard in own for job in shard.jobs}
    whole = {shard.file for shard in own if (folder / shard.file).is_file()}
    done = sum(shard.file in whole or parts[job.id].is_file() for shard in own for job in shard.jobs)
    taken_over = 0
    with context.console.task("encode", len(parts), unit="cases", done=done) as task:
        for shard in own:
            for job in shard.jobs if shard.file not in whole else ():
                if not parts[job.id].is_file():
                    taken_over += encode_case(job, parts[job.id])
                    task.advance(note=job.id)
                context.stopper.check()
            if shard.file not in whole:
                merge_parts([(job.id, parts[job.id]) for job in shard.jobs], folder / shard.file)
            for job in shard.jobs:
                parts[job.id].unlink(missing_ok=True)
    if taken_over:
        context.console.say(f"  latents of {taken_over} cases were there, of an earlier run: only their texts were encoded")


def _encode_case(
    context: Context, job: Job, part: Path, *, prepared: PreparedCases, known: KnownLatents, networks: tuple[Any, Any]
) -> bool:
    """Whether the latents were known."""
    autoencoder, text_encoder = networks
    voxels = prepared.record(job.id)["voxels_sha256"]
    found = known.find(job.id, voxels)
    if found is None:
        posterior = encode_slices(autoencoder, prepared.array(job.id), context.recipe.encode.batch_slices, own_device())
        _check_half(job.id, {"latents": posterior.mean, "log-variances": posterior.logvar})
        stats: Mapping[str, Any] = case_stats(posterior)
    else:
        posterior, stats = found
    prompt = prepared.prompt(job.id)
    with torch.inference_mode():
        text, short = _on_cpu(text_encoder.encode([prompt])), None
        if context.recipe.encode.impressions and prompt.report.impressions:
            short = _on_cpu(text_encoder.encode([replace(prompt, report=prompt.report.short)]))
    for features in (text, short) if short else (text,):
        _check_half(job.id, {"text features": features.tokens, "pooled text features": features.pooled})
    write_part(part, posterior, text, impressions=short, key=job.key, voxels=voxels, stats=stats)
    return found is not None


def _finish(context: Context, folder: Path, plan: Plan, prepared: PreparedCases, autoencoder: Any) -> dict[str, Any]:
    recipe, ids = context.recipe, prepared.ids()
    places = plan.places(ids)
    write_index(places, folder / "latents.h5")
    store, checked = LatentStore(folder / "latents.h5"), ids[: recipe.encode.check_cases]
    digests, stats, short = {}, [], 0
    for case_id in ids:
        group = store.group(case_id)
        digests[case_id] = digest(group)
        short += f"{IMPRESSIONS}tokens" in group
        stats.append(json.loads(group.attrs["stats"]))
    found = together(stats)
    text_encoder = context.components["text_encoder"]
    summary = {"cases": len(ids), **found, **_cut_prompts(context, text_encoder, [prepared.prompt(case_id) for case_id in ids])}
    if recipe.encode.impressions:
        summary["impressions"] = short
    if checked:
        errors = [decoding_error(autoencoder, store, prepared, case_id)["mean_absolute_hu"] for case_id in checked]
        summary["decoded_error_hu"] = round(sum(errors) / len(errors), 2)
    if warning := half_warning(found):
        context.console.warn(warning)
    write_json(
        folder / "manifest.json",
        {
            "cases": ids,
            "index": {case_id: {"shard": file, "group": group, "digest": digests[case_id]} for case_id, file, group in places},
            "prepared": context.folders["prepare"].name,
            "autoencoder": recipe.use("autoencoder").identity(),
            "autoencoder_weights": autoencoder.weights.sha256,
            "text_encoder": recipe.use("text_encoder").identity(),
            "text_encoder_weights": text_encoder.weights.sha256,
            "window_hu": list(autoencoder.hu_range),
            "summary": summary,
        },
    )
    shutil.rmtree(folder / "parts", ignore_errors=True)
    remove_leftovers(folder)
    return summary


def digest(group: Any) -> str:
    """One hash of a case: of the hashes that its datasets were written with."""
    return fingerprint({name: group[name].attrs["sha256"] for name in group})


def _check_half(case_id: str, tensors: dict[str, Tensor | None]) -> None:
    """The cache holds half precision: what is infinite there is lost."""
    for name, values in tensors.items():
        if values is not None and not all(torch.isfinite(part.half()).all() for part in values[0]):
            raise StageError(
                f"the {name} for case {case_id} do not fit half precision (up to {values.abs().max():.3g})",
                hint="are these the weights of another model? ctgen show RECIPE names them",
            )


def _cut_prompts(context: Context, text_encoder: Any, prompts: list[Prompt]) -> dict[str, int]:
    """How many prompts were longer than the encoder reads, if it can tell (``token_counts``); the user is told."""
    token_counts = getattr(text_encoder, "token_counts", None)
    if token_counts is None:
        return {}
    counts = token_counts(prompts)
    if counts.cut:
        context.console.warn(f"{counts.cut} of {counts.texts} prompts were cut (the longest has {counts.longest} tokens)")
    return {"cut_prompts": counts.cut, "longest_prompt_tokens": counts.longest}


def _on_cpu(text: TextFeatures) -> TextFeatures:
    pooled = None if text.pooled is None else text.pooled.float().cpu()
    return TextFeatures(text.tokens.float().cpu(), text.mask.cpu(), pooled)


def decoding_error(autoencoder: Any, store: LatentStore, prepared: PreparedCases, case_id: str) -> dict[str, float]:
    """A case decoded from the cache against its prepared volume, inside the window.

    ``mean_absolute_hu``; ``psnr`` in dB over the width of the window, and ``psnr_of_grey`` that the volume's mean value alone
    would have; ``low_hu`` and ``high_hu`` of what was decoded.
    """
    low, high = autoencoder.hu_range
    array = prepared.array(case_id)
    step = 16 if autoencoder.latent.stride[0] == 1 else store.shape(case_id)[1]
    stride = autoencoder.latent.stride[0]
    sums = np.zeros(4)
    ends = [math.inf, -math.inf]
    for first in range(0, store.shape(case_id)[1], step):
        part = slice(first, first + step)
        decoded = decode_slices(autoencoder, finalised(autoencoder, store.posterior(case_id, part), own_device()), own_device())
        real = torch.from_numpy(np.array(array[first * stride : (first + step) * stride], np.float32)).clamp(low, high).double()
        ends = [min(ends[0], decoded.min().item()), max(ends[1], decoded.max().item())]
        error = decoded.clamp(low, high).double() - real
        sums += [error.abs().sum().item(), error.square().sum().item(), real.sum().item(), real.square().sum().item()]
    absolute, squares, total, total_squares = (sums / array.size).tolist()
    return {
        "mean_absolute_hu": absolute,
        "psnr": _decibel(squares, high - low),
        "psnr_of_grey": _decibel(total_squares - total**2, high - low),
        "low_hu": ends[0],
        "high_hu": ends[1],
    }


def _decibel(squares: float, width: float) -> float:
    return 10 * math.log10(width**2 / max(squares, 1e-9)) if math.isfinite(squares) else -math.inf
