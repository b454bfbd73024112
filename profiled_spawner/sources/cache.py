"""The document that a start gets: fresh, or the last good one, or an error, as the failure policy says.

A `Store` serves one source on one event loop. Spawns share its requests (see `shared_requests`). Each version of a
document is parsed once, in a thread. If that thread hangs, the spawns get what the policy gives for a broken document.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

from .. import metrics
from ..document.model import Document, Team
from ..document.parser import parse_document
from ..errors import Diagnostic, DocumentError, SourceError
from ..escaping import printable
from .bounds import NO_TEAM, bound_document
from .last_good import LastGoodFile, LastGoodLookup, Saved
from .shared_requests import SharedRequests
from .source import ByteSource, Revision, Source
from .threads import GIVE_UP_SECONDS, SingleFlight, low_latency

__all__ = [
    "DocumentCache",
    "EscapingLog",
    "FailurePolicy",
    "Fault",
    "GoodVersion",
    "Log",
    "Outcome",
    "Purpose",
    "Snapshot",
    "Store",
    "all_stores",
    "describe_age",
    "explain_unfinished_parse",
    "fetch",
    "get_store",
    "log_fault",
    "log_fault_for_page",
]

FailurePolicy: TypeAlias = Literal["last-good", "fail", "ignore"]

Purpose: TypeAlias = Literal["start", "page", "observation"]
"""Why a document is read: for a start, for the spawn page, or for a start that is only observed."""

Fault: TypeAlias = SourceError | DocumentError

Log: TypeAlias = logging.Logger | logging.LoggerAdapter[logging.Logger]

# Kubernetes limits an object's annotations to 256 KiB together, and a log line should be shorter than that.
_MAX_ORIGINS = 50


class EscapingLog(logging.LoggerAdapter[logging.Logger]):
    """A log that escapes unprintable characters in every text argument, as `printable` does.

    Exceptions are passed through: those of this package are printable, and may have several lines.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        # Makes the hub's log name our caller as the line's origin, not this method.
        kwargs.setdefault("stacklevel", 2)
        super().log(level, msg, *(printable(arg) if isinstance(arg, str) else arg for arg in args), **kwargs)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one start is given.

    Attributes:
        document: The profiles and sizes.
        source: The name of the main document's revision, such as
            ``configmap/jhub/jupyter-singleuser-profiles@123456``; None if the policy ``ignore`` gave no document.
        fault: Why this is not the source's current content; None if it is.
        selected: The names of the selected ConfigMaps' revisions that are part of it.
    """

    document: Document
    source: str | None
    fault: Fault | None = None
    selected: tuple[str, ...] = ()

    @property
    def origin(self) -> str | None:
        """The names of all revisions, shortened to fit into an annotation; None if there are none."""
        sources = [*([] if self.source is None else [self.source]), *self.selected]
        shown = ", ".join(sources[:_MAX_ORIGINS])
        return f"{shown}, …" if len(sources) > _MAX_ORIGINS else shown or None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of reading and parsing a document once: the document, or the fault."""

    revision: Revision | None
    document: Document | None
    fault: Fault | None


@dataclass(eq=False, slots=True)
class GoodVersion:
    """A version of a document that is valid.

    Attributes:
        document: The document.
        saved: The same, as the file of last good documents holds it.
        read_at: When it was last read, by the monotonic clock.
        is_restored: Whether an earlier hub read it.
        bounded: Of a selected ConfigMap, the team by which it was last bounded, and what came of it: the document as a
            start gets it, or why it is not used. None if the main document has no teams.
    """

    document: Document
    saved: Saved
    read_at: float
    is_restored: bool = False
    bounded: tuple[Team | None, Document | Fault] | None = None

    @property
    def source(self) -> str:
        """The name of its revision."""
        return self.saved.revision

    @property
    def is_refused(self) -> bool:
        """Whether it does not keep to its team's bounds, as they were last seen."""
        return self.bounded is not None and not isinstance(self.bounded[1], Document)

    def describe(self) -> str:
        """Returns its name and age, for the log."""
        return f"{self.source}, read {describe_age(self.read_at, self.is_restored)}"


