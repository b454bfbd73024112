"""``python -m fuzz.worker``: one target under atheris, until its time is over or an input ends the process.

An input that raises or goes past a limit is written down, and fuzzing goes on. What cannot be gone on from (a crash,
a hang, runaway memory) ends the process, with the input in a file too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["profiled_spawner"]):
    from .limits import MAX_RSS_BYTES, STATISTICS, Cost, forget_peak_rss, measure
    from .replay import find_target

__all__ = ["main"]

# A worse one of the same kind is of no interest, and the same place raises for thousands of inputs.
_MOST_OF_A_KIND = 3


class Watch:
    """Runs a target's inputs, counts them, and writes down what is wrong with them."""

    def __init__(self, target: str, results: Path) -> None:
        self._call = find_target(target)
        self._results = results
        self._known: dict[str, int] = {}
        self._inputs = 0
        self._slowest = 0.0
        self._written_at = 0.0

    def run(self, data: bytes) -> None:
        cost = measure(lambda: self._call(data))
        self._inputs += 1
        self._slowest = max(self._slowest, cost.cpu_seconds)
        if cost.fault:
            self._write_candidate(data, cost)
        if time.monotonic() - self._written_at > 0.5:
            self.write_statistics()
        if cost.peak_rss_bytes > MAX_RSS_BYTES:
            forget_peak_rss()

    def _write_candidate(self, data: bytes, cost: Cost) -> None:
        frames = traceback.extract_tb(cost.error.__traceback__) if cost.error else []
        kind = f"{cost.fault} {frames[-1].filename}:{frames[-1].lineno}" if frames else str(cost.fault)
        self._known[kind] = self._known.get(kind, 0) + 1
        if self._known[kind] <= _MOST_OF_A_KIND:
            (self._results / f"candidate-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)

    def write_statistics(self) -> None:
        self._written_at = time.monotonic()
        statistics = {"inputs": self._inputs, "slowest_cpu_seconds": self._slowest}
        partial = self._results / f"{STATISTICS}.partial"
        partial.write_text(json.dumps(statistics))
        partial.replace(self._results / STATISTICS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz.worker", description=__doc__)
    parser.add_argument("target", help="a function, as module:function")
    parser.add_argument("results", type=Path, help="a folder for statistics and inputs")
    arguments, libfuzzer = parser.parse_known_args()
    watch = Watch(arguments.target, arguments.results)
    atheris.Setup([sys.argv[0], *libfuzzer], watch.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
