"""Settings sections of a recipe: what belongs to a stage and not to one component. Imports neither torch nor numpy."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Voxels = Annotated[int, Field(ge=1, le=4096)]
Spacing = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0, le=1)]
Tolerance = Annotated[float, Field(ge=1e-12, lt=1)]
HounsfieldUnit = Annotated[float, Field(ge=-1024, le=3071)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def _absolute_unless_named(value: str) -> str:
    return value if value in ("weights", "none") else str(Path(value).expanduser().absolute())


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError(f"low {value[0]:g} must be below high {value[1]:g}: t is 0 at data and 1 at noise")
    return value


def _climbing(value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if len(value) == 1:
        raise ValueError("one pair makes no curve; write two or more, or none")
    for (before, as_before), (after, as_after) in pairwise(value):
        if not (before < after and as_before < as_after):
            raise ValueError(f"[{before:g}, {as_before:g}] and [{after:g}, {as_after:g}]: both HU must rise from pair to pair")
    return value


class Settings(BaseModel):
    """Base of the settings sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neutral: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change a result: left out of fingerprints."""

    def identity(self) -> dict[str, Any]:
        """JSON-ready fields that determine results, for fingerprints."""
        return self.model_dump(mode="json", exclude=set(self.neutral))


class PrepareSettings(Settings):
    """Scans to one canonical grid."""

    neutral: ClassVar[frozenset[str]] = frozenset({"workers"})

    size: tuple[Voxels, Voxels, Voxels] = Field((96, 128, 128), description="voxels (D, H, W) of a prepared volume")
    spacing_mm: Literal["keep"] | tuple[Spacing, Spacing, Spacing] = Field(
        (3.0, 3.0, 3.0), description='voxel spacing (D, H, W); "keep": each scan\'s own, which the backbone is told'
    )
    depth: Literal["crop", "pad"] = Field(
        "crop",
        description='scans of more than size[0] slices lose some at both ends; shorter ones stay short ("crop") or are filled',
    )
    depth_multiple: Voxels = Field(
        1, description="the number of slices is a multiple of this: what an autoencoder with a stride along D needs"
    )
    fill_hu: float = Field(-1000.0, ge=-2048, le=4096, description="HU of voxels outside the scan")
    min_depth_mm: NonNegative = Field(150.0, description="scans that cover less from end to end are left out, and listed")
    min_lung_fraction: Fraction = Field(0.03, description="scans with fewer lung voxels (no chest) are left out, and listed")
    workers: Count = Field(1, description="processes that prepare scans")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.size[0] % self.depth_multiple:
            raise ValueError(f"size[0] = {self.size[0]} slices is not a multiple of depth_multiple = {self.depth_multiple}")
        return self

    def grid_mm(self, own: tuple[float, float, float]) -> tuple[float, float, float]:
        """Spacing (D, H, W) of a prepared scan whose own spacing is ``own``."""
        return own if self.spacing_mm == "keep" else self.spacing_mm


class EncodeSettings(Settings):
    """Prepared volumes and reports to the latent and text cache."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_slices", "shard_cases"})

    batch_slices: Count = Field(16, description="slices encoded at a time; bounds memory")
    shard_cases: Count = Field(16, description="cases per file of the cache; under torchrun the files are shared out")
    check_cases: int = Field(2, ge=0, description="cases decoded again to check the autoencoder on this data")
    impressions: bool = Field(
        False,
        description="text features of each report's impressions alone as well, for objective latent-flow: impressions_only",
    )


