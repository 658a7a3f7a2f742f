"""Stage encode: prepared volumes and reports to posterior moments and text features, one HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctgen.atomic import write_json
from ctgen.data.latents import LatentStore, merge_parts, write_part
from ctgen.data.prepared import PreparedCases
from ctgen.errors import StageError
from ctgen.interfaces import Posterior, TextFeatures
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


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Resumable per case: each case is a small file until all are there and merged."""
    recipe = context.recipe
    autoencoder = require(context.components, "autoencoder").to(device())
    text_encoder = require(context.components, "text_encoder").to(device())
    prepared = PreparedCases(context.folders["prepare"])
    ids = [case["id"] for case in prepared.manifest["cases"]]
    parts = [(case_id, folder / "parts" / f"{case_id}.h5") for case_id in ids]
    with context.console.task("encode", len(parts), unit="cases") as task:
        for case_id, part in parts:
            if not part.is_file():
                posterior = encode_slices(autoencoder, prepared.array(case_id), recipe.encode.batch_slices, device())
                if not torch.isfinite(posterior.mean).all():
                    raise StageError(f"the autoencoder gives non-finite latents for case {case_id}")
                with torch.inference_mode():
                    text = text_encoder.encode([prepared.prompt(case_id)])
                write_part(part, posterior, _on_cpu(text))
            task.advance(note=case_id)
            context.stopper.check()
    merge_parts(parts, folder / "latents.h5")
    summary = {"cases": len(ids), **_statistics(LatentStore(folder / "latents.h5"), ids[: max(1, recipe.encode.check_cases)])}
    write_json(
        folder / "manifest.json",
        {
            "cases": ids,
            "autoencoder": recipe.use("autoencoder").identity(),
            "autoencoder_weights": autoencoder.weights.sha256,
            "text_encoder": recipe.use("text_encoder").identity(),
            "text_encoder_weights": text_encoder.weights.sha256,
            "window_hu": list(autoencoder.hu_range),
            **summary,
        },
    )
    for _, part in parts:
        part.unlink()
    (folder / "parts").rmdir()
    return summary


def _on_cpu(text: TextFeatures) -> TextFeatures:
    pooled = None if text.pooled is None else text.pooled.float().cpu()
    return TextFeatures(text.tokens.float().cpu(), text.mask.cpu(), pooled)


def _statistics(store: LatentStore, ids: list[str]) -> dict[str, float]:
    """Mean and standard deviation of the raw latents of a few cases: what scale and shift should undo."""
    values = torch.cat([store.posterior(case_id).mean.flatten() for case_id in ids])
    return {"latent_mean": round(values.mean().item(), 4), "latent_std": round(values.std().item(), 4)}
