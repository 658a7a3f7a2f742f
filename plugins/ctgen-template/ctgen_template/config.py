"""What a recipe may write beside `use: template-net`. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ctgen.config import ComponentConfig


class TemplateNetConfig(ComponentConfig):
    """Three convolutions that see noise, time and text."""

    width: Annotated[int, Field(ge=1)] = 32
    """Channels of the hidden layers."""
