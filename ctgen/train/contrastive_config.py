"""Config of the contrastive objective. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ctgen.interfaces import Sizes
from ctgen.train.configs import misplaced
from ctgen.train.volumes_config import Weight, WholeVolumesConfig

Probability = Annotated[float, Field(ge=0, le=1)]


class ContrastiveConfig(WholeVolumesConfig):
    """Reports against volumes (CLIP, arXiv 2103.00020): in a batch, each volume finds its report and each report its volume.

    Trains a text encoder that also embeds volumes (ctgen.interfaces.PairEncoder). Others of the same batch are the wrong ones,
    so that a larger batch asks more; across processes they are not shared.
    """

    trains: ClassVar[Literal["text_encoder"]] = "text_encoder"
    reads: ClassVar[Literal["volumes"]] = "volumes"
    sections: ClassVar[frozenset[str]] = frozenset({"text_encoder"})

    label_weight: Weight = 0.0
    """Weight of the labels' cross-entropy: volumes and reports against the two prompts of each label, as zero-shot labels are
    read off. For cases with labels."""
    prompts: tuple[str, str] = ("{} is present.", "{} is not present.")
    """What says that a label, in place of {}, is there and that it is not; the default is CT-CLIP's."""
    head_weight: Weight = 0.0
    """Weight of the labels as one linear head, thrown away later, reads them from volumes, reports and prompts alike: it gives
    each label a direction that both towers share long before the prompts, which it also trains, tell presence from absence."""
    mask_weight: Weight = 0.0
    """Weight of where findings are: at each level of the image tower, the vector of a part of the volume says which findings
    the part holds; at the last, the tokens, by its first 18 channels (at all, if all are pooled: ``pools_levels``). For cases
    with masks (data set ``atlas-thorax``: masks=true), and an encoder that tells its parts (PlaceEncoder)."""
    lock_text: bool = False
    """The text tower stays as it is, so that networks which were trained on what it makes of reports stay right; its projection
    into the common space and the image tower learn (the other way round: LiT, arXiv 2111.07991)."""
    plain_text: Probability = 0.5
    """Share of reports that are read as findings and impressions alone, and not in the text encoder's own template."""
    impressions_only: Probability = 0.0
    """Share of reports of which the impressions alone are read, where there are any: short texts are learnt from first."""
    candidates: Annotated[int, Field(ge=2)] = 64
    """Held-out cases among which the right report is sought, for the scores that are logged; at most twice as many are read."""

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        yield from misplaced(self.prompts)
        yield from super().check(sizes)