class TrainSettings(Settings):
    """The training loop."""

    neutral: ClassVar[frozenset[str]] = frozenset({"checkpoint_every", "keep_checkpoints", "log_every", "workers"})

    steps: Count = Field(400, description="optimiser steps")
    batch: Count = Field(8, description="examples per step and process")
    optimiser: Literal["adamw", "muon"] = Field(
        "adamw", description='"muon": Muon for the matrices of repeated layers, AdamW for the rest (torch 2.9 or newer)'
    )
    muon_lr_ratio: Positive = Field(4.0, description="Muon's learning rate over lr, which is AdamW's")
    lr: Positive = Field(2e-4, description="learning rate after the warm-up")
    warmup_steps: int = Field(50, ge=0, description="steps over which the learning rate rises from 0")
    decay: Literal["constant", "inverse-sqrt", "cosine"] = Field("constant", description="learning rate after the warm-up")
    decay_rate: NonNegative = Field(2.0, description="inverse-sqrt: lr / sqrt(1 + decay_rate (s - warmup_steps) / decay_steps)")
    decay_steps: Positive = Field(1e6, description="inverse-sqrt: see decay_rate")
    lr_floor: NonNegative = Field(1e-6, description="inverse-sqrt: the rate falls no lower; does not hold in the warm-up")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="AdamW's moment decay rates")
    weight_decay: NonNegative = Field(1e-2, description="AdamW's decoupled weight decay")
    clip_norm: Positive = Field(1.0, description="gradient norm above which gradients are scaled down")
    ema_decay: Fraction = Field(0.999, description="decay of the averaged weights that sampling uses")
    ema_warmup: bool = Field(True, description="smaller EMA decay in the first steps, so that the start is forgotten")
    accumulate: Count = Field(1, description="batches per optimiser step")
    precision: Literal["no", "bf16", "fp16"] = Field("no", description="mixed precision of the forward pass")
    seed: Seed = Field(0, description="seed of every random draw in training")
    init: Annotated[str, AfterValidator(_absolute_unless_named)] = Field(
        "weights",
        description='"weights": as the component loads them; "none": random whatever it has; or a checkpoint folder',
    )
    checkpoint_every: Count = Field(100, description="steps between checkpoints: the most that an interruption can cost")
    keep_checkpoints: Count = Field(2, description="newest checkpoints that are kept")
    log_every: Count = Field(10, description="steps between lines of metrics.jsonl and tensorboard")
    workers: int = Field(0, ge=0, description="processes that draw batches; 0: the main process")
    adversary_lr: Positive = Field(2e-4, description="learning rate of the adversary, if the objective has one")


