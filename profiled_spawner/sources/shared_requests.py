"""Shared (coalesced) requests: a burst of spawns costs a few requests, and no spawn gets stale data.

A spawn may only join a request that is sent after the spawn asked. So its answer is never older than the spawn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ..errors import ProfiledSpawnerError, SourceError

__all__ = ["FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS", "START_UP_SECONDS", "SharedRequests"]

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

START_UP_SECONDS = 10.0
"""If a request is sent so soon after a transient fault, and is refused, it is sent again.

A kube-apiserver that starts answers before it knows its Roles, and refuses everything for a moment.
"""


class Answer(Protocol):
    """The answer to a request. Its `fault` is None if the request succeeded."""

    @property
    def fault(self) -> ProfiledSpawnerError | None: ...


Caller = TypeVar("Caller")
AnswerT = TypeVar("AnswerT", bound=Answer)


@dataclass(eq=False, slots=True)
class _Waiter(Generic[Caller, AnswerT]):
    caller: Caller
    future: asyncio.Future[AnswerT]


class SharedRequests(Generic[Caller, AnswerT]):
    """Sends one request at a time, and shares its answer between the callers that asked before it was sent.

    A caller that comes while a request is under way waits for the next one. A retry counts as a request of its own.
    A caller that times out or is cancelled does not disturb the others. When the last caller leaves, the request is
    cancelled, so later callers never wait for it.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Caller], Awaitable[AnswerT]],
        log_outcome: Callable[[AnswerT, Sequence[Caller]], None],
    ) -> None:
        """Creates an idle instance.

        Args:
            name: The name of the source, for messages.
            send: Sends a request for a caller. It must not raise. If the answer's fault is a transient `SourceError`,
                or soon after that a refusal, the request is sent again.
            log_outcome: Is called once with each final answer, and with the callers that get it.
        """
        self._name = name
        self._send = send
        self._log_outcome = log_outcome
        self._waiting: list[_Waiter[Caller, AnswerT]] = []
        # Callers without an answer: those in `_waiting`, and those of the request under way.
        self._unanswered = 0
        # The task exists only while somebody waits: an idle instance must not keep its event loop alive.
        self._task: asyncio.Task[None] | None = None
        self._last_fault: SourceError | None = None
        # Until when a refusal is retried, by the loop's clock.
        self._starting_until = 0.0

    async def join(self, caller: Caller, timeout_seconds: float) -> AnswerT:
        """Returns the answer to a request that is sent after this call.

        Args:
            caller: The caller, which is handed to `send` and `log_outcome`.
            timeout_seconds: How long to wait, retries included.

        Raises:
            SourceError: There was no answer in time.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter[Caller, AnswerT](caller, loop.create_future())
        self._waiting.append(waiter)
        self._unanswered += 1
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
            self._unanswered -= 1
            if not self._unanswered and self._task is not None:
                # Nobody waits for this request any more, and the next caller must not wait for its end.
                self._task.cancel()
                self._reset()
        raise SourceError(what, outcome="unavailable")

    def _reset(self) -> None:
        """Becomes idle. Keeps the last fault, since a caller that timed out may be about to report it."""
        self._task = None
        self._waiting = []

    def _is_passing(self, fault: SourceError, sent: float) -> bool:
        """Whether a request that was sent then, and had this fault, is sent again."""
        if fault.transient:
            self._starting_until = asyncio.get_running_loop().time() + START_UP_SECONDS
        return fault.transient or (fault.outcome == "refused" and sent < self._starting_until)

    async def _serve(self) -> None:
        task = asyncio.current_task()
        pause = FIRST_PAUSE_SECONDS
        joined: list[_Waiter[Caller, AnswerT]] = []
        try:
            while self._waiting:
                joined, self._waiting = self._waiting, []
                # An API server that starts may accept a connection long before it answers.
                sent = asyncio.get_running_loop().time()
                answer = await self._send(joined[-1].caller)
                joined = [waiter for waiter in joined if not waiter.future.done()]
                fault = answer.fault
                if isinstance(fault, SourceError) and self._is_passing(fault, sent):
                    self._last_fault = fault
                    self._waiting = joined + self._waiting
                    wait = max(pause * random.uniform(0.5, 1), fault.retry_after_seconds)
                    await asyncio.sleep(min(wait, LONGEST_PAUSE_SECONDS))
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                    self._waiting = [waiter for waiter in self._waiting if not waiter.future.done()]
                    continue
                pause = FIRST_PAUSE_SECONDS
                self._last_fault = None
                self._log_outcome(answer, [waiter.caller for waiter in joined])
                for waiter in joined:
                    waiter.future.set_result(answer)
        finally:
            # There is no await between the loop's last check and here, so only cancellation can leave waiters behind.
            for waiter in joined:
                waiter.future.cancel()
            # After a cancellation, `_waiting` may already belong to the next task.
            if self._task is task:
                for waiter in self._waiting:
                    waiter.future.cancel()
                self._reset()
