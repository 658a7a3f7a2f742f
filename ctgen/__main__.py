"""``python -m ctgen``: the same as the command ``ctgen``."""

from ctgen.cli import main

main()
