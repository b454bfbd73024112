"""Ctrl-C, and the other ways of asking a program to end."""

import asyncio
import signal
from collections.abc import Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cancel_on_signals(announce: Callable[[], None]) -> None:
    """Let the first signal cancel the calling task, and later ones not disturb what it then does.

    Args:
        announce: Called when the first one has come.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        for each in SIGNALS:
            loop.add_signal_handler(each, lambda: None)
        task.cancel()
        announce()

    for each in SIGNALS:
        loop.add_signal_handler(each, cancel)