class SampleSettings(Settings):
    """Volumes from reports."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch"})

    solver: Literal["euler", "heun", "midpoint", "dpm", "dopri5"] = Field(
        "euler",
        description="how the velocity is integrated; evaluations per step: euler and dpm 1, heun and midpoint 2, dopri5 adapts",
    )
    steps: Count = Field(25, description="solver steps per block; of dopri5, only the length of the step that it tries first")
    rtol: Tolerance = Field(1e-5, description="error per step that dopri5 allows, relative to the latent")
    atol: Tolerance = Field(1e-5, description="error per step that dopri5 allows, absolute")
    guidance: NonNegative = Field(
        1.0, description="scale of guidance; 1: off. Needs a backbone trained with objective.text_dropout, or negative_report"
    )
    guidance_interval: Annotated[tuple[Time, Time], AfterValidator(_rising)] = Field(
        (0.0, 1.0), description="[low, high]: guidance only while t, which is 1 at noise, lies there (arXiv 2404.07724)"
    )
    guidance_method: Literal["cfg", "cfg-zero-star"] = Field(
        "cfg", description='"cfg-zero-star": the unconditional velocity is rescaled, the first steps are 0 (arXiv 2503.18886)'
    )
    guidance_zero_steps: int = Field(1, ge=0, description="first steps in which cfg-zero-star has velocity 0")
    negative_report: str = Field(
        "",
        description="report that guidance leans away from, as a negative prompt; empty: from the prediction without a report",
    )
    linear_guidance: NonNegative = Field(
        1.0,
        description="scale of guidance away from the best linear guess of the velocity, which only knows backbone.latent_std: "
        "sharper, at no evaluations; 1: off (autoguidance, arXiv 2406.02507, with the weakest of models)",
    )
    linear_guidance_interval: Annotated[tuple[Time, Time], AfterValidator(_rising)] = Field(
        (0.0, 0.45), description="[low, high]: linear_guidance only while t lies there; above, it moves what is large"
    )
    temperature: Positive = Field(
        1.0,
        description="scale of the initial noise; under 1: more typical, less diverse, not fair samples",
    )
    noise_offset: NonNegative = Field(
        0.0, description="standard deviation of a constant added to each channel's initial noise, as objective.noise_offset"
    )
    hu_curve: Annotated[tuple[tuple[HounsfieldUnit, HounsfieldUnit], ...], AfterValidator(_climbing)] = Field(
        (),
        description="[[decoded, calibrated], ...] in HU, rising, straight between: corrects what a model gets wrong in every "
        "volume; beyond its ends the shift stays. benchmarks/hu_curve.py fits one, for those weights alone; empty: none",
    )
    count: Count = Field(4, description="volumes to generate")
    batch: Count = Field(1, description="volumes denoised together; more is faster on a GPU and takes more memory")
    seed: Seed = Field(0, description="a case's draw depends on this and its id alone")
    split: Literal["train", "valid"] = Field("valid", description="cases whose reports are used")
    length: Literal["case", "model"] | Count = Field(
        "case", description='"case": as many slices as the real case; "model": the rollout\'s stop rule; or a number of slices'
    )
    mode: Literal["full-body", "gt-head", "block-wise"] = Field(
        "full-body",
        description='"full-body": all from the report; "gt-head": the real case\'s first blocks are kept and continued; '
        '"block-wise": each block from the report and the real slices below it (teacher forcing)',
    )
    head_blocks: int = Field(0, ge=0, description="gt-head: first blocks taken from the real case; 0 means one")
    context_noise: NonNegative = Field(
        0.0, description="standard deviation of noise added to each block's context; told to a backbone that listens"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.head_blocks and self.mode != "gt-head":
            raise ValueError(f"head_blocks is for mode gt-head, this is {self.mode}; write mode: gt-head")
        if self.guided and self.guidance_method == "cfg-zero-star" and self.guidance_zero_steps >= self.steps:
            raise ValueError(
                f"guidance_zero_steps {self.guidance_zero_steps} leaves nothing of {self.steps} steps; "
                "write fewer of the one or more of the other"
            )
        return self

    @property
    def guided(self) -> bool:
        return self.guidance != 1.0

    @property
    def unconditional(self) -> bool:
        """Whether the prediction without a report is asked for, which the backbone must have learnt."""
        return self.guided and not self.negative_report.strip()

    def identity(self) -> dict[str, Any]:
        """Without the options of a solver that is not used and of guidance that is off."""
        idle = set() if self.solver == "dopri5" else {"rtol", "atol"}
        if not self.guided:
            idle |= {"guidance", "guidance_interval", "guidance_method"}
        if not self.guided or self.unconditional:
            idle |= {"negative_report"}
        if not self.guided or self.guidance_method != "cfg-zero-star":
            idle |= {"guidance_zero_steps"}
        if self.linear_guidance == 1.0:
            idle |= {"linear_guidance", "linear_guidance_interval"}
        if not self.hu_curve:
            idle |= {"hu_curve"}
        return {name: value for name, value in super().identity().items() if name not in idle}


class EvaluateSettings(Settings):
    """Scores of reconstructed and generated volumes."""

    count: Count = Field(8, description="cases for reconstruction scores")
    reference: Count = Field(2000, description="at most so many training cases for metrics that compare with them")


class ReportSettings(Settings):
    """Pictures and report.html."""

    slices: Count = Field(8, description="axial slices per volume in a montage")
    window: Literal["lung", "soft", "wide", "bone"] = Field("wide", description="HU window of the pictures")


SETTINGS: dict[str, type[Settings]] = {
    "prepare": PrepareSettings,
    "encode": EncodeSettings,
    "train": TrainSettings,
    "sample": SampleSettings,
    "evaluate": EvaluateSettings,
    "report": ReportSettings,
}
"""Section name -> its model, in the order of the stages."""
