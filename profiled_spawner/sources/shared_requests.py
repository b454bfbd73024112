"""Requests that spawns share: none sees an older state than that of its own beginning, and a burst costs a handful."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ..errors import ProfiledSpawnerError, SourceError

__all__ = ["SharedReads"]

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Answer(Protocol):
    """What came of a request; its fault says why it is not what was asked for."""

    @property
    def fault(self) -> ProfiledSpawnerError | None: ...


Caller = TypeVar("Caller")
AnswerT = TypeVar("AnswerT", bound=Answer)


@dataclass(eq=False, slots=True)
class _Waiter(Generic[Caller, AnswerT]):
    caller: Caller
    future: asyncio.Future[AnswerT]


class SharedReads(Generic[Caller, AnswerT]):
    """Sends one request after the other, as long as somebody waits who may not join the one before.

    A caller may join any request, a retry too, that is sent after it asked. One that gives up or is cancelled does not
    disturb the others; what the last of them leaves behind, a request or a pause, holds up nobody who comes later.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[Caller], Awaitable[AnswerT]],
        tell: Callable[[AnswerT, Sequence[Caller]], None],
    ) -> None:
        """Makes one that is idle.

        Args:
            name: What is read, as people know it.
            read: Sends a request for a caller. It raises nothing; a transient `SourceError` as the answer's fault means
                that it will be sent again.
            tell: Is called once for each request that is not sent again, with those whom its answer is for.
        """
        self._name = name
        self._read = read
        self._tell = tell
        self._waiting: list[_Waiter[Caller, AnswerT]] = []
        # How many have asked and not been answered, in `_waiting` or by the request under way.
        self._asking = 0
        # Only while somebody waits: what is idle holds nothing of its loop, so that it can go with it.
        self._task: asyncio.Task[None] | None = None
        self._last_fault: SourceError | None = None

    async def join(self, caller: Caller, timeout_seconds: float) -> AnswerT:
        """Gives the answer to a request that was sent after this call.

        Args:
            caller: Who asks, for `read` and `tell`.
            timeout_seconds: How long to wait, retries included.

        Raises:
            SourceError: There was none in time.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter[Caller, AnswerT](caller, loop.create_future())
        self._waiting.append(waiter)
        self._asking += 1
        if self._task is None:
            self._last_fault = None
            self._task = loop.create_task(self._serve(), name=f"read {self._name}")
        try:
            async with asyncio.timeout(timeout_seconds):
                return await waiter.future
        except TimeoutError:
            what = f"no answer for {self._name} within {timeout_seconds:g} s, retries included"
            if self._last_fault:
                what += f"; the last was: {self._last_fault}"
        finally:
            self._asking -= 1
            if not self._asking and self._task is not None:
                # Whoever asks next must not wait for the end of what nobody waits for any more.
                self._task.cancel()
                self._rest()
        raise SourceError(what, outcome="unavailable")

    def _rest(self) -> None:
        """Holds nothing of a task any more, but for the last fault: who waited for it may be about to tell it."""
        self._task = None
        self._waiting = []

    async def _serve(self) -> None:
        task = asyncio.current_task()
        pause = _FIRST_PAUSE_SECONDS
        joined: list[_Waiter[Caller, AnswerT]] = []
        try:
            while self._waiting:
                joined, self._waiting = self._waiting, []
                answer = await self._read(joined[-1].caller)
                joined = [waiter for waiter in joined if not waiter.future.done()]
                fault = answer.fault
                if isinstance(fault, SourceError) and fault.transient:
                    self._last_fault = fault
                    self._waiting = joined + self._waiting
                    wait = max(pause * random.uniform(0.5, 1), fault.retry_after_seconds)
                    await asyncio.sleep(min(wait, _LONGEST_PAUSE_SECONDS))
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                    self._waiting = [waiter for waiter in self._waiting if not waiter.future.done()]
                    continue
                pause = _FIRST_PAUSE_SECONDS
                self._last_fault = None
                self._tell(answer, [waiter.caller for waiter in joined])
                for waiter in joined:
                    waiter.future.set_result(answer)
        finally:
            # No await since the last look at who waits, so nobody is left behind, but by cancellation.
            for waiter in joined:
                waiter.future.cancel()
            # If it was given up, those who wait now are another task's.
            if self._task is task:
                for waiter in self._waiting:
                    waiter.future.cancel()
                self._rest()
