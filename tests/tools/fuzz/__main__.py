"""``python -m fuzz``: fuzzes all targets, or some, and says what came of it; or runs one input that was found.

Exits with 1 if there are findings. What was learnt is kept for the next run, under ``build/fuzz``.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

from .campaign import Tally, describe, fuzz_target, replay
from .seeds import write_seeds
from .targets import TARGETS

_FOLDER = Path(__file__).parents[3] / "build" / "fuzz"

# One input of `large` takes as long as some thousand others.
_WEIGHTS = {"document": 4, "manifest": 3, "configmap": 2, "quantity": 1, "large": 4}


def main() -> int:
    arguments = _parse_arguments()
    names = arguments.target or list(TARGETS)
    if arguments.input:
        said = replay(_function(names[0]), arguments.input)
        print(describe(said))
        return 1 if said["fault"] else 0
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; install the extra 'fuzz'", file=sys.stderr)
        return 2
    tallies = []
    try:
        for name in names:
            seconds = arguments.seconds * _WEIGHTS[name] / sum(_WEIGHTS[each] for each in names)
            print(f"{name}: {seconds:.0f} s", flush=True)
            tally = Tally(name)
            tallies.append(tally)
            with tempfile.TemporaryDirectory() as seeds:
                write_seeds(name, Path(seeds))
                fuzz_target(
                    name,
                    _function(name),
                    seconds=seconds,
                    seeds=Path(seeds),
                    folder=arguments.folder,
                    tally=tally,
                )
            print(_row(tally), flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    return _report(tallies)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long, all targets together (default: 600)")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="all of them by default")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where to keep what is learnt and found")
    parser.add_argument("--input", type=Path, help="runs this one input on the target, and does not fuzz")
    arguments = parser.parse_args()
    if arguments.input and len(arguments.target or []) != 1:
        parser.error("--input needs one --target")
    return arguments


def _function(name: str) -> str:
    return f"fuzz.targets:{name}"


def _row(tally: Tally) -> str:
    return (
        f"{tally.target:10} {tally.inputs:12,} inputs in {tally.seconds:6,.0f} s, {tally.coverage:5} branches, slowest "
        f"{tally.slowest_cpu_seconds:.2f} s under the fuzzer, {len(tally.findings)} findings"
        + (f", {tally.unconfirmed} past a limit under the fuzzer alone" if tally.unconfirmed else "")
    )


def _report(tallies: list[Tally]) -> int:
    print()
    for tally in tallies:
        print(_row(tally))
    findings = [finding for tally in tallies for finding in tally.findings]
    total, seconds = sum(tally.inputs for tally in tallies), sum(tally.seconds for tally in tallies)
    print(f"{'together':10} {total:12,} inputs in {seconds:6,.0f} s, {len(findings)} findings")
    for finding in findings:
        print(f"  {finding.fault}: {finding.file}.txt")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
