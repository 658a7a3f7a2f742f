"""Base of every component's config: frozen, typed, unknown keys refused. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from typing_extensions import Self

from ctgen.interfaces import Sizes


class ComponentConfig(BaseModel):
    """Fields are what a recipe may write beside ``use:``; units belong in their names (``spacing_mm``, ``warmup_steps``).

    An autoencoder's config also has ``latent_spec() -> LatentSpec``, a text encoder's ``text_spec() -> TextSpec``,
    a rollout's ``block_length(depth) -> int`` (latent slices per block for a volume of ``depth``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    neutral: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change a result (worker counts, logging): left out of fingerprints."""

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        """(field, message) for each thing that does not fit the sizes of the other components."""
        return ()

    def identity(self) -> dict[str, Any]:
        """JSON-ready fields that determine results, for fingerprints."""
        return self.model_dump(mode="json", exclude=set(self.neutral))

    def without_files(self) -> Self:
        """A config of the same sizes that reads no weights, for estimates. Override it if other fields name files as well."""
        return self.model_copy(update={"weights": "random"}) if "weights" in type(self).model_fields else self
