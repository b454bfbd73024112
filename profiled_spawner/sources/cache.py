"""When to read and when to parse: shared requests, unchanged versions, the last good document, the failure policy.

A `Store` serves one source on one event loop. Spawns share its requests (see `shared_requests`). What was read is
parsed once per version, in a thread, which may hang: then the spawns get the same as when nothing good comes of it, as
the policy says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

from .. import metrics
from ..document.model import Document
from ..document.parser import parse_document
from ..errors import Diagnostic, DocumentError, SourceError
from ..escaping import printable
from .last_good import LastGoodFile, Recall, Saved
from .shared_requests import SharedReads
from .source import Fetching, Revision, Source
from .threads import GIVE_UP_SECONDS, Single, background

__all__ = [
    "EscapingLog",
    "FailurePolicy",
    "Fault",
    "Log",
    "Outcome",
    "Purpose",
    "Reading",
    "Store",
    "Versions",
    "describe_age",
    "describe_parsing",
    "fetch",
    "find_store",
    "report",
    "report_for_page",
]

FailurePolicy: TypeAlias = Literal["last-good", "fail", "ignore"]

Purpose: TypeAlias = Literal["start", "page", "observation"]
"""What is read for: a server that starts, a page, where nothing is refused yet, or a start that is only observed."""

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
        saved: The same as the file of last good documents holds it.
    """

    def __init__(self, name: str, configmap: str | None = None, uid: str = "") -> None:
        """Makes those of a document that has not been read.

        Args:
            name: What people know its source by.
            configmap: The ConfigMap that its profiles name as theirs; None for the main document.
            uid: What tells that ConfigMap from another of its name.
        """
        self.name = name
        self._configmap = configmap
        self._uid = uid
        self.last_good: Reading | None = None
        self.saved: Saved | None = None
        self._last_good_at = 0.0
        self._is_restored = False
        self._parsed: Outcome | None = None
        self._told: DocumentError | None = None
        self._parsing = Single[Hashable, Outcome]()

    @property
    def is_parsing(self) -> bool:
        """Whether a thread is parsing a version that has not been given up."""
        return self._parsing.is_busy

    async def parse_in_thread(self, key: Hashable, extract: Callable[[], Revision], log: Log) -> Outcome:
        """Makes a document of what was read, in a thread; nobody else's work waits for it. It raises nothing.

        At most one version is parsed at a time. One that takes too long is given up: it counts as one that is not
        valid, and another one may be parsed.

        Args:
            key: What was read: whoever brings the same is given the same, and parses it only once.
            extract: Finds the document in it.
            log: Where to say that it was given up.
        """
        try:
            return await self._parsing.run(key, lambda: self.parse(extract), partial(self._give_up, log))
        except SourceError as fault:
            return Outcome(None, None, fault.again())

    def _give_up(self, log: Log) -> Outcome:
        log.error(
            "Gave up parsing %s after %g s, by a defect of this package; please report it; its thread goes on until "
            "the hub restarts, and the next version gets one of its own",
            self.name,
            GIVE_UP_SECONDS,
        )
        return Outcome(None, None, self._defect(f"not parsed within {GIVE_UP_SECONDS:g} s"))

    def _defect(self, what: str) -> DocumentError:
        what = f"could not be read, by a defect of this package ({what}); please report it"
        return DocumentError([Diagnostic(what)], source=self.name)

    def recognize(self, extract: Callable[[], Revision]) -> Outcome | Revision:
        """What was read: its outcome if that is known, or else the revision, to be parsed. It raises nothing."""
        try:
            revision = extract()
        except (SourceError, DocumentError) as fault:
            return Outcome(None, None, fault.again())
        except Exception as error:  # noqa: BLE001  a defect of ours must not take the hub down, nor quote the text
            return Outcome(None, None, self._defect(type(error).__name__))
        known = self._parsed
        # By its text too: a cluster that was restored from a backup gives its versions out once more.
        return known if known is not None and known.revision == revision else revision

    @background()
    def parse(self, extract: Callable[[], Revision]) -> Outcome:
        """Makes a document of what was read. For a thread: it changes nothing, and raises nothing."""
        revision = self.recognize(extract)
        if isinstance(revision, Outcome):
            return revision
        try:
            text = revision.text
            document = parse_document(
                text.text,
                source=revision.name,
                line_offset=text.line_offset,
                column_offset=text.column_offset,
            )
            if self._configmap is not None:
                document = document.of_configmap(self._configmap)
        except DocumentError as fault:
            return Outcome(revision, None, fault.again())
        except Exception as error:  # noqa: BLE001  see above
            return Outcome(revision, None, self._defect(type(error).__name__))
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
            text = outcome.revision.text
            if self.saved is None or (self.saved.revision, self.saved.text) != (outcome.revision.name, text):
                self.saved = Saved(outcome.revision.name, text, time.time(), self._configmap or "", self._uid)
            self._note_age(0)
            self._is_restored = False

    def restore(self, saved: Saved, outcome: Outcome, log: Log) -> None:
        """Takes what an earlier hub has left as the last good document, if this one has none of its own."""
        if self.last_good is not None:
            return
        if outcome.document is None:
            log.warning("Not using the last good profiles of an earlier hub, because %s", outcome.fault)
            return
        self.last_good = Reading(outcome.document, saved.revision)
        self.saved = saved
        self._note_age(saved.age_seconds)
        self._is_restored = True

    def _note_age(self, age_seconds: float) -> None:
        self._last_good_at = last = time.monotonic() - age_seconds
        metrics.DOCUMENT_AGE.labels(self.name).set_function(lambda: time.monotonic() - last)

    def describe_last_good(self) -> str:
        """Which version the last good one is, and how old."""
        assert self.last_good is not None
        return f"{self.last_good.source}, read {describe_age(self._last_good_at, self._is_restored)}"

    def describe_fault(self, fault: Fault) -> Fault | str:
        """Says what is wrong: of many errors each the first time, then the first alone."""
        told, self._told = self._told, fault if isinstance(fault, DocumentError) else None
        if isinstance(fault, DocumentError) and fault is told and len(fault.diagnostics) > 1:
            return f"{fault.source} is not valid, still: {fault.diagnostics[0]}, and more (see above)"
        return fault.again()


