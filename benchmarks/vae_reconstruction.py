"""Reconstruction of real slices by the mini autoencoder, TAEF1 (the public tiny FLUX autoencoder) and a plain cosine codec.

    python benchmarks/vae_reconstruction.py SCANS --taef1 FOLDER [--weights mini] [-o benchmarks/results]

SCANS: a folder of chest scans that the autoencoder never saw (leave others out by --without NAME). TAEF1's files:
taef1_encoder.safetensors, taef1_decoder.safetensors (madebyollin/taesd, MIT). Axial slices as they are (H, W cropped to
multiples of 8), window [-1000, 1000] HU; PSNR and SSIM per slice by torchmetrics, averaged per scan. All three codes spend 16
numbers on 8 x 8 pixels.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ctgen import Host
from ctgen.atomic import write_text
from ctgen.interfaces import Posterior
from ctgen.volume.io import is_volume_file, read_volume, volume_stem

LOW, HIGH = -1000.0, 1000.0
Codec = Callable[[Tensor], Tensor]
"""(N, 1, H, W) HU -> the same, reconstructed."""


def component_codec(autoencoder: object) -> Codec:
    def run(hu: Tensor) -> Tensor:
        posterior: Posterior = autoencoder.encode(hu[:, :, None])  # type: ignore[attr-defined]
        decoded: Tensor = autoencoder.decode(autoencoder.finalise(posterior, generator=None))[:, :, 0]  # type: ignore[attr-defined]
        return decoded

    return run


@torch.inference_mode()
def measure(codec: Codec, slices: Tensor) -> tuple[float, float, float, float]:
    """PSNR dB, SSIM, mean absolute error HU, seconds per slice; means over slices."""
    started = time.perf_counter()
    decoded = torch.cat([codec(part) for part in torch.split(slices, 8)]).clamp(LOW, HIGH)
    seconds = (time.perf_counter() - started) / len(slices)
    real, fake = ((x - LOW) / (HIGH - LOW) for x in (slices, decoded))
    psnr = peak_signal_noise_ratio(fake, real, data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean")
    ssim = structural_similarity_index_measure(fake, real, data_range=1.0)
    return float(psnr), float(ssim), float((decoded - slices).abs().mean()), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", type=Path)
    parser.add_argument("--taef1", type=Path, required=True)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--every", type=int, default=1, help="take every n-th slice")
    parser.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="leave out scans with this in their name"
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    host = Host.discover()
    mini = host.create("autoencoder", "flux-vae", architecture="mini", weights=options.weights).eval()
    codecs = {
        f"flux-vae, {mini.weights.label}": component_codec(mini),
        # [-1, 1] is what it was trained on
        "TAEF1": component_codec(host.create("autoencoder", "taef1", weights=str(options.taef1), range=(-1.0, 1.0)).eval()),
        "tiny-ae (DCT)": component_codec(host.create("autoencoder", "tiny-ae", channels=16, cell=8)),
    }
    rows: list[dict[str, object]] = []
    for path in sorted(path for path in options.scans.iterdir() if is_volume_file(path)):
        if any(name in path.name for name in options.without):
            continue
        hu = read_volume(path).hu[:: options.every]
        _, height, width = hu.shape
        array = np.clip(hu[:, : height // 8 * 8, : width // 8 * 8], LOW, HIGH).astype(np.float32)
        slices = torch.from_numpy(np.ascontiguousarray(array))[:, None]
        for name, codec in codecs.items():
            psnr, ssim, mae, seconds = measure(codec, slices)
            rows.append(
                {"scan": volume_stem(path), "slices": len(slices), "pixels": f"{height}x{width}", "codec": name,
                 "psnr_db": psnr, "ssim": ssim, "mae_hu": mae, "seconds_per_slice": seconds}
            )  # fmt: skip
            print(rows[-1], flush=True)
    write(
        rows,
        list(codecs),
        options.out,
        mini.weights.sha256,
    )


def write(rows: list[dict[str, object]], codecs: list[str], out: Path, sha256: str) -> None:
    """vae_reconstruction.md and .json."""
    provenance = {
        "weights_sha256": sha256,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"cpu, {torch.get_num_threads()} threads",
        "protocol": "axial slices, window [-1000, 1000] HU, PSNR and SSIM per slice (torchmetrics), mean over slices",
    }
    lines = ["# Reconstruction of real slices", "", provenance["protocol"] + ".", ""]
    lines += ["| scan | slices | pixels | " + " | ".join(f"{name}: PSNR dB / SSIM / MAE HU" for name in codecs) + " |"]
    lines += ["|---" * (3 + len(codecs)) + "|"]
    for scan in dict.fromkeys(row["scan"] for row in rows):
        mine = {row["codec"]: row for row in rows if row["scan"] == scan}
        first = next(iter(mine.values()))
        cells = [f"{mine[name]['psnr_db']:.2f} / {mine[name]['ssim']:.3f} / {mine[name]['mae_hu']:.1f}" for name in codecs]
        lines.append(f"| {scan} | {first['slices']} | {first['pixels']} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {key}: {value}" for key, value in provenance.items()), ""]
    write_text(out / "vae_reconstruction.md", "\n".join(lines))
    write_text(out / "vae_reconstruction.json", json.dumps({"provenance": provenance, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
