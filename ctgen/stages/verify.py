"""Can a latent cache be trusted? Every case's bytes, and a sample decoded and compared with the volumes it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ctgen.atomic import read_json
from ctgen.data.latent_stats import case_stats, together
from ctgen.data.latents import LatentStore, digest_of
from ctgen.data.masks import DAMAGED
from ctgen.data.prepared import PreparedCases, sha256_of_array
from ctgen.errors import DataError, StageError
from ctgen.interfaces import Posterior
from ctgen.recipe import load_recipe
from ctgen.stages.components import build
from ctgen.stages.encode import case_key, decoding_error, digest, finalised, own_device
from ctgen.stages.plan import DONE

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.host import Host

USUAL_STD = (0.5, 2.0)
POSSIBLE_STD = (0.1, 10.0)
"""Standard deviation of finalised latents, ideally 1: outside the first a warning; outside the second wrong (of one channel, a
warning: one scale for all channels, as FLUX has it, cannot fit each)."""


@dataclass(frozen=True)
class Finding:
    """``where``: a case's id, a file, or "" for the cache as a whole."""

    level: Literal["wrong", "warning"]
    where: str
    message: str


@dataclass
class Verification:
    """``decoded``: case -> numbers of ctgen.stages.encode.decoding_error; ``latents``: finalised; mean and std of all
    and, in lists, by channel.
    """

    folder: Path
    cases: int = 0
    readable: int = 0
    decoded: dict[str, dict[str, float]] = field(default_factory=dict)
    latents: dict[str, Any] = field(default_factory=dict)
    text_norms: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not any(finding.level == "wrong" for finding in self.findings)

    def wrong(self, where: str, message: str) -> None:
        self.findings.append(Finding("wrong", where, message))

    def warn(self, where: str, message: str) -> None:
        self.findings.append(Finding("warning", where, message))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder), "right": self.right}

    def lines(self) -> list[str]:
        """For people: numbers, then what is wrong, then what is unusual."""
        found = [f"{self.folder}", f"  cases        {self.readable} of {self.cases} read back with their checksums"]
        if self.decoded:
            psnr = sorted(entry["psnr"] for entry in self.decoded.values())
            error = sum(entry["mean_absolute_hu"] for entry in self.decoded.values()) / len(psnr)
            low = min(entry["low_hu"] for entry in self.decoded.values())
            high = max(entry["high_hu"] for entry in self.decoded.values())
            range_db = f"PSNR {psnr[0]:.1f} .. {psnr[-1]:.1f} dB (median {psnr[len(psnr) // 2]:.1f})"
            found.append(f"  decoded      {len(psnr)} cases: {range_db}, mean error {error:.1f} HU, HU {low:.0f} .. {high:.0f}")
        if self.latents:
            mean, std = self.latents["mean"], self.latents["std"]
            found.append(
                f"  latents      mean {self.latents['latent_mean']:.2f}, standard deviation {self.latents['latent_std']:.2f}; "
                f"by channel {min(mean):.2f} .. {max(mean):.2f} and {min(std):.2f} .. {max(std):.2f} (ideal: 0 and 1)"
            )
        if self.text_norms:
            found += [
                "  text         norms " + ", ".join(f"{name} {value:.3g}" for name, value in sorted(self.text_norms.items()))
            ]
        for level in ("wrong", "warning"):
            these = [finding for finding in self.findings if finding.level == level]
            found += [
                f"{level}: {entry.where}: {entry.message}" if entry.where else f"{level}: {entry.message}"
                for entry in these[:40]
            ]
            if len(these) > 40:
                found.append(f"{level}: {len(these) - 40} more (--json lists all)")
        return [*found, "right" if self.right else "WRONG"]


