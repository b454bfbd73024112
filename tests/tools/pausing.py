"""``python tests/tools/pausing.py COMMAND …``: runs a command whose processes stop at random, as on a busy machine.

All of them, or one, stop for up to two seconds and go on. A test that fails so depends on time.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

_LONGEST_PAUSE_SECONDS = 2.0
_PAUSES_APART_SECONDS = 0.6


def tree_of(pid: int) -> list[int]:
    """A process and what it has started."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def main(command: list[str]) -> int:
    """Runs the command, and returns its exit code."""
    running = subprocess.Popen(command)
    pauses = 0
    while running.poll() is None:
        time.sleep(random.expovariate(1 / _PAUSES_APART_SECONDS))
        pids = tree_of(running.pid)
        if random.random() < 0.4:
            pids = [random.choice(pids)]
        send(signal.SIGSTOP, pids)
        time.sleep(random.uniform(0.2, _LONGEST_PAUSE_SECONDS))
        send(signal.SIGCONT, pids)
        pauses += 1
    print(f"{pauses} pauses", file=sys.stderr)
    return running.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
