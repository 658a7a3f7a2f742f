"""Plugins for tests, installed by nothing more than a .dist-info folder on PYTHONPATH."""

from __future__ import annotations

from pathlib import Path


def install(site: Path, name: str, source: str, *, module: str | None = None, distribution: str | None = None) -> Path:
    """Write ``source`` as a module and an entry point of the group ``ctgen`` into ``site``; returns ``site``."""
    module = module or f"{name.replace('-', '_')}_plugin"
    distribution = distribution or f"test-{name}"
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[ctgen]\n{name} = {module}\n", encoding="utf-8")
    return site


MORTAL = '''
"""Components that kill their process (SIGKILL) once, at the moment named by the file in CTGEN_TEST_KILL: "what:count"."""
import os, signal
from pathlib import Path
from ctgen import hookimpl
from ctgen.builtin.configs import TinyAeConfig
from ctgen.builtin.exporter_configs import ExporterConfig
from ctgen.config import ComponentConfig
from ctgen.data.folder_config import FolderConfig

calls = {}

def mortal(what):
    calls[what] = calls.get(what, 0) + 1
    order = Path(os.environ.get("CTGEN_TEST_KILL", "/nonexistent"))
    if order.is_file() and order.read_text() == f"{what}:{calls[what]}":
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def ctgen_register(registrar):
    registrar.dataset("mortal", target="mortal_parts:Data", config=FolderConfig)
    registrar.autoencoder("mortal", target="mortal_parts:Ae", config=TinyAeConfig)
    registrar.exporter("mortal", target="mortal_parts:Export", config=ExporterConfig)
    registrar.metric("mortal", target="mortal_parts:Watch", config=ComponentConfig)

@hookimpl
def ctgen_train_step(step, values):
    mortal("train")

@hookimpl
def ctgen_stage_started(stage, folder):
    mortal(stage)
'''

MORTAL_PARTS = """
from mortal_plugin import mortal
from ctgen.builtin.autoencoder import TinyAe
from ctgen.builtin.exporters import NiftiExporter
from ctgen.data.folder import FolderDataset

class Data(FolderDataset):
    def __getitem__(self, index):
        case = super().__getitem__(index)
        mortal("read")
        return case

class Ae(TinyAe):
    def encode(self, volume):
        mortal("encoded")
        return super().encode(volume)

class Export(NiftiExporter):
    def write(self, volume, path):
        written = super().write(volume, path)
        mortal("exported")
        return written

class Watch:
    needs = frozenset({"real"})
    higher_is_better = {"seen": None}
    def __init__(self, config):
        self.seen = 0
    def update(self, item):
        self.seen += 1
        mortal("evaluated")
    def merge(self, other):
        self.seen += other.seen
    def compute(self):
        return {"seen": float(self.seen)}
"""
