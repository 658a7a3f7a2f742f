"""Config of the exporters."""

from __future__ import annotations

from ctgen.config import ComponentConfig


class ExporterConfig(ComponentConfig):
    """``whole_hu``: round to whole HU and store int16, as scanners do; otherwise float32 where values are not whole."""

    whole_hu: bool = True
