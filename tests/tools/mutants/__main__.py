"""``python -m mutants``: runs the tests on every mutant of a list, and says which of them survive.

Exits with 1 if too few are killed, if one survives without an explanation in the list, or if too many of the list are
gone, since the text that they change stands there no more. With --draw, it draws a new list; with --show, it prints
mutants as a list has them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .finding import find_modules, find_mutants
from .listing import Entry, ListError, describe, draw, find_listed, read_list, write_list
from .reporting import make_report
from .running import RunError, run_mutants

PACKAGES = ("document", "decide", "pod")
DRAWN = Path(__file__).with_name("drawn.txt")

_COMMENT = """Mutants of {packages}: {number} of {total:,}, drawn at random with the seed {seed}.
Draw again with: make mutants ARGS='--draw {number} --seed {seed}'
Each has a line on where it is and by which operator of mutmut's, what stands there, and what it becomes.
One that survives needs a line more: survives: why no test has to kill it. Drawing again keeps these lines."""


def main() -> int:
    """Does as the arguments say, and returns the exit code."""
    arguments = _parse_arguments()
    if arguments.show:
        return _show(arguments.root, *arguments.show.split(":"))
    if arguments.draw:
        return _draw(arguments.root, arguments.list, arguments.draw, arguments.seed)
    try:
        return _run(arguments)
    except (ListError, RunError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--list", type=Path, default=DRAWN, help="the list (default: drawn.txt, beside this tool)")
    parser.add_argument(
        "--least", type=float, default=90, metavar="PERCENT", help="how many must be killed (default: 90)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many run at a time")
    parser.add_argument("--cpu-seconds", type=int, default=60, help="how long tests may take at least (default: 60)")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: the current folder)")
    parser.add_argument("--draw", type=int, metavar="NUMBER", help="writes a list of so many mutants, and runs none")
    parser.add_argument("--show", metavar="MODULE:FUNCTION", help="prints all mutants of a function, and runs none")
    parser.add_argument("--seed", type=int, default=1, help="what to draw with (default: 1)")
    return parser.parse_args()


def _show(root: Path, module: str, *units: str) -> int:
    for mutant in find_mutants(root, module):
        if not units or mutant.change.unit in units:
            print(describe(Entry(mutant.change)))
    return 0


def _draw(root: Path, path: Path, number: int, seed: int) -> int:
    changes = []
    for package in PACKAGES:
        for module in find_modules(root, package):
            changes += [mutant.change for mutant in find_mutants(root, module)]
            print(f"{module}: {len(changes):,} so far", flush=True)
    explanations = {entry.change: entry.explanation for entry in read_list(path)} if path.exists() else {}
    drawn = draw(changes, number, seed)
    comment = _COMMENT.format(packages=", ".join(PACKAGES), number=len(drawn), total=len(changes), seed=seed)
    write_list(path, comment, [Entry(change, explanations.get(change, "")) for change in drawn])
    print(f"{path}: {len(drawn)} of {len(changes):,} mutants")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    entries = read_list(arguments.list)
    mutants = find_listed(arguments.root, [entry.change for entry in entries])
    outcomes = {}
    for result in run_mutants(arguments.root, mutants.values(), arguments.jobs, arguments.cpu_seconds):
        change = result.change
        outcomes[change] = result.outcome
        place = f"{change.module}: {change.unit} ({change.operator})"
        print(f"[{len(outcomes):3}/{len(mutants)}] {result.outcome:9}  {place}  {result.test}".rstrip(), flush=True)
    report = make_report(entries, outcomes, arguments.least)
    print(f"\n{report.text}")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
