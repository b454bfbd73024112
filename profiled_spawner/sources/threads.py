"""Work in threads that neither stalls the hub's event loop nor keeps the hub from exiting.

Only one thread at a time runs Python: the one that holds the GIL. It gives the GIL up after one switch interval, or at
the end of a step that cannot be interrupted. The longest such step is a full garbage collection, which takes a tenth of
a second with a hub's objects. Parsing a large document creates enough objects to trigger one, although none is garbage.

Work that may hang, on a file system or by a defect of a parser, runs in a daemon thread of its own. So it does not
occupy a thread of the event loop's executor, which resolves host names for the whole hub, and the process can exit.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import SourceError

__all__ = ["GIVE_UP_SECONDS", "SMALL_JSON", "SMALL_TEXT", "SingleFlight", "low_latency", "run_in_daemon"]

K = TypeVar("K")
T = TypeVar("T")

GIVE_UP_SECONDS = 60.0
"""Bounded work that takes longer has a defect. The worst document takes two seconds."""

SMALL_TEXT = 4 * 2**10
"""A document of so many characters is parsed within Python's own switch interval, whatever it holds."""

SMALL_JSON = 256 * 2**10
"""The same for JSON, which is decoded much faster, and into few objects."""

# The default is 5 ms, and the event loop would wait for that long each time it has something to do.
_SWITCH_INTERVAL_SECONDS = 0.001

_lock = threading.Lock()
# How many `low_latency` contexts each thread is in.
_depths: dict[int, int] = {}
_gc_was_enabled = True
_switch_interval = 0.0


@contextmanager
def low_latency(size: int, small: int = SMALL_TEXT) -> Iterator[None]:
    """Keeps the event loop responsive while this thread works on something large.

    Pauses the garbage collector and shortens the switch interval. Both apply to the whole process, until the last such
    context ends; then they are restored. For work that is bounded in time and memory.

    Work on something small ends before anybody notices it, so nothing is changed for that.

    Args:
        size: The size of what this thread works on.
        small: Up to which size nothing is changed.
    """
    if size <= small:
        yield
        return
    global _gc_was_enabled, _switch_interval
    thread = threading.get_ident()
    with _lock:
        if not _depths:
            _gc_was_enabled, _switch_interval = gc.isenabled(), sys.getswitchinterval()
            gc.disable()
            sys.setswitchinterval(min(_SWITCH_INTERVAL_SECONDS, _switch_interval))
        _depths[thread] = _depths.get(thread, 0) + 1
    try:
        yield
    finally:
        _leave(thread, _depths.get(thread, 0) - 1)


def _leave(thread: int, depth: int = 0) -> None:
    """Reduces the number of a thread's `low_latency` contexts to `depth`, and restores the settings after the last."""
    with _lock:
        if thread not in _depths:
            return  # the thread took too long and was removed already
        _depths[thread] = depth
        if depth <= 0:
            del _depths[thread]
            if not _depths:
                sys.setswitchinterval(_switch_interval)
                if _gc_was_enabled:
                    gc.enable()


def run_in_daemon(work: Callable[[], T]) -> Future[T]:
    """Runs work in a daemon thread of its own. Work that never ends does not keep the process from exiting.

    Returns:
        A future with the result, the work's exception, or a `SourceError` if no thread could be started.
    """
    future = Future[T]()
    # A caller that gives up must not cancel the future for the others.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001  the caller gets it
            future.set_exception(error)

    try:
        threading.Thread(target=run, name="profiled-spawner", daemon=True).start()
    except RuntimeError as error:
        what = f"the hub could start no thread ({error}); raise the limit of processes of its container, or restart it"
        future.set_exception(SourceError(what, outcome="unavailable", transient=True))
    return future


@dataclass(eq=False, slots=True)
class _Flight(Generic[K, T]):
    """A call that is under way.

    Attributes:
        key: Its key.
        result: The future that its callers wait for.
        threads: The ident of its thread, once that runs.
        watcher: The task that sets the result.
    """

    key: K
    result: asyncio.Future[T]
    threads: list[int] = field(default_factory=list)
    watcher: asyncio.Task[None] | None = None


class SingleFlight(Generic[K, T]):
    """Runs one call at a time in a daemon thread, and shares its result between all callers with the same key.

    However many callers wait for a call that hangs, it occupies one thread. An idle instance refers to nothing of its
    event loop.
    """

    def __init__(self, *, caches: bool = True) -> None:
        """Creates an idle instance.

        Args:
            caches: Whether to keep the last result for later callers with the same key.
        """
        self._caches = caches
        self._flight: _Flight[K, T] | None = None
        self.last: tuple[K, T] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way that was not given up."""
        return self._flight is not None

    async def run(self, key: K, work: Callable[[], T], give_up: Callable[[], T] | None = None) -> T:
        """Returns the result of a call, or the cached result of the last one.

        A caller with the key of the call under way joins it. A caller with another key waits until that call has ended,
        and then starts its own. A caller that is cancelled does not stop the call, whose result may serve the next.

        Args:
            key: What the result depends on.
            work: The call. It runs in the thread.
            give_up: For bounded work. It is called after `GIVE_UP_SECONDS`, and returns a result to use instead. The
                thread is abandoned, and the next call may start. Should the thread end after all, later callers get its
                result.

        Raises:
            SourceError: No thread could be started.
            Exception: Whatever `work` raised. It is not cached.
        """
        while self.last is None or self.last[0] != key:
            flight = self._flight or self._launch(key, work, give_up)
            await asyncio.wait({flight.result})
            if flight.key == key:
                return flight.result.result()
        return self.last[1]

    def _launch(self, key: K, work: Callable[[], T], give_up: Callable[[], T] | None) -> _Flight[K, T]:
        loop = asyncio.get_running_loop()
        flight = _Flight[K, T](key, loop.create_future())

        def run() -> T:
            flight.threads.append(threading.get_ident())
            return work()

        self.last, self._flight = None, flight
        flight.watcher = loop.create_task(self._watch(flight, asyncio.wrap_future(run_in_daemon(run)), give_up))
        flight.watcher.add_done_callback(lambda _: self._release(flight))
        return flight

    def _release(self, flight: _Flight[K, T]) -> None:
        if self._flight is flight:
            self._flight = None

    async def _watch(self, flight: _Flight[K, T], thread: asyncio.Future[T], give_up: Callable[[], T] | None) -> None:
        """Sets the result of a call, whether or not anybody waits for it."""
        while not (await asyncio.wait({thread}, timeout=GIVE_UP_SECONDS))[0]:
            for ident in flight.threads:
                _leave(ident)
            if give_up is not None and not flight.result.done():
                # Cached even if `caches` is false: bad input must not be tried again and again.
                self.last = flight.key, give_up()
                self._release(flight)
                flight.result.set_result(self.last[1])
        self._release(flight)
        error = thread.exception()
        if flight.result.done():
            if error is None and self.last is not None and self.last[0] is flight.key:
                self.last = flight.key, thread.result()
        elif error is not None:
            flight.result.set_exception(error)
            flight.result.exception()  # marks it as retrieved: there may be no caller left
        else:
            if self._caches:
                self.last = flight.key, thread.result()
            flight.result.set_result(thread.result())