def describe_age(since: float, is_restored: bool) -> str:
    """Says how long ago something was read.

    Args:
        since: When, by the monotonic clock.
        is_restored: Whether it was an earlier hub that read it, which may be long ago.
    """
    age = time.monotonic() - since
    if not is_restored:
        return f"{age:.0f} s ago"
    units = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "h"), (2 * 60, 60, "min"), (0, 1, "s"))
    size, unit = next((size, unit) for least, size, unit in units if age >= least)
    return f"{age // size:.0f} {unit} ago, before this hub started"


def report_for_page(shown: str, fault: Fault, log: Log) -> None:
    """Says in a line what a page shows and why. The start after it tells more, at the level that it deserves."""
    why: Fault | str = fault.again()
    if isinstance(fault, DocumentError):
        why = f"{fault.source} is not valid: {fault.diagnostics[0]}"
    log.info("Showing the spawn page with %s, because %s", shown, why)


def report(log: Log, purpose: Purpose, level: int, does: str, would: str, *args: object) -> None:
    """Logs what a fault does to a start. For a start that is only observed, warns of what it would do."""
    if purpose == "observation":
        log.warning(would, *args)
    else:
        log.log(level, does, *args)


@dataclass(frozen=True, slots=True)
class _Caller:
    source: Source
    policy: FailurePolicy
    purpose: Purpose
    log: Log
    file: LastGoodFile | None
    patience_seconds: float


