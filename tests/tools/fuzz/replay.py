"""``python -m fuzz.replay TARGET FILE``: one input in a clean process, without the fuzzer, and what it cost as JSON.

TARGET is a function, as ``module:function``.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import traceback
from pathlib import Path

from .limits import HANG_CPU_SECONDS, measure
from .targets import Target

__all__ = ["find_target", "main"]


def find_target(name: str) -> Target:
    module, _, function = name.partition(":")
    target: Target = getattr(importlib.import_module(module), function)
    return target


def main(target: str, file: str) -> None:
    # What takes that much of the processor is ended by SIGXCPU, on any machine at the same place.
    resource.setrlimit(resource.RLIMIT_CPU, (HANG_CPU_SECONDS, resource.RLIM_INFINITY))
    call = find_target(target)
    data = Path(file).read_bytes()
    cost = measure(lambda: call(data))
    json.dump(
        {
            "fault": cost.fault,
            "cpu_seconds": cost.cpu_seconds,
            "peak_rss_bytes": cost.peak_rss_bytes,
            "traceback": "".join(traceback.format_exception(cost.error)) if cost.error else "",
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