def verify(path: Path, *, cases: int, host: Host, console: Console) -> Verification:
    """Check the cache at ``path`` (an encode folder, or a run folder: its newest); ``cases`` of it are decoded.

    Raises StageError where there is no finished cache; what is wrong with one is in the result.
    """
    folder = _cache(path)
    try:
        manifest = read_json(folder / "manifest.json")
    except ValueError as error:
        raise StageError(f"{folder / 'manifest.json'} is damaged: {error}", hint="encode again: remove the folder") from error
    found = Verification(folder, cases=len(manifest["cases"]))
    try:
        prepared: PreparedCases | None = PreparedCases(folder.parent / manifest["prepared"])
    except StageError:
        prepared = None
        found.warn("", f"the prepared volumes ({manifest['prepared']}) are not beside it: nothing is compared with them")
    store = LatentStore(folder / "latents.h5")
    try:
        _index(found, store, manifest)
    except (OSError, RuntimeError) as error:
        found.wrong("latents.h5", f"cannot be read: {error}")
        return found
    good = []
    for case_id in console.track(manifest["cases"], "verify", unit="cases"):
        before = len(found.findings)
        _case(found, store, prepared, case_id, manifest["index"][case_id]["digest"])
        if len(found.findings) == before:
            good.append(case_id)
    found.readable = len(good)
    _text(found, store, prepared, good)
    recipe = load_recipe(folder / "recipe.yaml", host=host)
    autoencoder = build(recipe, "autoencoder").eval().to(own_device())
    if autoencoder.weights.sha256 != manifest["autoencoder_weights"]:
        found.wrong("", "the autoencoder's weights are not those that the cache was made with: it cannot be decoded")
        return found
    _decode(found, store, prepared, autoencoder, _spread(good, cases), console)
    return found


def _cache(path: Path) -> Path:
    """``path`` itself, or the newest finished encode folder in it."""
    finished = [
        folder for folder in (path, *path.glob("encode-*")) if (folder / DONE).is_file() and (folder / "latents.h5").exists()
    ]
    if not finished:
        raise StageError(
            f"no finished latent cache at {path}", hint="give RUN/encode-..., or make one: ctgen run RECIPE --until encode"
        )
    return max(finished, key=lambda folder: (folder / DONE).stat().st_mtime_ns)


def _index(found: Verification, store: LatentStore, manifest: dict[str, Any]) -> None:
    listed, indexed = set(manifest["cases"]), set(store.ids)
    for case_id in sorted(listed - indexed):
        found.wrong(case_id, "is in the manifest, but not in latents.h5")
    for case_id in sorted(indexed - listed):
        found.wrong(case_id, "is in latents.h5, but not in the manifest")
    for shard in sorted({entry["shard"] for entry in manifest["index"].values()}):
        if not (store.path.parent / shard).is_file():
            count = sum(entry["shard"] == shard for entry in manifest["index"].values())
            found.wrong(shard, f"is missing, and with it {count} cases")


def _case(found: Verification, store: LatentStore, prepared: PreparedCases | None, case_id: str, expected: str) -> None:
    """Checksums, non-finite values, and that the latents belong to the volume and report that are prepared."""
    try:
        group = store.group(case_id)
        arrays = {name: group[name][()] for name in group}
        hashes = {name: group[name].attrs["sha256"] for name in group}
        together = digest(group)
        key = group.attrs["key"]
    except (DataError, OSError, KeyError, RuntimeError) as error:
        found.wrong(case_id, f"cannot be read: {str(error).splitlines()[0]}")
        return
    for name, array in arrays.items():
        if digest_of(array) != hashes[name]:
            found.wrong(case_id, f"{name}: the values are not those that were written (checksum)")
        if bad := int(array.size - np.isfinite(array).sum()):
            found.wrong(case_id, f"{name}: {bad} of {array.size} values are NaN or infinite")
    if together != expected:
        found.wrong(case_id, "is not the case that the manifest lists (checksum)")
    missing = {"mean", "tokens"} - arrays.keys()
    if missing:
        found.wrong(case_id, f"has no {', '.join(sorted(missing))}")
    elif arrays["tokens"].shape[0] == 0 or not np.abs(arrays["tokens"]).sum():
        found.wrong(case_id, "text features are all 0")
    if prepared is None:
        return
    try:
        current = case_key(prepared, case_id)
    except (OSError, KeyError, ValueError) as error:
        found.wrong(case_id, f"its prepared record cannot be read: {error}")
        return
    if key != current:
        found.wrong(case_id, "was encoded from another volume or report than the prepared one")