class DocumentCache:
    """The cache of one document: its newest version, and the last good one.

    Attributes:
        name: The source's name in messages.
        configmap: The name of a selected ConfigMap; None for the main document.
        uid: The uid of that ConfigMap.
        last_good: The newest valid version; None if there was none.
        kept: Of a selected ConfigMap, the newest version that a start got: it was valid, and kept to its bounds at that
            time.
        told: Why the newest valid version is not used, if the log has that already.
        reported: The version that is in use, as the metrics have it.
    """

    def __init__(self, name: str, configmap: str | None = None, uid: str = "") -> None:
        """Creates an empty cache.

        Args:
            name: The source's name in messages.
            configmap: The name of a selected ConfigMap, which its profiles are labelled with; None for the main
                document.
            uid: The uid of that ConfigMap.
        """
        self.name = name
        self.configmap = configmap
        self.uid = uid
        self.last_good: GoodVersion | None = None
        self.kept: GoodVersion | None = None
        self.told: Fault | None = None
        self.reported: GoodVersion | None = None
        self._newest: Outcome | None = None
        self._last_logged: DocumentError | None = None
        self._parsing = SingleFlight[Hashable, Outcome]()

    @property
    def is_parsing(self) -> bool:
        """Whether a thread is parsing a version that was not given up."""
        return self._parsing.is_busy

    @property
    def versions(self) -> tuple[GoodVersion, ...]:
        """The versions that a start may get, the first that keeps to its bounds."""
        return tuple(dict.fromkeys(version for version in (self.last_good, self.kept) if version is not None))

    @property
    def in_use(self) -> GoodVersion | None:
        """The one that it gets, by the bounds as they were last seen; None if it gets none."""
        return next((version for version in self.versions if not version.is_refused), None)

    async def parse_in_thread(self, key: Hashable, extract: Callable[[], Revision], log: Log) -> Outcome:
        """Returns the outcome of parsing a version in a thread. Never raises.

        Only one version at a time is parsed. If that takes too long, it is given up and counts as invalid, and the next
        version may be parsed.

        Args:
            key: Identifies the version. Callers with the same key share one parse.
            extract: Returns the version's text.
            log: Where to log that the parse was given up.
        """
        try:
            return await self._parsing.run(key, lambda: self.parse(extract), partial(self._give_up, log))
        except SourceError as fault:
            return Outcome(None, None, fault.without_traceback())

    def _give_up(self, log: Log) -> Outcome:
        log.error(
            "Gave up parsing %s after %g s, because of a defect of this package; please report it; its thread runs "
            "until the hub restarts, and newer versions are parsed in another one",
            self.name,
            GIVE_UP_SECONDS,
        )
        return Outcome(None, None, self.explain_defect(f"not parsed within {GIVE_UP_SECONDS:g} s"))

    def explain_defect(self, what: str) -> DocumentError:
        what = f"could not be read, because of a defect of this package ({what}); please report it"
        return DocumentError([Diagnostic(what)], source=self.name)

    def look_up(self, extract: Callable[[], Revision]) -> Outcome | Revision:
        """Returns the cached outcome of a version, or the revision if it must be parsed. Never raises."""
        try:
            revision = extract()
        except (SourceError, DocumentError) as fault:
            return Outcome(None, None, fault.without_traceback())
        except Exception as error:  # noqa: BLE001  a defect must not stop the hub, nor quote the text
            return Outcome(None, None, self.explain_defect(type(error).__name__))
        newest = self._newest
        # Compares the text too: a cluster that is restored from a backup issues the same versions again.
        return newest if newest is not None and newest.revision == revision else revision

    def parse(self, extract: Callable[[], Revision]) -> Outcome:
        """Returns the outcome of a version: cached, or parsed now. Runs in a thread, changes nothing, never raises."""
        revision = self.look_up(extract)
        if isinstance(revision, Outcome):
            return revision
        try:
            text = revision.text
            with low_latency(len(text.text)):
                document = parse_document(
                    text.text,
                    source=revision.name,
                    line_offset=text.line_offset,
                    column_offset=text.column_offset,
                    is_selected=self.configmap is not None,
                )
                if self.configmap is not None:
                    document = document.of_configmap(self.configmap)
        except DocumentError as fault:
            return Outcome(revision, None, fault.without_traceback())
        except Exception as error:  # noqa: BLE001  as in `look_up`
            return Outcome(revision, None, self.explain_defect(type(error).__name__))
        return Outcome(revision, document, None)

    def update(self, outcome: Outcome, log: Log) -> None:
        """Stores the newest outcome, and counts it. Logs a warning for each new version that has ignored keys."""
        if isinstance(outcome.fault, SourceError):
            metrics.READS.labels(self.name, outcome.fault.outcome).inc()
            return
        metrics.READS.labels(self.name, "ok").inc()
        if outcome is not self._newest:
            metrics.PARSES.labels(self.name, "valid" if outcome.document else "invalid").inc()
            if outcome.document is not None and outcome.revision is not None and outcome.document.ignored:
                log.warning(
                    "%s has keys of jupyterhub-singleuser-profiles that are ignored: %s; "
                    "`profiled-spawner validate` says what to do instead",
                    outcome.revision.name,
                    ", ".join(outcome.document.ignored),
                )
        self._newest = outcome
        if outcome.document is not None and outcome.revision is not None:
            self._set_last_good(outcome.document, outcome.revision)
        self.report()

    def _set_last_good(self, document: Document, revision: Revision) -> None:
        last = self.last_good
        if last is None or last.document is not document:
            saved = Saved(revision.name, revision.text, time.time(), self.configmap or "", self.uid)
            # Without its time, which is that of the first reading.
            self.last_good = last = GoodVersion(document, last.saved if last and last.saved == saved else saved, 0)
        last.read_at, last.is_restored = time.monotonic(), False

    def restore(self, saved: Saved, outcome: Outcome, log: Log) -> None:
        """Uses a version that an earlier hub saved as the last good one, unless there is one already."""
        if self.last_good is not None and self.kept is not None:
            return
        if outcome.document is None:
            log.warning("Not using the last good profiles of an earlier hub, because %s", outcome.fault)
            return
        version = GoodVersion(outcome.document, saved, time.monotonic() - saved.age_seconds, is_restored=True)
        self.kept = self.kept or version
        self.last_good = self.last_good or version
        self.report()

    def bound(self, version: GoodVersion, team: Team | None) -> Document | Fault:
        """Returns what a start gets of a version, or why nothing. Runs in a thread, changes nothing, never raises.

        Args:
            version: The version of a selected ConfigMap.
            team: The team that has it; None if none has it, so that it is not used.
        """
        text = version.saved.text
        try:
            if team is None:
                return SourceError(NO_TEAM, outcome="refused")
            with low_latency(len(text.text)):
                return bound_document(version.document, self.configmap or "", team, text, source=version.source)
        except DocumentError as fault:
            return fault.without_traceback()
        except Exception as error:  # noqa: BLE001  as in `look_up`
            return self.explain_defect(type(error).__name__)

    def report(self) -> None:
        """Sets the metrics of what is in use."""
        self.reported = in_use = self.in_use
        if self._newest is not None:
            is_valid = self._newest.document is not None and in_use is not None and in_use is self.last_good
            metrics.DOCUMENT_VALID.labels(self.name).set(is_valid)
        if in_use is not None:
            metrics.DOCUMENT_AGE.labels(self.name).set_function(lambda: time.monotonic() - in_use.read_at)
        else:
            with suppress(KeyError):
                metrics.DOCUMENT_AGE.remove(self.name)

    def describe_fault(self, fault: Fault) -> Fault | str:
        """Returns the fault for the log: with all its errors the first time, then with the first error only."""
        last, self._last_logged = self._last_logged, fault if isinstance(fault, DocumentError) else None
        if isinstance(fault, DocumentError) and fault is last and len(fault.diagnostics) > 1:
            return f"{fault.source} is not valid, still: {fault.diagnostics[0]}, and more (see above)"
        return fault.without_traceback()


