"""ctgen doctor."""

from __future__ import annotations

import subprocess
import sys

from ctgen.doctor import LIBRARIES, examine, lines
from ctgen.host import Host, PluginRecord


def test_it_shows_versions_plugins_and_their_failures(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "hub" / "models--owner--name").mkdir(parents=True)
    host = Host()
    host.plugins.append(PluginRecord("broken", "broken-dist", "1.0", ModuleNotFoundError("No module named 'zzz'", name="zzz")))
    findings = list(examine(host, devices=False))
    topics = {finding.topic: finding for finding in findings}
    assert set(LIBRARIES) <= set(topics)
    assert all(finding.state != "broken" for finding in findings)
    assert topics["plugin"].state == "note" and "pip install zzz" in topics["plugin"].hint
    assert topics["hugging face"].value.startswith("1 models at") and "owner/name" in topics["hugging face"].hint
    assert lines(topics["plugin"]).startswith("! plugin")


def test_low_disk_is_noted(monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1e9, "total": 2e9})())
    states = {finding.topic: finding.state for finding in examine(Host(), devices=False)}
    assert states["disk, here"] == "note"


def test_devices_come_last_and_name_something():
    findings = list(examine(Host()))
    assert findings[-1].topic in ("devices", "cuda:0", "cuda:1", "cuda:2", "cuda:3") and findings[-1].state != "broken"


def test_all_but_the_devices_needs_no_torch():
    code = (
        "import sys; from ctgen.doctor import examine; from ctgen.host import Host;"
        "list(examine(Host.discover(), devices=False));"
        "print([name for name in ('torch', 'numpy', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
