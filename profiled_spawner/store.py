"""When to read and when to parse: shared reads, unchanged versions, the last good document, the failure policy.

A `Store` serves one source on one event loop. Spawns share its requests (see `reads`). What was read is parsed once per
version, in a thread. When nothing good comes of it, the policy says what a spawn gets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

from . import metrics
from .background import background
from .document import Document
from .errors import Diagnostic, DocumentError, SourceError
from .escaping import printable
from .parsing import parse_document
from .reads import SharedReads
from .sources import Fetching, Revision, Source

__all__ = ["EscapingLog", "FailurePolicy", "Log", "Outcome", "Reading", "Store", "Versions", "fetch", "find_store"]

FailurePolicy: TypeAlias = Literal["last-good", "fail", "ignore"]

Fault: TypeAlias = SourceError | DocumentError

Log: TypeAlias = logging.Logger | logging.LoggerAdapter[logging.Logger]

# A Kubernetes object has at most 256 KiB of annotations, and a line of a log should be shorter.
_MAX_ORIGINS = 50


class EscapingLog(logging.LoggerAdapter[logging.Logger]):
    """A log whose lines hold every text that is put into them as `printable` does.

    An error is put in as it is: those of this package are printable, and may have several lines.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        # The hub's log names the place that a line comes from: the caller, not this method.
        kwargs.setdefault("stacklevel", 2)
        super().log(level, msg, *(printable(arg) if isinstance(arg, str) else arg for arg in args), **kwargs)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a spawn is given.

    Attributes:
        document: The profiles.
        source: The revision they come from, such as ``configmap/jhub/jupyter-singleuser-profiles@123456``; None
            where the policy gave none.
        fault: Why this is not what the source holds now; None if it is.
        selected: The revisions of other ConfigMaps whose profiles are in it too.
    """

    document: Document
    source: str | None
    fault: Fault | None = None
    selected: tuple[str, ...] = ()

    @property
    def origin(self) -> str | None:
        """Every revision that the profiles come from, as an annotation can hold it; None if there is none."""
        sources = [*([] if self.source is None else [self.source]), *self.selected]
        shown = ", ".join(sources[:_MAX_ORIGINS])
        return f"{shown}, …" if len(sources) > _MAX_ORIGINS else shown or None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What reading a document once, with its parse, came to: a document, or why there is none."""

    revision: Revision | None
    document: Document | None
    fault: Fault | None


class Versions:
    """A document as it was last read, and as it was when it last was good.

    Attributes:
        name: What people know its source by.
        last_good: What a spawn is given of it; None if it never was good.
    """

    def __init__(self, name: str, configmap: str | None = None) -> None:
        """Makes those of a document that has not been read.

        Args:
            name: What people know its source by.
            configmap: The ConfigMap that its profiles name as theirs; None for the main document.
        """
        self.name = name
        self._configmap = configmap
        self.last_good: Reading | None = None
        self._last_good_at = 0.0
        self._parsed: Outcome | None = None
        self._told: DocumentError | None = None

    @background()
    def parse(self, extract: Callable[[], Revision]) -> Outcome:
        """Makes a document of what was read. For a thread: it changes nothing, and raises nothing."""
        revision = None
        try:
            revision = extract()
            known = self._parsed
            if known is not None and known.revision is not None and known.revision.version == revision.version:
                return known
            text = revision.text
            document = parse_document(
                text.text,
                source=revision.name,
                line_offset=text.line_offset,
                column_offset=text.column_offset,
            )
            if self._configmap is not None:
                document = document.of_configmap(self._configmap)
        except (SourceError, DocumentError) as fault:
            return Outcome(revision, None, fault.again())
        except Exception as error:  # noqa: BLE001  a defect of ours must not take the hub down, nor quote the text
            what = f"could not be read, by a defect of this package ({type(error).__name__}); please report it"
            return Outcome(revision, None, DocumentError([Diagnostic(what)], source=self.name))
        return Outcome(revision, document, None)

    def keep(self, outcome: Outcome, log: Log) -> None:
        """Takes what was read as the newest there is, and warns once of what is ignored in it."""
        if isinstance(outcome.fault, SourceError):
            metrics.READS.labels(self.name, outcome.fault.outcome).inc()
            return
        metrics.READS.labels(self.name, "ok").inc()
        if outcome is not self._parsed:
            metrics.PARSES.labels(self.name, "valid" if outcome.document else "invalid").inc()
            if outcome.document is not None and outcome.revision is not None and outcome.document.ignored:
                log.warning(
                    "%s has keys of jupyterhub-singleuser-profiles that are ignored: %s; "
                    "`profiled-spawner validate` says what to do instead",
                    outcome.revision.name,
                    ", ".join(outcome.document.ignored),
                )
        self._parsed = outcome
        metrics.DOCUMENT_VALID.labels(self.name).set(outcome.document is not None)
        if outcome.document is not None and outcome.revision is not None:
            self.last_good = Reading(outcome.document, outcome.revision.name)
            self._last_good_at = last = time.monotonic()
            metrics.DOCUMENT_AGE.labels(self.name).set_function(lambda: time.monotonic() - last)

    def forget(self) -> None:
        """Ends what the metrics say of it, when there is no such document any more."""
        for gauge in (metrics.DOCUMENT_VALID, metrics.DOCUMENT_AGE):
            with contextlib.suppress(KeyError):
                gauge.remove(self.name)

    def describe_last_good(self) -> str:
        """Which version the last good one is, and how old."""
        assert self.last_good is not None
        return f"{self.last_good.source}, read {time.monotonic() - self._last_good_at:.0f} s ago"

    def describe_fault(self, fault: Fault) -> Fault | str:
        """Says what is wrong: of many errors each the first time, then the first alone."""
        told, self._told = self._told, fault if isinstance(fault, DocumentError) else None
        if isinstance(fault, DocumentError) and fault is told and len(fault.diagnostics) > 1:
            return f"{fault.source} is not valid, still: {fault.diagnostics[0]}, and more (see above)"
        return fault.again()


