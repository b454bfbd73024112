"""When Python's garbage collector waits.

A full collection of a hub's objects takes a tenth of a second, in one step that holds every thread. What is parsed
from a large document is enough to set one off, though nothing of it is garbage.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]

_lock = threading.Lock()
_pauses = 0
_resume = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keeps the collector from running by itself, in all threads, as long as anyone is in such a context.

    For work that is bounded in time and memory. Where it was off before, it stays off.
    """
    global _pauses, _resume
    with _lock:
        if not _pauses:
            _resume = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _resume:
                gc.enable()
