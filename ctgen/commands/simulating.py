"""Words of ``ctgen data simulate`` that need more than a type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.errors import ConfigError

if TYPE_CHECKING:
    from ctgen.console import Console


def simulate(
    out: Path, cases: int, seed: int, *, layout: str, intensity: str, damage: bool, size: str | None, console: Console,
    present: str | None = None, absent: str | None = None, patient: int | None = None, prevalence: str | None = None,
    masks: bool = False,
) -> None:  # fmt: skip
    """Write the cases; ConfigError for words that do not fit together."""
    if layout not in ("folder", "ct-rate"):
        raise ConfigError(f"--layout {layout!r} is none", hint="choose folder or ct-rate")
    if intensity not in ("fixed", "raw"):
        raise ConfigError(f"--intensity {intensity!r} is none", hint="choose fixed or raw")
    if layout == "folder" and (damage or intensity != "fixed"):
        raise ConfigError("--damage and --intensity are for --layout ct-rate", hint="add --layout ct-rate")
    if masks and layout != "folder":
        raise ConfigError("--masks is for --layout folder", hint="leave --layout out")
    config = _with_findings(_config(size), present, absent, patient, prevalence)
    if layout == "folder":
        from ctgen.data.atlas.simulate import simulate_to_folder

        simulate_to_folder(out, cases, seed, config.model_copy(update={"masks": masks}), console=console)
        console.result(f"{cases} case{'s' if cases > 1 else ''} in {out}")
        return
    from ctgen.data.ct_rate.simulate import simulate_ct_rate

    kind = "raw" if intensity == "raw" else "fixed"
    simulate_ct_rate(out, cases, seed, kind=kind, damage=damage, config=config, console=console)  # type: ignore[arg-type]
    console.result(f"{cases} scan{'s' if cases > 1 else ''} in {out / 'dataset'}; what is in them: {out / 'planted.json'}")


def _with_findings(
    config: AtlasThoraxConfig, present: str | None, absent: str | None, patient: int | None, prevalence: str | None
) -> AtlasThoraxConfig:
    """``present`` and ``absent`` are names with commas between them."""
    told = [(name.strip(), there) for text, there in ((present, True), (absent, False)) if text for name in text.split(",")]
    if twice := [name for name, there in told if there and (name, False) in told]:
        raise ConfigError(f"{', '.join(twice)}: both with and without", hint="name a finding once")
    try:
        share = prevalence if prevalence in (None, "realistic") else float(prevalence)
    except ValueError:
        raise ConfigError(f"--prevalence {prevalence!r} is none", hint="write a number from 0 to 1, or realistic") from None
    changed = {"labels": dict(told), "patient": patient, **({} if share is None else {"prevalence": share})}
    try:
        checked = AtlasThoraxConfig.model_validate(changed)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()),
            hint=f"findings are {', '.join(FINDINGS)}",
        ) from None
    return config.model_copy(update={name: getattr(checked, name) for name in changed})


def _config(size: str | None) -> AtlasThoraxConfig:
    """Of ``size`` "D,H,W" voxels over the default field of view."""
    usual = AtlasThoraxConfig()
    if size is None:
        return usual
    try:
        d, h, w = (int(part) for part in size.split(","))
    except ValueError:
        raise ConfigError(f"--size {size!r} is not a size", hint="write D,H,W in voxels, as in --size 24,24,24") from None
    if min(d, h, w) < 16:
        raise ConfigError(f"--size {size}: at least 16 voxels along each axis")
    extent = [count * step for count, step in zip(usual.size, usual.spacing_mm, strict=True)]
    spacing = tuple(mm / count for mm, count in zip(extent, (d, h, w), strict=True))
    return usual.model_copy(update={"size": (d, h, w), "spacing_mm": spacing})
