"""Entry module: declares what the plugin offers. It must not import torch; ctgen imports `target` at first use."""

from __future__ import annotations

from ctgen import hookimpl
from ctgen.host import Registrar
from ctgen_template.config import TemplateNetConfig

PLUGIN_API = 1


@hookimpl
def ctgen_register(registrar: Registrar) -> None:
    registrar.backbone(
        "template-net",
        target="ctgen_template.net:TemplateNet",
        config=TemplateNetConfig,
        summary="three convolutions, to be replaced by something better",
    )
