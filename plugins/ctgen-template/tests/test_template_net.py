"""The network does what ctgen asks of every backbone."""

from __future__ import annotations

from ctgen_template import plugin

from ctgen import Host
from ctgen.interfaces import LatentSpec, TextSpec
from ctgen.testing import check_backbone

LATENT = LatentSpec(channels=4, stride=(1, 8, 8))
TEXT = TextSpec(width=16, max_tokens=8)


def test_template_net_conforms() -> None:
    host = Host()
    host.register(plugin, "template-net")
    net = host.create("backbone", "template-net", latent=LATENT, text=TEXT, width=8)
    check_backbone(net, latent=LATENT, text=TEXT, listens_to=("time", "text"))
