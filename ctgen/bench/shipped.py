"""The suites and protocols that ctgen ships; imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctgen.bench.frechet_chunks_config import FrechetChunksConfig

if TYPE_CHECKING:
    from ctgen.host import Registrar

SUITES = {
    "mini": "12 simulated chests that nothing was trained on: minutes on a laptop",
    "mini-64": "64 simulated chests that nothing was trained on",
    "mini-64-impressions": "mini-64, of whose reports models read the impressions alone",
    "ct-rate": "CT-RATE's validation scans at the paper's size; needs --data root=FOLDER",
}
PROTOCOLS = {
    "ctgen-mini": "ctgen's own, offline; never comparable with a paper",
    "ctgen-mini-clip": "report against volume, by the shipped mini CT-CLIP; never comparable with a paper",
    "ctgen-mini-labels": "labels found by label-cnn, independent of CT-CLIP; never comparable with a paper",
    "styleganv-fid": "FID over axial slices, StyleGAN's Inception",
    "styleganv-fvd16": "FVD over 16 slices, StyleGAN-V's I3D",
    "styleganv-fvd128": "FVD over 128 slices, StyleGAN-V's I3D",
    "is": "inception score over axial slices",
    "ct-clip-score": "CT-CLIP's cosine of volume and report, of volume and real scan",
    "vlm3d-2025": "the VLM3D challenge's evaluator of 2025",
    "maisi-2.5d": "FID of three planes, RadImageNet's ResNet-50, after MAISI",
}


def register_shipped(registrar: Registrar) -> None:
    registrar.metric(
        "frechet-chunks",
        target="ctgen.bench.frechet_chunks:FrechetChunks",
        config=FrechetChunksConfig,
        summary="mean Frechet distance of small chunks, as VLM3D 2025 has it",
    )
    for name, summary in SUITES.items():
        registrar.suite(name, package="ctgen.bench", resource=f"suites/{name}.yaml", summary=summary)
    for name, summary in PROTOCOLS.items():
        registrar.protocol(name, package="ctgen.bench", resource=f"protocols/{name}.yaml", summary=summary)
