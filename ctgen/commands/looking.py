"""Commands that look at things and run nothing: ls, show, validate, schema, doctor; and new-plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctgen.commands.words import Overrides, RecipeArgument


def list_(
    what: Annotated[str | None, typer.Argument(metavar="[KIND|plugins|presets|suites|protocols]", show_default=False)] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="With plugins: the full error of those that failed.")] = False,
) -> None:
    """List components, plugins, presets, suites or protocols.

    \b
    Examples:
      ctgen ls
      ctgen ls backbone
      ctgen ls plugins --traceback
    """
    from ctgen.commands.listing import listing
    from ctgen.host import Host

    typer.echo(listing(Host.discover(), what, traceback=traceback))


def show(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the resolved recipe itself, which can be run.")] = False,
) -> None:
    """Show every value of a recipe and where it came from.

    \b
    Examples:
      ctgen show recipes/ctflow.yaml
      ctgen show preset:ctflow train.steps=10
      ctgen show recipes/ctflow.yaml --yaml > resolved.yaml
    """
    from ctgen.commands.showing import provenance_table
    from ctgen.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    typer.echo(loaded.to_yaml().rstrip() if yaml else provenance_table(loaded))


def validate(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", help="Recipe files or presets; key=value applies to all.", show_default=False),
    ],
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Also parameters, operations and memory, with nothing allocated.")
    ] = False,
    memory: Annotated[
        float | None, typer.Option(metavar="GB", help="With --estimate: the memory to fit into.  [default: this device's]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="With --estimate: print JSON.")] = False,
) -> None:
    """Check recipes; report every mistake with its place.

    Nothing is run and no weights are read.

    \b
    Examples:
      ctgen validate recipes/*.yaml
      ctgen validate recipes/ctflow.yaml prepare.size=[96,192,192]
      ctgen validate recipes/ctflow-ct-rate.yaml train.batch=4 --estimate --memory 80
    """
    from ctgen.commands.validating import validate_all

    if not validate_all(recipes, estimate=estimate, memory_gb=memory, as_json=json):
        raise typer.Exit(2)


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write to a file instead of the screen.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A reference for people instead of a JSON Schema.")] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this plugin's components; may be given again.", show_default=False),
    ] = None,
) -> None:
    """Write the JSON Schema of recipes, for editors.

    It knows every installed plugin, so that an editor completes and checks recipes.

    \b
    Examples:
      ctgen schema -o recipe.schema.json
        and in the recipe's first line:  # yaml-language-server: $schema=recipe.schema.json
      ctgen schema --markdown --plugin baseline --plugin builtin --plugin ctflow -o docs/recipe-reference.md
    """
    from ctgen.commands.showing import write_schema

    write_schema(out, markdown=markdown, plugins=plugin)


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and '-'.", show_default=False)],
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where the plugin's folder is made.")] = Path(),
) -> None:
    """Make a plugin of your own, ready to install.

    A small package with a backbone, a recipe and a test.

    \b
    Examples:
      ctgen new-plugin mynet && pip install -e ctgen-mynet && ctgen ls backbone
    """
    from ctgen.scaffold import new_plugin as make

    made = make(name, folder)
    typer.echo(f"made {made}\nnext: pip install -e {made} && ctgen ls plugins")


def doctor() -> None:
    """Show what this machine has, and what is wrong.

    Versions, plugins and their failures, memory, disk space, the Hugging Face cache, devices.
    """
    from ctgen.doctor import examine, lines
    from ctgen.host import Host

    healthy = True
    for finding in examine(Host.discover()):
        healthy = healthy and finding.state != "broken"
        typer.echo(lines(finding))
    if not healthy:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """In the order of the help text."""
    app.command("ls")(list_)
    app.command()(show)
    app.command()(validate)
    app.command()(schema)
    app.command("new-plugin")(new_plugin)
    app.command()(doctor)
