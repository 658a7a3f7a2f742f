"""A virtual environment of its own for tests that install plugins, on top of the packages that run the tests."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
from pathlib import Path


class Sandbox:
    """``run(line)`` runs a shell line with the environment's python, pip, pytest and ctgen first on PATH; no network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir(parents=True)
        self.venv = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.venv)], check=True)
        self.python = self.venv / "bin" / "python"
        packages = self.venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        below = dict.fromkeys([sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"], *site.getsitepackages()])
        # addsitedir and not a bare path: it also reads the .pth files there, through which editable installs are found.
        lines = [f"import site; site.addsitedir({path!r})" for path in below if Path(path).is_dir()]
        (packages / "below.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name, code in {
            "ctgen": "from ctgen.cli import main; main()",
            "pip": "import sys; from pip._internal.cli.main import main; sys.exit(main())",
            "torchrun": "from torch.distributed.run import main; main()",
            "pytest": "import sys; from pytest import console_main; sys.exit(console_main())",
        }.items():
            script = self.venv / "bin" / name
            script.write_text(f"#!{self.python}\n{code}\n", encoding="utf-8")
            script.chmod(0o755)

    def run(self, line: str, *, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run one shell line in ``folder``; unless ``check`` is False, a failure is an AssertionError with its output."""
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CTGEN_TRACEBACK")},
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.venv),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this option's variable the wrong way round: 0 means no isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        done = subprocess.run(
            line, shell=True, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"$ {line}\nended with code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done
