"""Configs of the built-in objectives. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]


def misplaced(prompts: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Problems of ``prompts`` in each of which a label should go once."""
    for place, prompt in enumerate(prompts):
        if prompt.count("{}") != 1:
            yield f"prompts.{place}", f"{prompt!r} has no single {{}} where the label goes"


class LatentFlowConfig(ComponentConfig):
    """Mean squared error of the backbone's prediction on noised latent blocks. CTFlow: noise_offset and context_noise 0.05."""

    trains: ClassVar[Literal["backbone"]] = "backbone"
    reads: ClassVar[Literal["latents"]] = "latents"
    sections: ClassVar[frozenset[str]] = frozenset({"autoencoder", "text_encoder", "backbone", "schedule", "rollout"})

    noise_offset: NonNegative = 0.0
    """Standard deviation of a constant added to the noise of each (sample, channel)."""
    context_noise: NonNegative = 0.0
    """Standard deviation of noise added to the context, so that the network learns to forgive its own errors. It is told to
    backbones that listen (stdit: context_level_input); CTFlow's does not."""
    context_noise_levels: Literal["fixed", "uniform"] = "fixed"
    """"uniform": each sample's level is drawn between 0 and ``context_noise``, for a backbone that is told;
    sample.context_noise then chooses one."""
    text_dropout: Probability = 0.0
    """Share of samples that see the null text; guidance needs some."""
    impressions_only: Probability = 0.0
    """Share of samples that see the report's impressions alone, as short as what people type. Needs encode.impressions=true.
    A network that has read whole reports only takes a short text for something it does not know."""
    context_dropout: Probability = 0.0
    """Share of samples whose context is all zeros (and its level unknown)."""
    balance: Literal["none", "labels"] = "none"
    """"labels": rare findings are drawn more often. Case i weighs the sum of 1 / n_g over the groups it is in: one group per
    label that occurs, one of the cases without any; n_g cases are in group g."""
    balance_cap: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0
    """No case is drawn more than this many times as often as without balance."""
    finding_head: NonNegative = 0.0
    """Weight of a second loss: from the network's hidden tokens, a layer that is thrown away later tells which findings each
    one holds, as masks say. Near noise the report alone knows, so that the network heeds it early; as REPA (arXiv 2410.06940),
    with masks in place of another network's features. Needs data with masks and a backbone that tells its tokens (stdit)."""
    finding_share: Probability = 0.0
    """Where masks say that a finding is, errors weigh more: however small it is, it gets up to this share of its block's
    weight. Needs data with masks (atlas-thorax: masks=true). A mean over all cells hardly notices a nodule."""
    finding_cap: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0
    """No cell weighs more than this many times as much as one without finding: what is weighed more is also drawn more often,
    where the report leaves it open."""


class ReportLabelsConfig(ComponentConfig):
    """The text encoder learns to state a report's labels, and side, size and lobe of findings where they are known."""

    trains: ClassVar[Literal["text_encoder"]] = "text_encoder"
    reads: ClassVar[Literal["reports"]] = "reports"
    sections: ClassVar[frozenset[str]] = frozenset({"text_encoder"})

    facts: NonNegative = 1.0
    """Weight of side, size and lobe, of findings that are there, beside the labels."""
    composed: Probability = 0.0
    """Share of texts that are no reports but a few short statements ("Large left pleural effusion. No consolidation."), from
    which it is learnt soonest that words next to each other belong together."""
    plain_text: Probability = 0.0
    """Share of reports that are read as findings and impressions alone, and not in the text encoder's own template."""
    prompt_weight: NonNegative = 0.0
    """Weight of the labels in short texts: ``prompts`` for each label, as zero-shot labels are asked for."""
    prompts: tuple[str, str] = ("{} is present.", "{} is not present.")
    """What says that a label, in place of {}, is there and that it is not; the default is CT-CLIP's."""

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        yield from misplaced(self.prompts)
