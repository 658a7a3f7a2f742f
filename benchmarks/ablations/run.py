"""What holds the quality of the mini CTFlow back? Every variant of variants.yaml, scored by `ctgen bench` beside its base.

    python benchmarks/ablations/run.py [--group NAME ...] [--steps N] [--cases N] [-o DIR]
    python benchmarks/ablations/run.py --list

Groups either sample the shipped weights in other ways or train from random weights, one variant after another. The same command
goes on after an interruption, tries again what failed, and leaves alone what is done. Writes DIR/table.md, table.json and
plots/GROUP.png after every variant; exits 1 if a variant failed, 130 if interrupted. README.md says how to read them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from page import Results, write_page
from score import Runner
from variants import Study, Variant, chosen, read_study, variants_of

from ctgen.console import Console
from ctgen.errors import CtgenError, Interrupted
from ctgen.host import Host
from ctgen.stages.lock import only_one

HERE = Path(__file__).parent


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", nargs="+", action="extend", default=[], help="only these groups")
    parser.add_argument("--steps", type=int, help="training steps, instead of what variants.yaml says")
    parser.add_argument("--cases", type=int, help="only the first so many cases of the suite")
    parser.add_argument("--processes", type=int, help="that generate volumes at a time; default: as ctgen bench")
    parser.add_argument("--variants", type=Path, default=HERE / "variants.yaml", help="another file of groups")
    parser.add_argument("--list", action="store_true", help="check all recipes and show the groups, nothing else")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/ablations"))
    return parser.parse_args()


def show(study: Study, groups: Sequence[list[Variant]]) -> int:
    for group in groups:
        print(f"{group[0].group} ({group[0].kind}): {study.groups[group[0].group].question}")
        for variant in group:
            print(f"  {variant.name}: {variant.error or ' '.join(variant.overrides) or study.groups[variant.group].base}")
    return 1 if any(variant.error for group in groups for variant in group) else 0


def work(study: Study, groups: Sequence[list[Variant]], wanted: Sequence[str], runner: Runner) -> int:
    """Run what is wanted, and show all that is known of the study in this folder."""
    failed = False
    for group in groups:
        for variant in group if group[0].group in wanted else ():
            failed |= bool(runner.run(variant, group[0])["error"])
            write_page(runner.folder, results_of(study, groups, runner))
    write_page(runner.folder, results_of(study, groups, runner))
    return 1 if failed else 0


def results_of(study: Study, groups: Sequence[list[Variant]], runner: Runner) -> list[Results]:
    return [
        Results(study.groups[group[0].group], group, [runner.record(variant, group[0]) for variant in group])
        for group in groups
    ]


def main() -> int:
    arguments = parsed()
    console = Console()
    try:
        host = Host.discover()
        study = read_study(arguments.variants)
        wanted = chosen(study, arguments.group)
        folder = arguments.variants.parent.absolute()
        groups = [variants_of(study, name, folder, steps=arguments.steps, host=host) for name in study.groups]
        if arguments.list:
            return show(study, [group for group in groups if group[0].group in wanted])
        suite = study.suite if not study.suite.endswith((".yaml", ".yml")) else str(folder / study.suite)
        out = arguments.out.absolute()
        with only_one(out):
            # `ctgen bench` finds what a recipe has trained in runs/ of the current folder
            os.chdir(out)
            runner = Runner(out, suite, arguments.cases, arguments.processes, host=host, console=console)
            code = work(study, groups, wanted, runner)
        console.result(f"results: {out / 'table.md'}")
        return code
    except (Interrupted, KeyboardInterrupt):
        console.warn("interrupted; the same command goes on")
        return 130
    except CtgenError as error:
        console.warn(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