class Store:
    """The document of one source, as the spawns of one event loop see it."""

    def __init__(self, name: str, key: str = "") -> None:
        self._name = name
        self._reads = SharedReads[_Caller, Outcome](name, self._read, self._tell)
        self._versions = Versions(name)
        self._saved_as = f"{name}#{key}"
        self._recall = Recall(self._saved_as, lambda saved: self._versions.parse(saved.to_revision))

    async def read(
        self,
        source: Source,
        *,
        policy: FailurePolicy,
        timeout_seconds: float,
        log: Log,
        purpose: Purpose = "start",
        file: LastGoodFile | None = None,
    ) -> Reading:
        """Gives the document as it is now, or what the policy gives in its place.

        Transient faults are retried until the time is over. A caller that gives up or is cancelled does not
        disturb the others; what the last of them leaves behind, a request or a pause, holds up nobody who comes later.

        Args:
            source: Where to read; equal to that of every other caller of this store.
            policy: What to give when nothing good comes of it.
            timeout_seconds: How long to wait, read, parse and look into the file altogether.
            log: Where to say what is wrong and how to mend it.
            purpose: What the document is for.
            file: Where the last good document is kept for the next hub, and found by this one; None for nowhere.

        Raises:
            SourceError: The source could not be read, and the policy has nothing to give.
            DocumentError: It holds no valid document, and the policy has nothing to give.
        """
        patience = 0 if self._versions.last_good else self._recall.find_patience(file, timeout_seconds)
        caller = _Caller(source, policy, purpose, log, file, patience)
        try:
            outcome = await self._reads.join(caller, timeout_seconds - patience)
        except SourceError as error:
            fault = describe_parsing(self._name) if self._versions.is_parsing else error
            await self._restore(caller)
            self._report(fault, policy, purpose, log)
            outcome = Outcome(None, None, fault)
        return self._give(outcome, policy)

    async def _read(self, caller: _Caller) -> Outcome:
        source = caller.source
        raw = await fetch(source)
        if isinstance(raw, SourceError):
            metrics.READS.labels(self._name, raw.outcome).inc()
            if not raw.transient:
                await self._restore(caller)
            return Outcome(None, None, raw)
        outcome = await self._versions.parse_in_thread(raw, lambda: source.extract(raw), caller.log)
        self._versions.keep(outcome, caller.log)
        if outcome.document is None:
            await self._restore(caller)
        elif caller.file is not None and self._versions.saved is not None:
            caller.file.save(self._saved_as, (self._versions.saved,), caller.log)
        return outcome

    async def _restore(self, caller: _Caller) -> None:
        """If nothing good has been read, looks for what an earlier hub has left."""
        if self._versions.last_good is None:
            for saved, outcome in await self._recall.find(caller.file, caller.patience_seconds, caller.log):
                self._versions.restore(saved, outcome, caller.log)

    def _tell(self, outcome: Outcome, callers: Sequence[_Caller]) -> None:
        if outcome.fault is not None:
            logs = {(caller.policy, caller.purpose): caller.log for caller in callers}
            for (policy, purpose), log in logs.items():
                self._report(outcome.fault, policy, purpose, log)

    def _report(self, fault: Fault, policy: FailurePolicy, purpose: Purpose, log: Log) -> None:
        last_good = None
        if policy == "last-good" and self._versions.last_good:
            last_good = self._versions.describe_last_good()
        if purpose == "page":
            report_for_page(f"the last good sizes, {last_good}" if last_good else "no sizes", fault, log)
            return
        why = self._versions.describe_fault(fault)
        if last_good:
            does = "Using the last good profiles, %s, because %s"
            would = "Would use the last good profiles, %s, because %s"
            report(log, purpose, logging.WARNING, does, would, last_good, why)
        elif policy == "ignore":
            does = "Starting servers without its profiles, as failure_policy says, because %s"
            would = "Would start servers without its profiles, as failure_policy says, because %s"
            report(log, purpose, logging.ERROR, does, would, why)
        else:
            does, would = "Starting no server, because %s", "Would start no server, because %s"
            report(log, purpose, logging.ERROR, does, would, why)

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


def describe_parsing(name: str) -> SourceError:
    """Why there is no newer document yet of a source that could be read."""
    return SourceError(f"{name} is still being parsed", outcome="unavailable")


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
    return stores.setdefault(name, Store(source.name, source.key))
