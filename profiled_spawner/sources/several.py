"""Several ConfigMaps: the main one, and those that a label selector selects.

Each selected ConfigMap is isolated from the others. If it is broken, or takes too long to parse, its last good version
is used, or it is left out. That neither affects the others nor fails a start. Only the main document can fail a start
(see `cache`).

If the main document has teams, each is also bounded by its team (see `bounds`), as the main document of this start has
it. One that exceeds its bounds counts as broken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from .. import metrics
from ..decide.teams import map_teams
from ..document.model import Combination, Document, Team, combine_documents
from ..errors import SourceError
from .cache import (
    DocumentCache,
    FailurePolicy,
    Fault,
    GoodVersion,
    Log,
    Outcome,
    Purpose,
    Snapshot,
    describe_age,
    explain_unfinished_parse,
    fetch,
    get_store,
    log_fault,
    log_fault_for_page,
)
from .configmap import ListBytes, SelectedConfigMapsSource
from .last_good import LastGoodFile, LastGoodLookup, Saved
from .shared_requests import SharedRequests
from .source import Revision, Source
from .threads import GIVE_UP_SECONDS, SMALL_JSON, SingleFlight, low_latency

__all__ = ["TURN_SECONDS", "Selection", "all_selections", "get_selection", "read_documents"]


_Key: TypeAlias = tuple[str, str, str | None]
_Bounded: TypeAlias = tuple[GoodVersion, Team | None, Document | Fault]

# How long the parse of one ConfigMap may delay the next one. So a hundred that were edited at once are parsed one after
# another, and one that hangs does not block the rest.
TURN_SECONDS = 1.0
# How much of a caller's time is reserved for combining the documents, at most.
_COMBINING_SECONDS = 5.0
# How many names in the filters of all profiles are indexed within Python's own switch interval.
_FEW_NAMES = 5_000


@dataclass(frozen=True, slots=True)
class _Caller:
    source: SelectedConfigMapsSource
    purpose: Purpose
    log: Log
    file: LastGoodFile | None
    restores: bool
    lookup_seconds: float


@dataclass(frozen=True, slots=True)
class _List:
    """The ConfigMaps of a list.

    Attributes:
        raw: Its bytes; None before the first list.
        found: For each ConfigMap, by name and uid, its cache and the outcome of its newest version, or the revision if
            that is not parsed yet.
    """

    raw: ListBytes | None = None
    found: dict[tuple[str, str], tuple[DocumentCache, Outcome | Revision]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The answer to one request: the outcome of each ConfigMap that was parsed in time."""

    found: Sequence[tuple[DocumentCache, Outcome]] = ()
    fault: SourceError | None = None


class _Bounds:
    """Which team of a main document has which ConfigMap."""

    def __init__(self, main: Document) -> None:
        self._teams = map_teams(main)

    def find_team(self, cache: DocumentCache) -> Team | None:
        return (self._teams or {}).get(cache.configmap or "")

    def has_team(self, cache: DocumentCache) -> bool:
        return self.find_team(cache) is not None

    def are_checked(self, cache: DocumentCache, version: GoodVersion) -> bool:
        """Whether a version was bounded by the team that it has now. Where there are no teams, it needs no check."""
        if self._teams is None:
            version.bounded = None
            return True
        team = self.find_team(cache)
        # By identity first: two teams take longer to compare.
        return version.bounded is not None and (version.bounded[0] is team or version.bounded[0] == team)

    def make_work(
        self, cache: DocumentCache, version: GoodVersion
    ) -> tuple[Callable[[], _Bounded], Callable[[], _Bounded]]:
        """Returns what bounds a version in a thread, and what is to be had if that takes too long."""
        team = self.find_team(cache)
        return (
            lambda: (version, team, cache.bound(version, team)),
            lambda: (version, team, cache.explain_defect(f"not bounded within {GIVE_UP_SECONDS:g} s")),
        )


