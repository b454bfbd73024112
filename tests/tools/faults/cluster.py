"""``make faults-cluster``: breaks a real API server amid starts, and writes the last part of docs/faults.md."""

from __future__ import annotations

import argparse
import asyncio
import sys

from cluster.assets import AssetsUnavailableError, find_assets, find_tool

from .outages import OUTAGES, run_outages
from .outages_page import render_outages
from .page import PAGE, split


def main() -> int:
    """Runs all outages, with our spawner and some with stock KubeSpawner, and writes what came of them.

    Returns:
        0; 2 if the programs of a control plane are missing.
    """
    parser = argparse.ArgumentParser(prog="python -m faults.cluster", description=__doc__)
    parser.add_argument("--starts", type=int, default=200, help="how many people start servers in each outage")
    starts = parser.parse_args().starts
    try:
        assets = find_assets()
        find_tool("etcdutl")
    except AssetsUnavailableError as exc:
        print(exc, file=sys.stderr)
        return 2
    print("Breaking a real API server; this takes some minutes.", file=sys.stderr)
    results = asyncio.run(run_outages(assets, OUTAGES, starts=starts))
    compared = [outage for outage in OUTAGES if outage.is_compared]
    stock = asyncio.run(run_outages(assets, compared, starts=starts, is_stock=True))
    part = render_outages(results, stock, starts=starts)
    first, _ = split(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(first + part, encoding="utf-8")
    print(part)
    return 0


if __name__ == "__main__":
    sys.exit(main())