def _text(found: Verification, store: LatentStore, prepared: PreparedCases | None, ids: Sequence[str]) -> None:
    """Lengths of text features, and whether different reports have different ones."""
    norms: dict[str, list[float]] = {"tokens": [], "pooled": []}
    seen: dict[bytes, str] = {}
    for case_id in _spread(ids, 200):
        text = store.text(case_id)
        norms["tokens"].append(text.tokens.norm(dim=-1).mean().item())
        if text.pooled is not None:
            norms["pooled"].append(text.pooled.norm().item())
        features = text.tokens.numpy().tobytes()
        if prepared is not None:
            report = str(prepared.prompt(case_id))
            other = seen.setdefault(features, report)
            if other != report:
                found.wrong(case_id, "has the text features of another report")
    found.text_norms = {name: sum(values) / len(values) for name, values in norms.items() if values}


def _decode(
    found: Verification,
    store: LatentStore,
    prepared: PreparedCases | None,
    autoencoder: Any,
    ids: Sequence[str],
    console: Console,
) -> None:
    low, high = autoencoder.hu_range
    stats = []
    for case_id in console.track(ids, "decode", unit="cases"):
        stats.append(case_stats(Posterior(finalised(autoencoder, store.posterior(case_id), own_device()).cpu())))
        if prepared is None:
            continue
        try:
            array = prepared.array(case_id)
            intact = sha256_of_array(array) == prepared.record(case_id)["voxels_sha256"]
        except (OSError, ValueError) as error:
            found.wrong(case_id, f"its prepared volume cannot be read: {error}")
            continue
        if not intact:
            found.wrong(case_id, "its prepared volume is not the one that was written (checksum)")
        try:
            if not prepared.masks_intact(case_id):
                found.wrong(case_id, "its prepared masks are not those that were written (checksum)")
        except DAMAGED as error:
            found.wrong(case_id, f"its prepared masks cannot be read: {error}")
        numbers = decoding_error(autoencoder, store, prepared, case_id)
        found.decoded[case_id] = numbers
        if not all(math.isfinite(value) for value in numbers.values()):
            found.wrong(case_id, "decodes to NaN or infinite HU")
        elif numbers["psnr"] <= numbers["psnr_of_grey"]:
            found.wrong(
                case_id,
                f"decodes to something else: PSNR {numbers['psnr']:.1f} dB, an evenly grey volume has "
                f"{numbers['psnr_of_grey']:.1f} dB",
            )
        elif numbers["low_hu"] < low - (high - low) or numbers["high_hu"] > high + (high - low):
            found.warn(
                case_id, f"decodes to {numbers['low_hu']:.0f} .. {numbers['high_hu']:.0f} HU; the window is {low:g} .. {high:g}"
            )
    if stats:
        whole = together(stats)
        found.latents = {"latent_mean": whole["latent_mean"], "latent_std": whole["latent_std"], **whole["by_channel"]}
        _scale(found)


def _scale(found: Verification) -> None:
    std = found.latents["latent_std"]
    ideal = "1 is what the autoencoder's scale is for"
    if not POSSIBLE_STD[0] <= std <= POSSIBLE_STD[1]:
        found.wrong("", f"the standard deviation of the finalised latents is {std:.3g}; {ideal}")
    elif not USUAL_STD[0] <= std <= USUAL_STD[1]:
        found.warn("", f"the standard deviation of the finalised latents is {std:.3g}; {ideal}")
    for channel, own in enumerate(found.latents["std"]):
        if not POSSIBLE_STD[0] <= own <= POSSIBLE_STD[1]:
            found.warn("", f"channel {channel} of the finalised latents has standard deviation {own:.3g}")


def _spread(ids: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of ``ids``, evenly spread."""
    if len(ids) <= count:
        return list(ids)
    return [ids[index * len(ids) // count] for index in range(count)]
