"""Stage encode: prepared volumes and reports to posterior moments and text features, one HDF5 file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctgen.atomic import read_json, write_json
from ctgen.data.latents import LatentStore, merge_parts, write_part
from ctgen.data.prepared import PreparedCases
from ctgen.errors import StageError
from ctgen.interfaces import Posterior, Prompt, TextFeatures
from ctgen.stages.components import device, require
from ctgen.stages.context import Context


def encode_slices(autoencoder: Any, hu: np.ndarray[Any, Any], batch_slices: int, where: torch.device) -> Posterior:
    """(D, H, W) HU -> moments (1, c, d, h, w) on the CPU, ``batch_slices`` at a time if the code has no stride along D."""
    volume = torch.from_numpy(np.asarray(hu, dtype=np.float32))[None, None]
    step = batch_slices if autoencoder.latent.stride[0] == 1 else volume.shape[2]
    with torch.inference_mode():
        parts = [autoencoder.encode(part.to(where)) for part in torch.split(volume, step, dim=2)]
    mean = torch.cat([part.mean.cpu() for part in parts], dim=2)
    has_logvar = all(part.logvar is not None for part in parts)
    return Posterior(mean, torch.cat([part.logvar.cpu() for part in parts], dim=2) if has_logvar else None)


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
    """Resumable per case: each case is a small file until all are there and merged."""
    recipe = context.recipe
    autoencoder = require(context.components, "autoencoder").to(device())
    text_encoder = require(context.components, "text_encoder").to(device())
    prepared = PreparedCases(context.folders["prepare"])
    ids = [case["id"] for case in prepared.manifest["cases"]]
    if (folder / "manifest.json").is_file():
        # killed after the merge, before the stage could say that it is done
        shutil.rmtree(folder / "parts", ignore_errors=True)
        return dict(read_json(folder / "manifest.json")["summary"])
    parts = [(case_id, folder / "parts" / f"{case_id}.h5") for case_id in ids]
    with context.console.task("encode", len(parts), unit="cases") as task:
        for case_id, part in parts:
            if not part.is_file():
                posterior = encode_slices(autoencoder, prepared.array(case_id), recipe.encode.batch_slices, device())
                _check_finite(posterior, case_id)
                with torch.inference_mode():
                    text = text_encoder.encode([prepared.prompt(case_id)])
                write_part(part, posterior, _on_cpu(text))
            task.advance(note=case_id)
            context.stopper.check()
    merge_parts(parts, folder / "latents.h5")
    store, checked = LatentStore(folder / "latents.h5"), ids[: recipe.encode.check_cases]
    summary = {"cases": len(ids), **_statistics(store, ids[: max(1, len(checked))])}
    summary |= _cut_prompts(context, text_encoder, [prepared.prompt(case_id) for case_id in ids])
    if checked:
        summary["decoded_error_hu"] = _decoded_error(autoencoder, store, prepared, checked)
    write_json(
        folder / "manifest.json",
        {
            "cases": ids,
            "autoencoder": recipe.use("autoencoder").identity(),
            "autoencoder_weights": autoencoder.weights.sha256,
            "text_encoder": recipe.use("text_encoder").identity(),
            "text_encoder_weights": text_encoder.weights.sha256,
            "window_hu": list(autoencoder.hu_range),
            "summary": summary,
        },
    )
    shutil.rmtree(folder / "parts")
    return summary


def _check_finite(posterior: Posterior, case_id: str) -> None:
    """The cache holds half precision: what is infinite there is lost."""
    for name, moment in (("latents", posterior.mean), ("log-variances", posterior.logvar)):
        if moment is not None and not torch.isfinite(moment.half()).all():
            raise StageError(
                f"the autoencoder's {name} for case {case_id} do not fit half precision (up to {moment.abs().max():.3g})",
                hint="are these the weights of another autoencoder? ctgen show RECIPE names them",
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


def _decoded_error(autoencoder: Any, store: LatentStore, prepared: PreparedCases, ids: list[str]) -> float:
    """Mean absolute error in HU, inside the window, of a few cases decoded from the cache: large means unfit weights."""
    low, high = autoencoder.hu_range
    errors = []
    for case_id in ids:
        latent = finalised(autoencoder, store.posterior(case_id), device())
        hu = decode_slices(autoencoder, latent, device()).clamp(low, high)
        real = torch.from_numpy(prepared.array(case_id).astype(np.float32)).clamp(low, high)
        errors.append((hu - real).abs().mean().item())
    return round(sum(errors) / len(errors), 2)


def _statistics(store: LatentStore, ids: list[str]) -> dict[str, float]:
    """Mean and standard deviation of the raw latents of a few cases: what scale and shift should undo."""
    values = torch.cat([store.posterior(case_id).mean.flatten() for case_id in ids])
    return {"latent_mean": round(values.mean().item(), 4), "latent_std": round(values.std().item(), 4)}
