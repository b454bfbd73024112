"""``python -m oracle``: compares random pairs of documents with the package and by brute force.

Exits with 1 if they disagree. What was found is kept under ``build/oracle``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .runner import FOLDER, Finding, Tally, run, run_alone


def main() -> int:
    arguments = _parse_arguments()
    tally = Tally()
    began = time.monotonic()

    def keep(finding: Finding) -> None:
        text = finding.describe(arguments.seed)
        print(text, flush=True)
        _keep(arguments.folder / f"{arguments.seed}-{finding.number}", finding, text)

    findings = 0
    try:
        for first in range(arguments.first, arguments.first + arguments.pairs, 1000):
            pairs = min(1000, arguments.first + arguments.pairs - first)
            options = {"first": first, "pieces": arguments.pieces, "tally": tally}
            if arguments.alone:
                run_alone(pairs, arguments.seed, **options)
            else:
                findings += len(run(pairs, arguments.seed, on_finding=keep, **options))
            if tally.pairs % 10_000 == 0:
                print(_describe(tally, time.monotonic() - began), flush=True)
            if findings >= arguments.most:
                print(f"{findings} findings: that is enough")
                break
    except KeyboardInterrupt:
        print("interrupted")
    print(_describe(tally, time.monotonic() - began))
    print(f"{findings} findings{f'; see {arguments.folder}' if findings else ''}")
    return 1 if findings else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m oracle", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000, help="how many pairs (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first pair (default: 0)")
    parser.add_argument("--pieces", type=int, default=4, help="of how many pieces images are at most (default: 4)")
    parser.add_argument("--most", type=int, default=20, help="stop after about so many findings (default: 20)")
    parser.add_argument("--alone", action="store_true", help="ask the oracle alone, not the package")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where findings are kept")
    return parser.parse_args()


def _keep(folder: Path, finding: Finding, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "finding.txt").write_text(text)
    (folder / "old.yaml").write_text(finding.pair.old_text)
    (folder / "new.yaml").write_text(finding.pair.new_text)


def _describe(tally: Tally, seconds: float) -> str:
    beyond = f", {tally.beyond} of these by an image that the oracle does not try" if tally.beyond else ""
    return (
        f"{tally.pairs:,} pairs in {seconds:.0f} s (the oracle {tally.oracle_seconds:.0f} s, the package "
        f"{tally.package_seconds:.0f} s): {tally.equal - tally.beyond:,} equal, {tally.different + tally.beyond:,} "
        f"different{beyond}; {tally.examples:,} examples checked"
    )


if __name__ == "__main__":
    sys.exit(main())
