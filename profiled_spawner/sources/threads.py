"""How work in a thread leaves the event loop its turn.

One thread runs Python at a time. Who wants to run waits until the other has had its switch interval, or has ended a
step that cannot be interrupted. The longest of those is a full garbage collection: a tenth of a second for a hub's
objects, and what is parsed from a large document is enough to set one off, though nothing of it is garbage.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["background", "run_in_daemon"]

T = TypeVar("T")

# Python's own is 5 ms, for which the loop would wait each time that it has something to do.
_SWITCH_INTERVAL_SECONDS = 0.001

_lock = threading.Lock()
_running = 0
_collects = True
_switch_interval = 0.0


@contextmanager
def background() -> Iterator[None]:
    """Lets other threads interrupt this one sooner, and keeps the garbage collector from running by itself.

    Both hold for all threads, as long as anyone is in such a context; then they are as they were. For work that is
    bounded in time and memory.
    """
    global _running, _collects, _switch_interval
    with _lock:
        if not _running:
            _collects, _switch_interval = gc.isenabled(), sys.getswitchinterval()
            gc.disable()
            sys.setswitchinterval(min(_SWITCH_INTERVAL_SECONDS, _switch_interval))
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                sys.setswitchinterval(_switch_interval)
                if _collects:
                    gc.enable()


def run_in_daemon(work: Callable[[], T]) -> Future[T]:
    """Runs work in a thread of its own. If it never ends, nothing else waits for it, the end of the process included.

    Returns:
        What comes of it, or that there could be no thread.
    """
    future = Future[T]()
    # A caller that gives up must not cancel it for the others.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001  the caller gets it
            future.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:
        future.set_exception(error)
    return future
