"""Work in threads that the hub's event loop never waits for, and that leave it its turn.

One thread runs Python at a time. Who wants to run waits until the other has had its switch interval, or has ended a
step that cannot be interrupted. The longest of those is a full garbage collection: a tenth of a second for a hub's
objects, and what is parsed from a large document is enough to set one off, though nothing of it is garbage.

Whatever may hang, be it a file system or a parser with a defect, runs in a daemon thread of its own. So it takes no
thread of the loop's executor, which resolves names for the whole hub, and the process can end meanwhile.
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

from .errors import SourceError

__all__ = ["GIVE_UP_SECONDS", "Single", "background", "run_in_daemon"]

K = TypeVar("K")
T = TypeVar("T")

GIVE_UP_SECONDS = 60.0
"""What is bounded and takes longer is a defect. The worst document takes two seconds."""

# Python's own is 5 ms, for which the loop would wait each time that it has something to do.
_SWITCH_INTERVAL_SECONDS = 0.001

_lock = threading.Lock()
# How deep in `background` each thread is.
_depths: dict[int, int] = {}
_collects = True
_switch_interval = 0.0


@contextmanager
def background() -> Iterator[None]:
    """Lets other threads interrupt this one sooner, and keeps the garbage collector from running by itself.

    Both hold for all threads, as long as any is in such a context; then they are as they were. For work that is
    bounded in time and memory.
    """
    global _collects, _switch_interval
    thread = threading.get_ident()
    with _lock:
        if not _depths:
            _collects, _switch_interval = gc.isenabled(), sys.getswitchinterval()
            gc.disable()
            sys.setswitchinterval(min(_SWITCH_INTERVAL_SECONDS, _switch_interval))
        _depths[thread] = _depths.get(thread, 0) + 1
    try:
        yield
    finally:
        _leave(thread, _depths.get(thread, 0) - 1)


def _leave(thread: int, depth: int = 0) -> None:
    """Lets a thread be only so deep in `background` any more, be it this one or another."""
    with _lock:
        if thread not in _depths:
            return  # it took too long, and has been taken out
        _depths[thread] = depth
        if depth <= 0:
            del _depths[thread]
            if not _depths:
                sys.setswitchinterval(_switch_interval)
                if _collects:
                    gc.enable()


def run_in_daemon(work: Callable[[], T]) -> Future[T]:
    """Runs work in a thread of its own. If it never ends, nothing else waits for it, the end of the process included.

    Returns:
        What comes of it, or a `SourceError` if there could be no thread.
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
        threading.Thread(target=run, name="profiled-spawner", daemon=True).start()
    except RuntimeError as error:
        what = f"the hub could start no thread ({error}); raise the limit of processes of its container, or restart it"
        future.set_exception(SourceError(what, outcome="unavailable", transient=True))
    return future


@dataclass(eq=False, slots=True)
class _Piece(Generic[K, T]):
    """A piece of work that is under way.

    Attributes:
        key: What it is made of.
        result: What its callers wait for.
        threads: The thread that does it, as soon as that runs.
        watching: The task that sees to the result.
    """

    key: K
    result: asyncio.Future[T]
    threads: list[int] = field(default_factory=list)
    watching: asyncio.Task[None] | None = None


class Single(Generic[K, T]):
    """Does one piece of work at a time, in a daemon thread of its own, for the callers of one event loop.

    However many callers wait for a piece that hangs, it has one thread. While nothing is under way, it holds nothing of
    the loop.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        """Makes one that is idle.

        Args:
            keeps: Whether the last result is kept, for the next caller with the same key.
        """
        self._keeps = keeps
        self._piece: _Piece[K, T] | None = None
        self._last: tuple[K, T] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a piece is under way that has not been given up."""
        return self._piece is not None

    async def run(self, key: K, work: Callable[[], T], give_up: Callable[[], T] | None = None) -> T:
        """Gives what comes of a piece of work.

        A caller with the key of the piece under way joins it; any other waits until that has ended and begins its own.
        One that leaves disturbs nobody: the thread goes on, for the next.

        Args:
            key: What the piece is made of.
            work: Does it, in the thread.
            give_up: For work that is bounded. Once it has taken much too long, this is called, and returns what takes
                the place of its result. The thread is left behind, and the next piece may begin. If it ends after all,
                its result counts for later callers.

        Raises:
            SourceError: There could be no thread.
            Exception: What `work` raised. That is not kept.
        """
        while self._last is None or self._last[0] != key:
            piece = self._piece or self._begin(key, work, give_up)
            await asyncio.wait({piece.result})
            if piece.key == key:
                return piece.result.result()
        return self._last[1]

    def _begin(self, key: K, work: Callable[[], T], give_up: Callable[[], T] | None) -> _Piece[K, T]:
        loop = asyncio.get_running_loop()
        piece = _Piece[K, T](key, loop.create_future())

        def run() -> T:
            piece.threads.append(threading.get_ident())
            return work()

        self._last, self._piece = None, piece
        piece.watching = loop.create_task(self._watch(piece, asyncio.wrap_future(run_in_daemon(run)), give_up))
        piece.watching.add_done_callback(lambda _: self._let_go(piece))
        return piece

    def _let_go(self, piece: _Piece[K, T]) -> None:
        if self._piece is piece:
            self._piece = None

    async def _watch(self, piece: _Piece[K, T], thread: asyncio.Future[T], give_up: Callable[[], T] | None) -> None:
        """Sees to the result of a piece, whether or not anybody waits for it."""
        while not (await asyncio.wait({thread}, timeout=GIVE_UP_SECONDS))[0]:
            for ident in piece.threads:
                _leave(ident)
            if give_up is not None and not piece.result.done():
                # Kept in any case: what is bad must not be tried again and again.
                self._last = piece.key, give_up()
                self._let_go(piece)
                piece.result.set_result(self._last[1])
        self._let_go(piece)
        error = thread.exception()
        if piece.result.done():
            if error is None and self._last is not None and self._last[0] is piece.key:
                self._last = piece.key, thread.result()
        elif error is not None:
            piece.result.set_exception(error)
            piece.result.exception()  # nobody need wait for it
        else:
            if self._keeps:
                self._last = piece.key, thread.result()
            piece.result.set_result(thread.result())
