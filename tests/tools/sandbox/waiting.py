"""How long tests and the sandbox wait: until it is there. Only what hangs is given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from tornado.ioloop import IOLoop

__all__ = ["HANG_SECONDS", "PATIENCE", "SHORT_SECONDS", "Clock", "our_threads", "until", "until_connections_are_gone"]

HANG_SECONDS = 600
"""What is not there by then never comes. The slowest machine needs a fraction of it."""

SHORT_SECONDS = 40
"""For a timeout that a test is about. The test puts the clock forward by as much, and nothing else is given up: what
hangs in a thread is given up after `profiled_spawner.sources.threads.GIVE_UP_SECONDS`, which then are not over."""

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


async def until_connections_are_gone() -> None:
    """Waits while connections with TLS go that have been closed; the end of the event loop would find them open.

    That takes some turns of the loop. On a busy machine, a single sleep of any length may be over after one.
    """
    for _ in range(20):
        await asyncio.sleep(0.001)


def our_threads() -> list[threading.Thread]:
    """The threads of this package that have not ended."""
    return [thread for thread in threading.enumerate() if thread.name == "profiled-spawner"]


class Clock:
    """The event loop's clock, and tornado's. They go as always, and a test may put them forward.

    So a test that is about a timeout can make it long, see that what is to happen before has happened, and end it.
    """

    def __init__(self) -> None:
        loop, tornados = asyncio.get_running_loop(), IOLoop.current()
        time, tornados_time = loop.time, tornados.time
        self._ahead = 0.0
        loop.time = lambda: time() + self._ahead  # type: ignore[method-assign]
        tornados.time = lambda: tornados_time() + self._ahead  # type: ignore[method-assign]

    def forward(self, seconds: float) -> None:
        self._ahead += seconds
