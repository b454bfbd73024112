"""When to read and when to parse: shared reads, unchanged versions, the last good document, the failure policy.

A `Store` serves one source on one event loop. Spawns wait for a request that was sent after they asked, so none
sees an older document; they share that request, so a burst costs a handful. What was read is parsed once per
version, in a thread. When nothing good comes of it, the policy says what a spawn gets.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

from . import metrics
from .document import Document
from .errors import Diagnostic, DocumentError, SourceError
from .parsing import parse_document
from .sources import Revision, Source

__all__ = ["FailurePolicy", "Reading", "Store", "find_store"]

FailurePolicy: TypeAlias = Literal["last-good", "fail", "ignore"]

Fault: TypeAlias = SourceError | DocumentError

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a spawn is given.

    Attributes:
        document: The profiles.
        source: The revision they come from, such as ``configmap/jhub/jupyter-singleuser-profiles@123456``; None
            where the policy gave none.
        fault: Why this is not what the source holds now; None if it is.
    """

    document: Document
    source: str | None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one request, with its parse, came to: a document, or why there is none."""

    revision: Revision | None
    document: Document | None
    fault: Fault | None


@dataclass(eq=False, slots=True)
class _Waiter:
    """A spawn that asked."""

    source: Source
    policy: FailurePolicy
    log: logging.Logger | logging.LoggerAdapter[logging.Logger]
    future: asyncio.Future[_Outcome]


class Store:
    """The document of one source, as the spawns of one event loop see it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: list[_Waiter] = []
        # How many spawns have asked and not been answered, in `_waiting` or by the request under way.
        self._asking = 0
        # Only while somebody waits: an idle store holds nothing of its loop, so that it can go with it.
        self._reader: asyncio.Task[None] | None = None
        self._last_fault: SourceError | None = None
        self._raw: bytes | None = None
        self._parsed: _Outcome | None = None
        self._reported: Fault | None = None
        self._last_good: Reading | None = None
        self._last_good_at = 0.0

    async def read(
        self,
        source: Source,
        *,
        policy: FailurePolicy,
        timeout_seconds: float,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
    ) -> Reading:
        """Gives the document as it is now, or what the policy gives in its place.

        Transient faults are retried until the time is over. A caller that gives up or is cancelled does not
        disturb the others; what the last of them leaves behind, a request or a pause, holds up nobody who comes later.

        Args:
            source: Where to read; equal to that of every other caller of this store.
            policy: What to give when nothing good comes of it.
            timeout_seconds: How long to wait and read altogether.
            log: Where to say what is wrong and how to mend it.

        Raises:
            SourceError: The source could not be read, and the policy has nothing to give.
            DocumentError: It holds no valid document, and the policy has nothing to give.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(source, policy, log, loop.create_future())
        self._waiting.append(waiter)
        self._asking += 1
        if self._reader is None:
            self._reader = loop.create_task(self._serve(), name=f"read {self._name}")
        try:
            async with asyncio.timeout(timeout_seconds):
                outcome = await waiter.future
        except TimeoutError:
            fault = SourceError(
                f"no answer for {self._name} within {timeout_seconds:g} s, retries included"
                + (f"; the last was: {self._last_fault}" if self._last_fault else ""),
                outcome="unavailable",
            )
            self._report(fault, policy, log)
            return self._give(_Outcome(None, None, fault), policy)
        finally:
            self._asking -= 1
            if not self._asking and self._reader is not None:
                # Whoever asks next must not wait for the end of what nobody waits for any more.
                self._reader.cancel()
                self._rest()
        return self._give(outcome, policy)

    def _rest(self) -> None:
        """Holds nothing of a reader any more."""
        self._reader = None
        self._last_fault = None
        self._waiting = []

    async def _serve(self) -> None:
        """Sends one request after the other as long as somebody waits who may not join the one before."""
        reader = asyncio.current_task()
        pause = _FIRST_PAUSE_SECONDS
        joined: list[_Waiter] = []
        try:
            while self._waiting:
                joined, self._waiting = self._waiting, []
                outcome = await self._read(joined[-1])
                joined = [waiter for waiter in joined if not waiter.future.done()]
                fault = outcome.fault
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
                if fault is not None:
                    for policy, log in {waiter.policy: waiter.log for waiter in joined}.items():
                        self._report(fault, policy, log)
                for waiter in joined:
                    waiter.future.set_result(outcome)
        finally:
            # No await since the last look at who waits, so nobody is left behind, but by cancellation.
            for waiter in joined:
                waiter.future.cancel()
            # If it was given up, those who wait now are another reader's.
            if self._reader is reader:
                for waiter in self._waiting:
                    waiter.future.cancel()
                self._rest()

    async def _read(self, waiter: _Waiter) -> _Outcome:
        source = waiter.source
        began = time.monotonic()
        try:
            raw = await source.fetch()
        except SourceError as fault:
            metrics.READS.labels(self._name, fault.outcome).inc()
            return _Outcome(None, None, _again(fault))
        except asyncio.CancelledError:
            metrics.READS.labels(self._name, "unavailable").inc()
            raise
        except Exception as error:  # noqa: BLE001  whoever waits must get an answer, whatever happens here
            metrics.READS.labels(self._name, "unavailable").inc()
            what = f"{self._name} could not be read, by a defect ({type(error).__name__}); please report it"
            return _Outcome(None, None, SourceError(what, outcome="unavailable"))
        finally:
            metrics.READ_DURATION.labels(self._name).observe(time.monotonic() - began)
        outcome = self._parsed
        if outcome is None or raw != self._raw:
            outcome = await asyncio.to_thread(self._parse, source, raw, outcome)
        if isinstance(outcome.fault, SourceError):
            metrics.READS.labels(self._name, outcome.fault.outcome).inc()
            return outcome
        metrics.READS.labels(self._name, "ok").inc()
        if outcome is not self._parsed:
            metrics.PARSES.labels(self._name, "valid" if outcome.document else "invalid").inc()
        self._raw, self._parsed = raw, outcome
        metrics.DOCUMENT_VALID.labels(self._name).set(outcome.document is not None)
        if outcome.document is not None and outcome.revision is not None:
            self._last_good = Reading(outcome.document, outcome.revision.name)
            self._last_good_at = last = time.monotonic()
            metrics.DOCUMENT_AGE.labels(self._name).set_function(lambda: time.monotonic() - last)
        return outcome

    def _parse(self, source: Source, raw: bytes, known: _Outcome | None) -> _Outcome:
        """Makes a document of what was fetched. Runs in a thread, and lets nothing but a fault come of it."""
        revision = None
        try:
            revision = source.extract(raw)
            if known is not None and known.revision is not None and known.revision.version == revision.version:
                return known
            text = revision.text
            document = parse_document(
                text.text,
                source=revision.name,
                line_offset=text.line_offset,
                column_offset=text.column_offset,
            )
        except (SourceError, DocumentError) as fault:
            return _Outcome(revision, None, _again(fault))
        except Exception as error:  # noqa: BLE001  a defect of ours must not take the hub down, nor quote the text
            what = f"could not be read, by a defect of this package ({type(error).__name__}); please report it"
            return _Outcome(revision, None, DocumentError([Diagnostic(what)], source=self._name))
        return _Outcome(revision, document, None)

    def _report(
        self,
        fault: Fault,
        policy: FailurePolicy,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
    ) -> None:
        why = str(fault)
        if isinstance(fault, DocumentError) and fault is self._reported and len(fault.diagnostics) > 1:
            why = f"{fault.source} is not valid, still: {fault.diagnostics[0]}, and more (see above)"
        self._reported = fault
        last = self._last_good
        if policy == "last-good" and last:
            age = time.monotonic() - self._last_good_at
            log.warning("Using the last good profiles, %s, read %.0f s ago, because %s", last.source, age, why)
        elif policy == "ignore":
            log.error("Starting servers without profiles, as failure_policy says, because %s", why)
        else:
            log.error("Starting no server, because %s", why)

    def _give(self, outcome: _Outcome, policy: FailurePolicy) -> Reading:
        if outcome.document is not None and outcome.revision is not None:
            return Reading(outcome.document, outcome.revision.name)
        fault = outcome.fault
        assert fault is not None
        if policy == "last-good" and self._last_good is not None:
            return Reading(self._last_good.document, self._last_good.source, fault)
        if policy == "ignore":
            return Reading(Document(), None, fault)
        raise _again(fault)


def _again(fault: Fault) -> Fault:
    """The same fault as one of its own, without what it was raised from and through.

    One that many spawns raise would gather their tracebacks; one that a store keeps would keep, by those, the client
    and its event loop.
    """
    if isinstance(fault, DocumentError):
        return DocumentError(fault.diagnostics, omitted=fault.omitted, source=fault.source)
    return SourceError(
        str(fault),
        outcome=fault.outcome,
        transient=fault.transient,
        retry_after_seconds=fault.retry_after_seconds,
    )


# KubeSpawner's API clients belong to an event loop, and so does who waits for them. A store that is idle refers to
# neither, so it goes when its loop does.
_stores: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Store]] = WeakKeyDictionary()


def find_store(source: Source) -> Store:
    """The store of a source on the running event loop."""
    stores = _stores.setdefault(asyncio.get_running_loop(), {})
    # By name: the source itself holds the API client, and with it the loop.
    name = f"{source.name}#{source.key}"
    return stores.setdefault(name, Store(source.name))
