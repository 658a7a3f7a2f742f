"""Turns a trained backbone's whitening to a text encoder that was trained on, so that the backbone's training can go on.

    python -m ctgen_ctflow.new_text BACKBONE.safetensors OLD_RUN/encode-xxxxxxxx NEW_RUN/encode-xxxxxxxx OUT.safetensors

Both folders are finished encode stages of the same cases, with the old text encoder and with the new one, or the new one with
impressions alone as well (encode.impressions), which the whitening is then fitted to. Only its buffers change (see
ctgen.whitening.Whitening.fit_like); prints how alike what they give of whole reports is to what they gave before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ctgen.atomic import write_atomically
from ctgen.data.latents import IMPRESSIONS, LatentStore
from ctgen.errors import CheckpointError, CtgenError, DataError
from ctgen.safetensors_file import save_file
from ctgen.whitening import Whitening

FEWEST = 256
"""Reports that both folders must have: below this, chance decides which way to turn."""


def turned(
    weights: dict[str, Tensor], old_NE: Tensor, new_NE: Tensor, others_ME: Tensor | None = None
) -> tuple[dict[str, Tensor], float]:
    """The weights with their whitening turned, and how alike its outputs are to before. CheckpointError if there is none."""
    names = [name for name in weights if name.endswith("whitening.matrix")]
    if len(names) != 1:
        raise CheckpointError(f"expected one whitening.matrix among the weights, found {len(names)}")
    mean, matrix = names[0].removesuffix("matrix") + "mean", names[0]
    before, after = Whitening(old_NE.shape[1]), Whitening(new_NE.shape[1])
    if weights[matrix].shape != before.matrix.shape or old_NE.shape != new_NE.shape:
        raise CheckpointError(
            f"vectors {tuple(old_NE.shape)} before, {tuple(new_NE.shape)} now, whitening of {tuple(weights[matrix].shape)}"
        )
    before.mean.copy_(weights[mean])
    before.matrix.copy_(weights[matrix])
    alike = after.fit_like(new_NE, before(old_NE), others_ME)
    changed = {mean: after.mean, matrix: after.matrix}
    return {**weights, **{name: value.to(weights[name].dtype) for name, value in changed.items()}}, alike


def vectors(store: LatentStore, ids: Sequence[str], *, impressions: bool = False) -> Tensor:
    """(N, E) pooled vectors of reports, or of their impressions alone."""
    found = [store.text(case_id, impressions=impressions).pooled for case_id in ids]
    present = [one for one in found if one is not None]
    if len(present) < len(found):
        raise DataError(
            "the cache holds tokens without a pooled vector", hint="encode with text_encoder.output: vector or both"
        )
    return torch.cat([one.reshape(1, -1).float() for one in present])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("backbone", "old", "new", "out"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    try:
        old, new = (LatentStore(folder / "latents.h5") for folder in (options.old, options.new))
        ids = sorted(set(old.ids) & set(new.ids))
        if len(ids) < FEWEST:
            raise DataError(f"{len(ids)} cases in both {options.old} and {options.new}", hint=f"at least {FEWEST} are needed")
        short = [case_id for case_id in ids if f"{IMPRESSIONS}pooled" in new.group(case_id)]
        others = vectors(new, short, impressions=True) if short else None
        weights, alike = turned(load_file(options.backbone), vectors(old, ids), vectors(new, ids), others)
        with safe_open(options.backbone, "pt") as file:
            metadata = file.metadata() or {}
        write_atomically(options.out, lambda path: save_file(weights, path, metadata=metadata))
    except CtgenError as error:
        print(error, file=sys.stderr)
        return 2
    told = f", and it is fitted to the impressions of {len(short)} as well" if short else ""
    print(f"{options.out}: what the whitening gives for {len(ids)} reports correlates with what it gave by {alike:.2f}{told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