def describe_age(since: float, is_restored: bool) -> str:
    """Returns how long ago something was read, such as ``12 s ago`` or ``3 h ago, before this hub started``.

    Args:
        since: The time of the reading, by the monotonic clock.
        is_restored: Whether an earlier hub read it. Then the age is rounded, since it may be large.
    """
    age = time.monotonic() - since
    if not is_restored:
        return f"{age:.0f} s ago"
    units = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "h"), (2 * 60, 60, "min"), (0, 1, "s"))
    size, unit = next((size, unit) for least, size, unit in units if age >= least)
    return f"{age // size:.0f} {unit} ago, before this hub started"


def log_fault_for_page(shown: str, fault: Fault, log: Log) -> None:
    """Logs in one line what the spawn page shows, and why. A start that follows logs the details, as an error."""
    why: Fault | str = fault.without_traceback()
    if isinstance(fault, DocumentError):
        why = f"{fault.source} is not valid: {fault.diagnostics[0]}"
    log.info("Showing the spawn page with %s, because %s", shown, why)


def log_fault(log: Log, purpose: Purpose, level: int, does: str, would: str, *args: object) -> None:
    """Logs what a fault does to a start, or as a warning what it would do to a start that is only observed."""
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
    lookup_seconds: float


class Store:
    """The document of one source, for the spawns of one event loop. Get it with `get_store`."""

    def __init__(self, name: str, key: str = "") -> None:
        self._name = name
        self._requests = SharedRequests[_Caller, Outcome](name, self._read, self._log_outcome)
        self._cache = DocumentCache(name)
        self._saved_as = f"{name}#{key}"
        self._lookup = LastGoodLookup(self._saved_as, lambda saved: self._cache.parse(saved.to_revision))

    async def read(
        self,
        source: Source,
        *,
        policy: FailurePolicy,
        timeout_seconds: float,
        log: Log,
        purpose: Purpose = "start",
        file: LastGoodFile | None = None,
    ) -> Snapshot:
        """Returns the current document, or what the failure policy gives instead.

        Retries transient faults until the time is up. A caller that times out or is cancelled does not disturb the
        others. When the last caller leaves, the request is cancelled, so later callers never wait for it.

        Args:
            source: The source, equal to that of every other caller of this store.
            policy: The failure policy: what to return if there is no valid document.
            timeout_seconds: How long fetching, parsing and looking into the file may take together.
            log: Where to log what is wrong and how to fix it.
            purpose: What the document is for.
            file: The file that keeps the last good documents over a restart; None for no such file.

        Raises:
            SourceError: The source could not be read, and the policy gives nothing instead.
            DocumentError: There is no valid document, and the policy gives nothing instead.
        """
        lookup_seconds = 0 if self._cache.last_good else self._lookup.reserve_seconds(file, timeout_seconds)
        caller = _Caller(source, policy, purpose, log, file, lookup_seconds)
        try:
            outcome = await self._requests.join(caller, timeout_seconds - lookup_seconds)
        except SourceError as error:
            fault = explain_unfinished_parse(self._name) if self._cache.is_parsing else error
            await self._restore(caller)
            self._log_fault(fault, policy, purpose, log)
            outcome = Outcome(None, None, fault)
        return self._apply_policy(outcome, policy)

    async def _read(self, caller: _Caller) -> Outcome:
        source = caller.source
        raw = await fetch(source)
        if isinstance(raw, SourceError):
            metrics.READS.labels(self._name, raw.outcome).inc()
            if not raw.transient:
                await self._restore(caller)
            return Outcome(None, None, raw)
        outcome = await self._cache.parse_in_thread(raw, lambda: source.extract(raw), caller.log)
        self._cache.update(outcome, caller.log)
        if outcome.document is None:
            await self._restore(caller)
        elif caller.file is not None and self._cache.last_good is not None:
            caller.file.save(self._saved_as, (self._cache.last_good.saved,), caller.log)
        return outcome

    async def _restore(self, caller: _Caller) -> None:
        """Looks for the last good document of an earlier hub, if this hub has none."""
        if self._cache.last_good is None:
            for saved, outcome in await self._lookup.find(caller.file, caller.lookup_seconds, caller.log):
                self._cache.restore(saved, outcome, caller.log)

    def _log_outcome(self, outcome: Outcome, callers: Sequence[_Caller]) -> None:
        if outcome.fault is not None:
            logs = {(caller.policy, caller.purpose): caller.log for caller in callers}
            for (policy, purpose), log in logs.items():
                self._log_fault(outcome.fault, policy, purpose, log)

    def _log_fault(self, fault: Fault, policy: FailurePolicy, purpose: Purpose, log: Log) -> None:
        last_good = None
        if policy == "last-good" and self._cache.last_good:
            last_good = self._cache.last_good.describe()
        if purpose == "page":
            log_fault_for_page(f"the last good sizes, {last_good}" if last_good else "no sizes", fault, log)
            return
        why = self._cache.describe_fault(fault)
        if last_good:
            does = "Using the last good profiles, %s, because %s"
            would = "Would use the last good profiles, %s, because %s"
            log_fault(log, purpose, logging.WARNING, does, would, last_good, why)
        elif policy == "ignore":
            does = "Starting servers without its profiles, as failure_policy says, because %s"
            would = "Would start servers without its profiles, as failure_policy says, because %s"
            log_fault(log, purpose, logging.ERROR, does, would, why)
        else:
            does, would = "Starting no server, because %s", "Would start no server, because %s"
            log_fault(log, purpose, logging.ERROR, does, would, why)

    def _apply_policy(self, outcome: Outcome, policy: FailurePolicy) -> Snapshot:
        if outcome.document is not None and outcome.revision is not None:
            return Snapshot(outcome.document, outcome.revision.name)
        fault = outcome.fault
        assert fault is not None
        last_good = self._cache.last_good
        if policy == "last-good" and last_good is not None:
            return Snapshot(last_good.document, last_good.source, fault)
        if policy == "ignore":
            return Snapshot(Document(), None, fault)
        raise fault.without_traceback()


