"""Config of the schedule `diffusers-flow`. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from ctgen.config import ComponentConfig

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class DiffusersFlowConfig(ComponentConfig):
    """diffusers' FlowMatchEulerDiscreteScheduler: its times and its steps, on the path z_t = (1 - t) x + t eps.

    It steps by itself, so sample.solver must be euler. Its option invert_sigmas is not offered: it turns time round.
    """

    solvers: ClassVar[frozenset[str]] = frozenset({"euler"})

    spacing: Literal["even", "scheduler"] = "even"
    """"even": times from 1 in equal steps to 0, then shifted, as diffusers' pipelines of FLUX and SD3 hand them in;
    "scheduler": as the scheduler spaces them itself, which ends with one step from 1 / train_steps to 0."""
    shift: Positive = 1.0
    """t becomes shift t / (1 + (shift - 1) t); above 1 spends more time near noise."""
    dynamic_shift: bool = False
    """The shift follows from the block's size, as for FLUX: mu goes linearly from base_shift to max_shift with the tokens."""
    base_shift: float = 0.5
    """mu at base_tokens."""
    max_shift: float = 1.15
    """mu at max_tokens."""
    base_tokens: Count = 256
    max_tokens: Count = 4096
    cells_per_token: Count = 8
    """Latent cells of a block per token of the backbone, for dynamic_shift; 8 = a patch of 2 x 2 x 2."""
    shift_type: Literal["exponential", "linear"] = "exponential"
    """dynamic_shift: t / (t + (1 - t) / exp(mu)), or with mu itself."""
    shift_terminal: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Stretch the times so that the last one before 0 is this; needs at least two steps."""
    sigmas: Literal["flow", "karras", "exponential", "beta"] = "flow"
    """How the times between the first and the last are placed."""
    stochastic: bool = False
    """Draw new noise in every step instead of following the ODE."""
    train_steps: Count = 1000
    """Training times are k / train_steps, shifted."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dynamic_shift and self.shift != 1.0:
            raise ValueError(
                f"shift {self.shift:g} has no effect with dynamic_shift; set base_shift and max_shift, or leave it"
            )
        if self.dynamic_shift and self.base_tokens >= self.max_tokens:
            raise ValueError(f"base_tokens {self.base_tokens} must be below max_tokens {self.max_tokens}")
        if self.dynamic_shift and self.shift_type == "linear" and min(self.base_shift, self.max_shift) <= 0:
            raise ValueError("with shift_type linear, base_shift and max_shift must be above 0")
        return self

    def arguments(self) -> dict[str, Any]:
        """For the scheduler's constructor: only what is not its default, so that older releases of diffusers do."""
        wanted = {
            "num_train_timesteps": self.train_steps,
            "shift": self.shift,
            "use_dynamic_shifting": self.dynamic_shift,
            "shift_terminal": self.shift_terminal,
            "time_shift_type": self.shift_type,
            "use_karras_sigmas": self.sigmas == "karras",
            "use_exponential_sigmas": self.sigmas == "exponential",
            "use_beta_sigmas": self.sigmas == "beta",
            "stochastic_sampling": self.stochastic,
        }
        usual = {"num_train_timesteps": 1000, "shift": 1.0, "time_shift_type": "exponential", "shift_terminal": None}
        return {name: value for name, value in wanted.items() if value != usual.get(name, False)}

    def mu(self, cells: int) -> float | None:
        """The shift's parameter for a block of ``cells`` latent cells; None without dynamic_shift."""
        if not self.dynamic_shift:
            return None
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return self.base_shift + slope * (cells / self.cells_per_token - self.base_tokens)
