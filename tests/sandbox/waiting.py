"""How long tests and the sandbox wait: until it is there. Only what hangs is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["HANG_SECONDS", "PATIENCE", "SHORT_SECONDS", "until"]

HANG_SECONDS = 600
"""What is not there by then never comes. The slowest machine needs a fraction of it."""

SHORT_SECONDS = 60
"""For a timeout that a test is about. The test puts the clock forward by as much, and nothing else is given up."""

PATIENCE = {
    "start_timeout": HANG_SECONDS,
    "http_timeout": HANG_SECONDS,
    "k8s_api_request_timeout": HANG_SECONDS,
    "k8s_api_request_retry_timeout": HANG_SECONDS,
}
"""Traits of a KubeSpawner that gives up nothing because the machine is busy."""


async def until(condition: Callable[[], object]) -> None:
    """Waits until a condition holds.

    Raises:
        TimeoutError: It never does.
    """
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)