def explain_unfinished_parse(name: str) -> SourceError:
    """Returns the fault of a source that was fetched, but whose document is not parsed in time."""
    return SourceError(f"{name} is still being parsed", outcome="unavailable")


async def fetch(source: ByteSource) -> bytes | SourceError:
    """Sends one request for a source, and measures it. Returns every error: all who wait must get an answer."""
    began = time.monotonic()
    try:
        return await source.fetch()
    except SourceError as fault:
        return fault.without_traceback()
    except asyncio.CancelledError:
        metrics.READS.labels(source.name, "unavailable").inc()
        raise
    except Exception as error:  # noqa: BLE001  see above
        what = f"{source.name} could not be read, because of a defect ({type(error).__name__}); please report it"
        return SourceError(what, outcome="unavailable")
    finally:
        metrics.READ_DURATION.labels(source.name).observe(time.monotonic() - began)


# KubeSpawner's API clients and all waiting spawns belong to one event loop. An idle store refers to neither, so it is
# freed together with its loop.
all_stores: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Store]] = WeakKeyDictionary()


def get_store(source: Source) -> Store:
    """Returns the store of a source on the running event loop."""
    stores = all_stores.setdefault(asyncio.get_running_loop(), {})
    # The key is a name, because the source refers to the API client, and through it to the loop.
    name = f"{source.name}#{source.key}"
    if name not in stores:
        stores[name] = Store(source.name, source.key)
    return stores[name]
