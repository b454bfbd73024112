"""What an input may cost, and what one did cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "HANG_CPU_SECONDS",
    "MAX_CPU_SECONDS",
    "MAX_RSS_BYTES",
    "STATISTICS",
    "Cost",
    "forget_peak_rss",
    "measure",
    "peak_rss_bytes",
]

MAX_CPU_SECONDS = 2.0
"""Of the processor, since other processes may hold up the clock on the wall."""
HANG_CPU_SECONDS = 60
"""With more, an input is taken for one that never ends."""
MAX_RSS_BYTES = 256 * 2**20
"""Of the whole process, interpreter and modules included."""

STATISTICS = "statistics.json"
"""Where a worker says how many inputs it tried and what they took."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call took.

    Attributes:
        cpu_seconds: Processor time.
        peak_rss_bytes: The most memory that the process had, in the call or before it.
        error: What it raised.
    """

    cpu_seconds: float
    peak_rss_bytes: int
    error: Exception | None = None

    @property
    def fault(self) -> str | None:
        """What kind of finding it is, in a word; None if it is none."""
        if self.error is not None:
            return type(self.error).__name__
        if self.cpu_seconds > MAX_CPU_SECONDS:
            return "slow"
        if self.peak_rss_bytes > MAX_RSS_BYTES:
            return "memory"
        return None


def measure(call: Callable[[], None]) -> Cost:
    began = time.process_time()
    error = None
    try:
        call()
    except Exception as raised:  # noqa: BLE001  whatever it is, it is a finding
        error = raised
    return Cost(time.process_time() - began, peak_rss_bytes(), error)


def peak_rss_bytes() -> int:
    # Not getrusage's: that of a process begins with what its parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak_rss() -> None:
    """Begins anew, with the memory that the process has now."""
    # "5" is documented in proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