class Selection:
    """The documents that a label selector selects, for the spawns of one event loop. Get it with `get_selection`."""

    def __init__(self, source: SelectedConfigMapsSource) -> None:
        name = source.name
        self._requests = SharedRequests[_Caller, _Answer](name, self._read, self._log_outcome)
        self._name = name
        self._saved_as = f"{name}#{source.key}" + (f" without {source.excluded}" if source.excluded else "")
        namespace = source.namespace

        def parse(saved: Saved) -> tuple[DocumentCache, Outcome]:
            cache = DocumentCache(f"configmap/{namespace}/{saved.configmap}", saved.configmap, saved.uid)
            return cache, cache.parse(saved.to_revision)

        self._lookup = LastGoodLookup(self._saved_as, parse)
        # By name and uid: a new ConfigMap must not get the last good version of a deleted one with the same name.
        self._caches: dict[tuple[str, str], DocumentCache] = {}
        self._read_at: float | None = None
        self._is_restored = False
        self._list = _List()
        # The newest versions that are not parsed yet.
        self._unparsed: dict[tuple[str, str], Revision] = {}
        self._extracting = SingleFlight[bytes, _List | SourceError](caches=False)
        self._bounding = SingleFlight[tuple[int, int], _Bounded]()
        self._combining = SingleFlight[tuple[int, ...], tuple[tuple[Document, ...], Combination | None]]()
        self._last_logged: Combination | None = None

    async def combine(
        self, main: Document, snapshots: Sequence[Snapshot], *, timeout_seconds: float, log: Log, purpose: Purpose
    ) -> Combination | None:
        """Returns the combination of all documents. As long as no document changes, it is not computed again.

        Args:
            main: The main document.
            snapshots: The selected ones.
            timeout_seconds: How long to wait.
            log: Where to log what is left out, and why.
            purpose: What the combination is for.

        Returns:
            None if it is not ready in time. Then the main document is used alone.
        """
        documents = (main, *(snapshot.document for snapshot in snapshots))

        def work() -> tuple[tuple[Document, ...], Combination]:
            with low_latency(sum(map(_count_names, documents)), _FEW_NAMES):
                return documents, combine_documents(main, documents[1:])

        # By identity, because comparing two large documents takes long. The result refers to the documents, so no other
        # object can get their ids.
        key = tuple(map(id, documents))
        fault = self._explain_defect(f"not combined within {GIVE_UP_SECONDS:g} s")
        try:
            async with asyncio.timeout(timeout_seconds):
                _, combination = await self._combining.run(key, work, lambda: (documents, None))
        except TimeoutError:
            combination, fault = None, SourceError(f"{self._name} are still being combined", outcome="unavailable")
        except SourceError as error:
            combination, fault = None, error
        except Exception as error:  # noqa: BLE001  the main document is good, so the server starts
            combination, fault = None, self._explain_defect(type(error).__name__)
        if combination is None:
            self._log_all_left_out(fault, purpose, log)
        elif combination is not self._last_logged:
            self._last_logged = combination
            for position in combination.left_out:
                _log_left_out(snapshots[position].source, combination.REASON, purpose, log)
        return combination

    async def read(
        self,
        source: SelectedConfigMapsSource,
        *,
        timeout_seconds: float,
        log: Log,
        purpose: Purpose = "start",
        file: LastGoodFile | None = None,
        restores: bool = False,
    ) -> tuple[DocumentCache, ...]:
        """Returns the cache of each ConfigMap, in order of the ConfigMaps' names. Logs every fault.

        The cache of a ConfigMap that is broken, or not parsed in time, has its last good version, if there is one. If
        the list cannot be read, the caches of the last list are returned.

        Args:
            source: The source, equal to that of every other caller of this selection.
            timeout_seconds: How long fetching, parsing and looking into the file may take together.
            log: Where to log what is wrong and how to fix it.
            purpose: What the documents are for.
            file: The file that keeps the last good documents over a restart; None for no such file.
            restores: Whether to use the last good documents of an earlier hub.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        has_all = self._read_at is not None and all(cache.last_good for cache in self._caches.values())
        lookup_seconds = 0 if has_all or not restores else self._lookup.reserve_seconds(file, timeout_seconds)
        caller = _Caller(source, purpose, log, file, restores, lookup_seconds)
        try:
            await self._requests.join(caller, timeout_seconds - lookup_seconds)
        except SourceError as fault:
            await self._restore_all(caller)
            self._log_fault(fault, purpose, log)
        for key, cache in tuple(self._caches.items()):
            # A loop, since another start may find a newer version in the meantime.
            while (revision := self._unparsed.get(key)) is not None:
                outcome = await self._parse(cache, revision, deadline - asyncio.get_running_loop().time(), log)
                if outcome is None:
                    self._log_fault_of_one(cache, explain_unfinished_parse(cache.name), purpose, log)
                    break
                # Only the first of several callers that waited for this parse stores its outcome.
                if self._unparsed.get(key) is revision:
                    self._update(key, outcome, log)
                    if outcome.fault is not None:
                        self._log_fault_of_one(cache, outcome.fault, purpose, log)
        return tuple(self._caches.values())

    async def choose(
        self,
        main: Document,
        caches: Sequence[DocumentCache],
        *,
        timeout_seconds: float,
        log: Log,
        purpose: Purpose,
        file: LastGoodFile | None = None,
        restores: bool = False,
    ) -> tuple[Snapshot, ...]:
        """Returns what counts of each ConfigMap: its newest version that is valid and keeps to its team's bounds.

        Nothing is bounded twice, as long as neither the version nor the team changes.

        Args:
            main: The main document, whose teams count.
            caches: What `read` returned.
            timeout_seconds: How long to wait.
            log: Where to log what exceeds its bounds.
            purpose: What the documents are for.
            file: The file that keeps the last good documents over a restart; None for no such file.
            restores: Whether to use the last good documents of an earlier hub.
        """
        bounds = _Bounds(main)
        unfinished: Fault | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._bound(caches, bounds)
                # The only version that keeps to its bounds may be that of an earlier hub.
                if restores and any(bounds.has_team(cache) and not cache.kept and not cache.in_use for cache in caches):
                    seconds = self._lookup.reserve_seconds(file, timeout_seconds)
                    self._restore(await self._lookup.find(file, seconds, log), log)
                    await self._bound(caches, bounds)
        except TimeoutError:
            what = "whether it keeps to the bounds of its team is still being checked"
            unfinished = SourceError(what, outcome="unavailable")
        except SourceError as fault:
            unfinished = fault.without_traceback()
        found = []
        for cache in caches:
            if unfinished is not None and not all(bounds.are_checked(cache, version) for version in cache.versions):
                _log_left_out(cache.name, unfinished, purpose, log)
                continue
            self._log_bounds(cache, purpose, log)
            in_use = cache.in_use
            if in_use is not cache.reported:
                cache.report()
            if in_use is not None:
                cache.kept = in_use
                found.append(_take(in_use))
        if file is not None and unfinished is None and self._list.raw is not None:
            good = tuple(cache.kept.saved for cache in self._caches.values() if cache.kept is not None)
            file.save(self._saved_as, good, log)
        return tuple(found)

    async def _bound(self, caches: Sequence[DocumentCache], bounds: _Bounds) -> None:
        """Bounds every version by its team, each in a thread; the smallest first, so that none waits for a large one.

        Raises:
            SourceError: No thread could be started.
        """

        def list_new() -> list[tuple[int, DocumentCache, GoodVersion]]:
            return [
                (len(version.saved.text.text), cache, version)
                for cache in caches
                for version in cache.versions
                if not bounds.are_checked(cache, version)
            ]

        # Listed anew each time, since a start with another main document may do the same in the meantime.
        while new := list_new():
            _, cache, version = min(new, key=lambda each: each[0])
            work, give_up = bounds.make_work(cache, version)
            # By identity, as in `combine`.
            key = id(version), id(bounds.find_team(cache))
            _, team, result = await self._bounding.run(key, work, give_up)
            version.bounded = team, result

    def _log_bounds(self, cache: DocumentCache, purpose: Purpose, log: Log) -> None:
        """Logs why the newest valid version is not used, once for each such version and its bounds."""
        version = cache.last_good
        fault = version.bounded[1] if version is not None and version.bounded is not None else None
        if fault is None or isinstance(fault, Document):
            cache.told = None
        elif purpose == "page" or fault is not cache.told:
            self._log_use(cache, fault, fault, purpose, log)
            if purpose != "page":
                cache.told = fault

    async def _read(self, caller: _Caller) -> _Answer:
        raw = await fetch(caller.source)
        found = raw if isinstance(raw, SourceError) else await self._find_list(caller.source, raw)
        metrics.READS.labels(self._name, found.outcome if isinstance(found, SourceError) else "ok").inc()
        if isinstance(found, SourceError):
            if not found.transient:
                await self._restore_all(caller)
            return _Answer(fault=found)
        self._replace_list(found)
        answer = _Answer(await self._parse_each(caller))
        if any(cache.last_good is None for cache in self._caches.values()):
            self._restore(await self._find_saved(caller), caller.log)
        return answer

    def _restore(self, found: Sequence[tuple[Saved, tuple[DocumentCache, Outcome]]], log: Log) -> None:
        """Gives each ConfigMap the version that an earlier hub saved of it."""
        for saved, (_, outcome) in found:
            # By uid too: a new ConfigMap must not get the version of a deleted one with the same name.
            if cache := self._caches.get((saved.configmap, saved.uid)):
                cache.restore(saved, outcome, log)

    def _replace_list(self, new: _List) -> None:
        for key in self._caches.keys() - new.found.keys():
            metrics.remove_series(self._caches[key].name)
        self._list = new
        self._caches = {key: cache for key, (cache, _) in new.found.items()}
        self._unparsed = {key: found for key, (_, found) in new.found.items() if isinstance(found, Revision)}
        self._read_at, self._is_restored = time.monotonic(), False

    async def _parse_each(self, caller: _Caller) -> list[tuple[DocumentCache, Outcome]]:
        """Parses the new versions one after another. Skips those that take long."""
        outcomes = []
        # Around all of them, or the garbage collector would run between any two.
        with low_latency(sum(len(revision.text.text) for revision in self._unparsed.values())):
            for key, (cache, found) in self._list.found.items():
                if isinstance(found, Outcome):
                    outcome: Outcome | None = found
                else:
                    outcome = await self._parse(cache, found, TURN_SECONDS, caller.log)
                if outcome is not None:
                    self._update(key, outcome, caller.log)
                    outcomes.append((cache, outcome))
        return outcomes

    async def _find_list(self, source: SelectedConfigMapsSource, raw: bytes) -> _List | SourceError:
        """Returns the ConfigMaps in the bytes that were fetched. Decodes only bytes that have changed. Never raises."""

        # Not in the thread: no other thread runs meanwhile, and an unchanged list needs none.
        if self._list.raw is not None and self._list.raw.matches(raw):
            return self._list

        def give_up() -> SourceError:
            return self._explain_defect(f"not within {GIVE_UP_SECONDS:g} s")

        try:
            return await self._extracting.run(raw, lambda: self._extract(source, raw), give_up)
        except SourceError as fault:
            return fault.without_traceback()
        except Exception as error:  # noqa: BLE001  all who wait must get an answer
            return self._explain_defect(type(error).__name__)

    def _explain_defect(self, what: str) -> SourceError:
        what = f"{self._name} could not be read, because of a defect of this package ({what}); please report it"
        return SourceError(what, outcome="unavailable")

    def _extract(self, source: SelectedConfigMapsSource, raw: bytes) -> _List:
        """Returns the ConfigMaps in the bytes that were fetched. Runs in a thread, and changes nothing."""
        new = _List(ListBytes.of(raw))
        with low_latency(len(raw), SMALL_JSON):
            for configmap in source.extract(raw):
                key = configmap.name, configmap.uid
                cache = self._caches.get(key) or DocumentCache(configmap.source, *key)
                new.found[key] = cache, cache.look_up(configmap.extract)
        return new

    async def _parse(
        self, cache: DocumentCache, revision: Revision, timeout_seconds: float, log: Log
    ) -> Outcome | None:
        """Returns the outcome of a revision; None if parsing it takes longer."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await cache.parse_in_thread(revision, lambda: revision, log)
        except TimeoutError:
            return None

    def _update(self, key: tuple[str, str], outcome: Outcome, log: Log) -> None:
        cache = self._caches[key]
        self._unparsed.pop(key, None)
        # Without a revision it was not parsed, because there was no thread or it took too long. It may be parsed later.
        if outcome.revision is not None:
            self._list.found[key] = cache, outcome
        cache.update(outcome, log)

    async def _restore_all(self, caller: _Caller) -> None:
        """Uses the ConfigMaps of an earlier hub's last list, if this hub has read no list yet."""
        if self._read_at is not None:
            return
        for saved, (cache, outcome) in await self._find_saved(caller):
            cache.restore(saved, outcome, caller.log)
            self._caches[saved.configmap, saved.uid] = cache
            read_at = time.monotonic() - saved.age_seconds
            self._read_at = read_at if self._read_at is None else max(read_at, self._read_at)
            self._is_restored = True

    async def _find_saved(self, caller: _Caller) -> Sequence[tuple[Saved, tuple[DocumentCache, Outcome]]]:
        return await self._lookup.find(caller.file, caller.lookup_seconds, caller.log) if caller.restores else ()

    def _log_outcome(self, answer: _Answer, callers: Sequence[_Caller]) -> None:
        for purpose, log in {caller.purpose: caller.log for caller in callers}.items():
            if answer.fault is not None:
                self._log_fault(answer.fault, purpose, log)
            for cache, outcome in answer.found:
                if outcome.fault is not None:
                    self._log_fault_of_one(cache, outcome.fault, purpose, log)

    def _log_fault_of_one(self, cache: DocumentCache, fault: Fault, purpose: Purpose, log: Log) -> None:
        why = fault if purpose == "page" else cache.describe_fault(fault)
        self._log_use(cache, fault, why, purpose, log)

    def _log_use(self, cache: DocumentCache, fault: Fault, why: Fault | str, purpose: Purpose, log: Log) -> None:
        """Logs what is used in place of a newer version, and why."""
        last_good = None if cache.in_use is None else cache.in_use.describe()
        if purpose == "page":
            shown = f"the last good version, {last_good}" if last_good else f"nothing of {cache.name}"
            log_fault_for_page(shown, fault, log)
        elif last_good:
            does = "Using the last good version, %s, because %s"
            would = "Would use the last good version, %s, because %s"
            log_fault(log, purpose, logging.WARNING, does, would, last_good, why)
        else:
            _log_left_out(cache.name, why, purpose, log)

    def _log_fault(self, fault: SourceError, purpose: Purpose, log: Log) -> None:
        if self._read_at is None:
            self._log_all_left_out(fault, purpose, log)
            return
        age = describe_age(self._read_at, self._is_restored)
        if purpose == "page":
            log_fault_for_page(f"the selected ConfigMaps as they were {age}", fault, log)
        else:
            does = "Using the selected ConfigMaps as they were %s, because %s"
            would = "Would use the selected ConfigMaps as they were %s, because %s"
            log_fault(log, purpose, logging.WARNING, does, would, age, fault)

    def _log_all_left_out(self, fault: SourceError, purpose: Purpose, log: Log) -> None:
        if purpose == "page":
            log_fault_for_page("none of the selected ConfigMaps", fault, log)
        else:
            does = "Leaving out all ConfigMaps that configmap_label_selector selects, because %s"
            would = "Would leave out all ConfigMaps that configmap_label_selector selects, because %s"
            log_fault(log, purpose, logging.ERROR, does, would, fault)


