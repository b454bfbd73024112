"""What an input may cost, and what one did cost."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "HANG_CPU_SECONDS",
    "MAX_CPU_SECONDS",
    "MAX_RSS_BYTES",
    "STATISTICS",
    "BeyondBoundsError",
    "Cost",
    "call_within",
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


class BeyondBoundsError(Exception):
    """A call took more than it may: ``cpu`` or ``memory``; or it raised, which is told then."""


def call_within(call: Callable[[], object], *, cpu_seconds: int = 10, memory_bytes: int = 2**30) -> Any:
    """Calls in a process of its own, so that what never ends, or takes all memory, does no harm.

    Args:
        call: What to call; what it returns must be JSON.
        cpu_seconds: How much of the processor it may take, which is no matter of how busy the machine is.
        memory_bytes: How much memory it may take besides what this process has.

    Returns:
        What the call returned.

    Raises:
        BeyondBoundsError: It returned nothing.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Of other threads here, which the call does not need.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (has + memory_bytes, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, resource.RLIM_INFINITY))
            said = json.dumps({"result": call()})
        except MemoryError:
            said = json.dumps({"fault": "memory"})
        except BaseException as error:  # noqa: BLE001  the process ends here, whatever happens
            said = json.dumps({"fault": f"{type(error).__name__}: {str(error)[:500]}"})
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        ended = os.WTERMSIG(status)
        raise BeyondBoundsError("cpu" if ended == signal.SIGXCPU else signal.Signals(ended).name)
    answer = json.loads(text)
    if "fault" in answer:
        raise BeyondBoundsError(answer["fault"])
    return answer["result"]


def peak_rss_bytes() -> int:
    # Not getrusage's: that of a process begins with what its parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak_rss() -> None:
    """Begins anew, with the memory that the process has now."""
    # "5" is documented in proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