@dataclass(frozen=True, slots=True)
class _Caller:
    source: Source
    policy: FailurePolicy
    log: Log


class Store:
    """The document of one source, as the spawns of one event loop see it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reads = SharedReads[_Caller, Outcome](name, self._read, self._tell)
        self._versions = Versions(name)
        self._raw: bytes | None = None
        self._outcome: Outcome | None = None

    async def read(self, source: Source, *, policy: FailurePolicy, timeout_seconds: float, log: Log) -> Reading:
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
        try:
            outcome = await self._reads.join(_Caller(source, policy, log), timeout_seconds)
        except SourceError as fault:
            self._report(fault, policy, log)
            outcome = Outcome(None, None, fault)
        return self._give(outcome, policy)

    async def _read(self, caller: _Caller) -> Outcome:
        source = caller.source
        raw = await fetch(source)
        if isinstance(raw, SourceError):
            metrics.READS.labels(self._name, raw.outcome).inc()
            return Outcome(None, None, raw)
        outcome = self._outcome
        if outcome is None or raw != self._raw:
            outcome = await asyncio.to_thread(self._versions.parse, lambda: source.extract(raw))
        self._versions.keep(outcome, caller.log)
        if not isinstance(outcome.fault, SourceError):
            self._raw, self._outcome = raw, outcome
        return outcome

    def _tell(self, outcome: Outcome, callers: Sequence[_Caller]) -> None:
        if outcome.fault is not None:
            for policy, log in {caller.policy: caller.log for caller in callers}.items():
                self._report(outcome.fault, policy, log)

    def _report(self, fault: Fault, policy: FailurePolicy, log: Log) -> None:
        why = self._versions.describe_fault(fault)
        if policy == "last-good" and self._versions.last_good:
            log.warning("Using the last good profiles, %s, because %s", self._versions.describe_last_good(), why)
        elif policy == "ignore":
            log.error("Starting servers without its profiles, as failure_policy says, because %s", why)
        else:
            log.error("Starting no server, because %s", why)

    def _give(self, outcome: Outcome, policy: FailurePolicy) -> Reading:
        if outcome.document is not None and outcome.revision is not None:
            return Reading(outcome.document, outcome.revision.name)
        fault = outcome.fault
        assert fault is not None
        last_good = self._versions.last_good
        if policy == "last-good" and last_good is not None:
            return Reading(last_good.document, last_good.source, fault)
        if policy == "ignore":
            return Reading(Document(), None, fault)
        raise fault.again()


async def fetch(source: Fetching) -> bytes | SourceError:
    """Sends one request for a source. Raises nothing: whoever waits must get an answer, whatever happens here."""
    began = time.monotonic()
    try:
        return await source.fetch()
    except SourceError as fault:
        return fault.again()
    except asyncio.CancelledError:
        metrics.READS.labels(source.name, "unavailable").inc()
        raise
    except Exception as error:  # noqa: BLE001  see above
        what = f"{source.name} could not be read, by a defect ({type(error).__name__}); please report it"
        return SourceError(what, outcome="unavailable")
    finally:
        metrics.READ_DURATION.labels(source.name).observe(time.monotonic() - began)


# KubeSpawner's API clients belong to an event loop, and so does who waits for them. A store that is idle refers to
# neither, so it goes when its loop does.
_stores: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Store]] = WeakKeyDictionary()


def find_store(source: Source) -> Store:
    """The store of a source on the running event loop."""
    stores = _stores.setdefault(asyncio.get_running_loop(), {})
    # By name: the source itself holds the API client, and with it the loop.
    name = f"{source.name}#{source.key}"
    return stores.setdefault(name, Store(source.name))
