"""How a protocol hands reports and volumes over, where that is part of what it reproduces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctgen.atomic import write_json
from ctgen.bench.cases import Cases
from ctgen.bench.definitions import Protocol
from ctgen.bench.product import Product, folder_of
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical

if TYPE_CHECKING:
    from ctgen.host import Host


class Handing:
    """``folder/PROTOCOL/prompts.json`` for whoever generates elsewhere, and volumes in the protocol's format beside it."""

    def __init__(self, protocol: Protocol, folder: Path, host: Host) -> None:
        self.protocol, self.folder = protocol, folder / protocol.name
        self.exporter = None if protocol.settings.export == "nifti" else host.create("exporter", protocol.settings.export)

    def write_prompts(self, cases: Cases) -> None:
        """As the VLM3D challenge gives them: a list of {"input_image_name", "report"}."""
        if self.protocol.settings.prompts != "json":
            return
        reports = [(case_id, cases.given(case_id)) for case_id in cases.ids]
        entries = [
            {"input_image_name": case_id, "report": f"{report.findings} {report.impressions}".strip()}
            for case_id, report in reports
        ]
        write_json(self.folder / "prompts.json", entries)

    def volume(self, product: Product, case_id: str) -> Volume:
        """A model's volume as it arrives there, canonical."""
        path = product.volume(case_id)
        if self.exporter is not None:
            target = folder_of(self.folder, product.spec.name, product.fingerprint) / f"{case_id}{self.exporter.suffix}"
            if not target.exists():
                self.exporter.write(canonical(path), target)
            path = target
        return canonical(path)


def canonical(path: Path) -> Volume:
    return to_canonical(read_volume(path))[0]