def _log_left_out(name: str | None, why: object, purpose: Purpose, log: Log) -> None:
    does, would = "Leaving out %s, because %s", "Would leave out %s, because %s"
    log_fault(log, purpose, logging.ERROR, does, would, name, why)


def _take(version: GoodVersion) -> Snapshot:
    """What a start gets of a version that is in use."""
    bounded = version.document if version.bounded is None else version.bounded[1]
    assert isinstance(bounded, Document)
    return Snapshot(bounded, version.source)


def _count_names(document: Document) -> int:
    """Returns about how many entries the document's index has."""
    filters = ((profile.users, profile.groups, profile.images) for profile in document.profiles)
    return sum(1 + sum(len(names or ()) for names in each) for each in filters)


# Like the stores in `cache`: an idle selection is freed together with its event loop.
all_selections: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, Selection]] = WeakKeyDictionary()


def get_selection(source: SelectedConfigMapsSource) -> Selection:
    """Returns the selection of a source on the running event loop."""
    selections = all_selections.setdefault(asyncio.get_running_loop(), {})
    return selections.setdefault((source.name, source.key, source.excluded), Selection(source))


async def read_documents(
    source: Source,
    selected: SelectedConfigMapsSource | None,
    *,
    policy: FailurePolicy,
    timeout_seconds: float,
    log: Log,
    purpose: Purpose = "start",
    file: LastGoodFile | None = None,
) -> Snapshot:
    """Returns the main document combined with those of the selected ConfigMaps. All are read at the same time.

    Args:
        source: The source of the main document.
        selected: The source of the others; None for none.
        policy: The failure policy: what to return if there is no valid main document.
        timeout_seconds: How long everything may take together, whatever hangs.
        log: Where to log what is wrong and how to fix it.
        purpose: What the document is for.
        file: The file that keeps the last good documents over a restart; None for no such file. Those of an earlier hub
            are used only if the policy is ``last-good``.

    Raises:
        SourceError: The main document could not be read, and the policy gives nothing instead.
        DocumentError: There is no valid main document, and the policy gives nothing instead.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    combining_seconds = 0 if selected is None else min(_COMBINING_SECONDS, timeout_seconds / 4)
    reading_main = get_store(source).read(
        source, policy=policy, timeout_seconds=timeout_seconds - combining_seconds, log=log, purpose=purpose, file=file
    )
    if selected is None:
        return await reading_main
    selection = get_selection(selected)
    reading_others = asyncio.ensure_future(
        selection.read(
            selected,
            timeout_seconds=timeout_seconds - combining_seconds,
            log=log,
            purpose=purpose,
            file=file,
            restores=policy == "last-good",
        )
    )
    try:
        main = await reading_main
        if main.source is None:
            # Without a main document, nothing says what the others may do.
            return main
        caches = await reading_others
    finally:
        reading_others.cancel()
    others = await selection.choose(
        main.document,
        caches,
        timeout_seconds=max(combining_seconds, deadline - loop.time()) / 2,
        log=log,
        purpose=purpose,
        file=file,
        restores=policy == "last-good",
    )
    combination = await selection.combine(
        main.document,
        others,
        timeout_seconds=max(combining_seconds / 2, deadline - loop.time()),
        log=log,
        purpose=purpose,
    )
    if combination is None:
        return main
    kept = [snapshot for position, snapshot in enumerate(others) if position not in combination.left_out]
    return Snapshot(
        combination.document,
        main.source,
        main.fault,
        tuple(snapshot.source for snapshot in kept if snapshot.source is not None),
    )
