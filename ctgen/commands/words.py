"""Arguments that several commands share, and how every help text looks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

# Help is plain text on purpose: the same in a terminal, a log and a pager, and 0.1 s faster.
PLAIN: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or preset:NAME.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, as in train.steps=10.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and warnings only.")]
