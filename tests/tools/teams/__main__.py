"""``python -m teams``: checks what random documents of teams give against an oracle.

Exits with 1 if the package and the oracle disagree.
"""

from __future__ import annotations

import argparse
import sys
import time

from .runner import Finding, Tally, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m teams", description=__doc__)
    parser.add_argument("--documents", type=int, default=1000, help="how many documents of teams (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one (default: 0)")
    parser.add_argument("--most", type=int, default=20, help="stop after about so many findings (default: 20)")
    arguments = parser.parse_args()
    tally, findings, began = Tally(), 0, time.monotonic()

    def tell(finding: Finding) -> None:
        print(finding.describe(arguments.seed), flush=True)

    for first in range(arguments.first, arguments.first + arguments.documents, 50):
        documents = min(50, arguments.first + arguments.documents - first)
        findings += len(run(documents, arguments.seed, first=first, tally=tally, on_finding=tell))
        if findings >= arguments.most:
            break
    print(
        f"{tally.kept + tally.refused:,} documents in {time.monotonic() - began:.0f} s: {tally.kept:,} keep to their "
        f"bounds, {tally.refused:,} do not; {tally.starts:,} starts compared; {findings} findings"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
