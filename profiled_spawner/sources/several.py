"""Several ConfigMaps: those that a label selector selects, beside the main one.

Each is handled for itself alone: one that is broken, or hangs while it is parsed, counts as it last was good, or not at
all, and neither changes the others nor fails a spawn. Whether a spawn fails, the main document decides (see `cache`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from .. import metrics
from ..document.model import Combination, Document, combine_documents
from ..errors import SourceError
from .cache import (
    FailurePolicy,
    Fault,
    Log,
    Outcome,
    Purpose,
    Reading,
    Versions,
    describe_age,
    describe_parsing,
    fetch,
    find_store,
    report,
    report_for_page,
)
from .last_good import LastGoodFile, Recall, Saved
from .shared_requests import SharedReads
from .source import Revision, SelectedConfigMapsSource, Source
from .threads import GIVE_UP_SECONDS, Single, background

__all__ = ["Selection", "find_selection", "read_documents"]


_Key: TypeAlias = tuple[str, str, str | None]

# How long one that is parsed holds up the next. So a hundred that were edited at once are parsed in turn, and one that
# hangs holds up nobody.
_TURN_SECONDS = 1.0
# How much of a caller's time is kept for combining them, at most.
_COMBINING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Caller:
    source: SelectedConfigMapsSource
    purpose: Purpose
    log: Log
    file: LastGoodFile | None
    restores: bool
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a list has.

    Attributes:
        digest: What tells it from a list of other ConfigMaps, or of other versions.
        found: The versions of each, by name and uid, and what there is of the newest: a revision until that is parsed.
    """

    digest: bytes = b""
    found: dict[tuple[str, str], tuple[Versions, Outcome | Revision]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one request came to: what there is of each ConfigMap, but for those that take long to parse."""

    found: Sequence[tuple[Versions, Outcome]] = ()
    fault: SourceError | None = None


class Selection:
    """The documents that a selector selects, as the spawns of one event loop see them."""

    def __init__(self, source: SelectedConfigMapsSource) -> None:
        name = source.name
        self._reads = SharedReads[_Caller, _Answer](name, self._read, self._tell)
        self._name = name
        self._saved_as = f"{name}#{source.key}" + (f" without {source.excluded}" if source.excluded else "")
        namespace = source.namespace

        def parse(saved: Saved) -> tuple[Versions, Outcome]:
            versions = Versions(f"configmap/{namespace}/{saved.configmap}", saved.configmap, saved.uid)
            return versions, versions.parse(saved.to_revision)

        self._recall = Recall(self._saved_as, parse)
        # By name and uid: what was deleted does not come back with another ConfigMap of the same name, whether or not
        # a spawn has come between.
        self._versions: dict[tuple[str, str], Versions] = {}
        self._read_at: float | None = None
        self._is_restored = False
        self._listed = _Listed()
        # Those whose newest version is still to be parsed.
        self._unparsed: dict[tuple[str, str], Revision] = {}
        self._extracting = Single[bytes, _Listed | SourceError](keeps=False)
        self._combining = Single[tuple[int, ...], tuple[tuple[Document, ...], Combination | None]]()
        self._told: Combination | None = None

    async def combine(
        self, main: Document, readings: Sequence[Reading], *, timeout_seconds: float, log: Log, purpose: Purpose
    ) -> Combination | None:
        """Documents as one: the very same one as long as they are, since the next spawns will want it too.

        Args:
            main: The main one.
            readings: The others.
            timeout_seconds: How long to wait.
            log: Where to say what is left out, and why.
            purpose: What it is for.

        Returns:
            None if it is not there in time: the main one counts alone.
        """
        documents = (main, *(reading.document for reading in readings))

        def work() -> tuple[tuple[Document, ...], Combination]:
            with background():
                return documents, combine_documents(main, documents[1:])

        # By identity: to compare two large ones takes long. The result has them too, so nothing else is in their place.
        key = tuple(map(id, documents))
        fault = self._defect(f"not combined within {GIVE_UP_SECONDS:g} s")
        try:
            async with asyncio.timeout(timeout_seconds):
                _, combination = await self._combining.run(key, work, lambda: (documents, None))
        except TimeoutError:
            combination, fault = None, SourceError(f"{self._name} are still being combined", outcome="unavailable")
        except SourceError as error:
            combination, fault = None, error
        except Exception as error:  # noqa: BLE001  the main one is good, so the server starts
            combination, fault = None, self._defect(type(error).__name__)
        if combination is None:
            self._report_left_out(fault, purpose, log)
        elif combination is not self._told:
            self._told = combination
            for position in combination.left_out:
                _report_one_left_out(readings[position].source, combination.REASON, purpose, log)
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
    ) -> tuple[Reading, ...]:
        """Gives each document as it is now, in order of the ConfigMaps' names.

        One that is broken, or not parsed in time, is given as it last was good, or left out; where they cannot be read,
        so is each of those that were selected when they last could be. What is wrong is logged.

        Args:
            source: Where to read; equal to that of every other caller of this selection.
            timeout_seconds: How long to wait, read, parse and look into the file altogether.
            log: Where to say what is wrong and how to mend it.
            purpose: What the documents are for.
            file: Where the last good versions are kept for the next hub; None for nowhere.
            restores: Whether those of an earlier hub may be used.
        """
        time_is_up = asyncio.get_running_loop().time() + timeout_seconds
        has_all = self._read_at is not None and all(versions.last_good for versions in self._versions.values())
        patience = 0 if has_all or not restores else self._recall.find_patience(file, timeout_seconds)
        caller = _Caller(source, purpose, log, file, restores, patience)
        try:
            await self._reads.join(caller, timeout_seconds - patience)
        except SourceError as fault:
            await self._restore_all(caller)
            self._report(fault, purpose, log)
        for key, versions in tuple(self._versions.items()):
            # Meanwhile another start may find a newer one.
            while (revision := self._unparsed.get(key)) is not None:
                outcome = await self._parse(versions, revision, time_is_up - asyncio.get_running_loop().time(), log)
                if outcome is None:
                    self._report_one(versions, describe_parsing(versions.name), purpose, log)
                    break
                # Only the first of those who have waited for it.
                if self._unparsed.get(key) is revision:
                    self._keep(key, outcome, log)
                    self._save(caller)
                    if outcome.fault is not None:
                        self._report_one(versions, outcome.fault, purpose, log)
        return tuple(versions.last_good for versions in self._versions.values() if versions.last_good is not None)

    async def _read(self, caller: _Caller) -> _Answer:
        raw = await fetch(caller.source)
        listed = raw if isinstance(raw, SourceError) else await self._list(caller.source, raw)
        metrics.READS.labels(self._name, listed.outcome if isinstance(listed, SourceError) else "ok").inc()
        if isinstance(listed, SourceError):
            if not listed.transient:
                await self._restore_all(caller)
            return _Answer(fault=listed)
        for key in self._versions.keys() - listed.found.keys():
            metrics.forget(self._versions[key].name)
        self._listed = listed
        self._versions = {key: versions for key, (versions, _) in listed.found.items()}
        self._unparsed = {key: found for key, (_, found) in listed.found.items() if isinstance(found, Revision)}
        self._read_at, self._is_restored = time.monotonic(), False
        answer = []
        # For all of them: between any two, the collector would run.
        with background():
            for key, (versions, found) in listed.found.items():
                if isinstance(found, Outcome):
                    parsed: Outcome | None = found
                else:
                    parsed = await self._parse(versions, found, _TURN_SECONDS, caller.log)
                if parsed is not None:
                    self._keep(key, parsed, caller.log)
                    answer.append((versions, parsed))
        if any(versions.last_good is None for versions in self._versions.values()):
            for saved, restored in await self._find_saved(caller):
                # The uid too: those of a ConfigMap that was deleted do not come back with another of its name.
                if known := self._versions.get((saved.configmap, saved.uid)):
                    known.restore(saved, restored[1], caller.log)
        self._save(caller)
        return _Answer(answer)

    async def _list(self, source: SelectedConfigMapsSource, raw: bytes) -> _Listed | SourceError:
        """Finds the ConfigMaps in what was fetched. Raises nothing."""

        def give_up() -> SourceError:
            return self._defect(f"not within {GIVE_UP_SECONDS:g} s")

        try:
            return await self._extracting.run(raw, lambda: self._extract(source, raw), give_up)
        except SourceError as fault:
            return fault.again()
        except Exception as error:  # noqa: BLE001  whoever waits must get an answer
            return self._defect(type(error).__name__)

    def _defect(self, what: str) -> SourceError:
        what = f"{self._name} could not be read, by a defect of this package ({what}); please report it"
        return SourceError(what, outcome="unavailable")

    @background()
    def _extract(self, source: SelectedConfigMapsSource, raw: bytes) -> _Listed:
        """Finds the ConfigMaps in what was fetched. Runs in a thread, and changes nothing."""
        known, listed = self._listed, _Listed(source.digest(raw))
        if known.digest == listed.digest:
            return known
        for configmap in source.extract(raw):
            key = configmap.name, configmap.uid
            versions = self._versions.get(key) or Versions(configmap.source, *key)
            listed.found[key] = versions, versions.recognize(configmap.extract)
        return listed

    async def _parse(self, versions: Versions, revision: Revision, timeout_seconds: float, log: Log) -> Outcome | None:
        """What a revision is parsed to; None if that takes longer."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await versions.parse_in_thread(revision, lambda: revision, log)
        except TimeoutError:
            return None

    def _keep(self, key: tuple[str, str], outcome: Outcome, log: Log) -> None:
        versions = self._versions[key]
        self._unparsed.pop(key, None)
        # Without a revision it was not parsed, and may be later: there was no thread, or it took too long.
        if outcome.revision is not None:
            self._listed.found[key] = versions, outcome
        versions.keep(outcome, log)

    def _save(self, caller: _Caller) -> None:
        if caller.file is not None:
            good = tuple(versions.saved for versions in self._versions.values() if versions.saved is not None)
            caller.file.save(self._saved_as, good, caller.log)

    async def _restore_all(self, caller: _Caller) -> None:
        """If there never was a list, takes those of the earlier hub's last one."""
        if self._read_at is not None:
            return
        for saved, (versions, outcome) in await self._find_saved(caller):
            versions.restore(saved, outcome, caller.log)
            self._versions[saved.configmap, saved.uid] = versions
            read_at = time.monotonic() - saved.age_seconds
            self._read_at = read_at if self._read_at is None else max(read_at, self._read_at)
            self._is_restored = True

    async def _find_saved(self, caller: _Caller) -> Sequence[tuple[Saved, tuple[Versions, Outcome]]]:
        return await self._recall.find(caller.file, caller.patience_seconds, caller.log) if caller.restores else ()

    def _tell(self, answer: _Answer, callers: Sequence[_Caller]) -> None:
        for purpose, log in {caller.purpose: caller.log for caller in callers}.items():
            if answer.fault is not None:
                self._report(answer.fault, purpose, log)
            for versions, outcome in answer.found:
                if outcome.fault is not None:
                    self._report_one(versions, outcome.fault, purpose, log)

    def _report_one(self, versions: Versions, fault: Fault, purpose: Purpose, log: Log) -> None:
        last_good = None if versions.last_good is None else versions.describe_last_good()
        if purpose == "page":
            report_for_page(
                f"the last good version, {last_good}" if last_good else f"nothing of {versions.name}", fault, log
            )
            return
        why = versions.describe_fault(fault)
        if last_good:
            does = "Using the last good version, %s, because %s"
            would = "Would use the last good version, %s, because %s"
            report(log, purpose, logging.WARNING, does, would, last_good, why)
        else:
            _report_one_left_out(versions.name, why, purpose, log)

    def _report(self, fault: SourceError, purpose: Purpose, log: Log) -> None:
        if self._read_at is None:
            self._report_left_out(fault, purpose, log)
            return
        age = describe_age(self._read_at, self._is_restored)
        if purpose == "page":
            report_for_page(f"the selected ConfigMaps as they were {age}", fault, log)
        else:
            does = "Using the selected ConfigMaps as they were %s, because %s"
            would = "Would use the selected ConfigMaps as they were %s, because %s"
            report(log, purpose, logging.WARNING, does, would, age, fault)

    def _report_left_out(self, fault: SourceError, purpose: Purpose, log: Log) -> None:
        if purpose == "page":
            report_for_page("none of the selected ConfigMaps", fault, log)
        else:
            does = "Leaving out all ConfigMaps that configmap_label_selector selects, because %s"
            would = "Would leave out all ConfigMaps that configmap_label_selector selects, because %s"
            report(log, purpose, logging.ERROR, does, would, fault)


def _report_one_left_out(name: str | None, why: object, purpose: Purpose, log: Log) -> None:
    does, would = "Leaving out %s, because %s", "Would leave out %s, because %s"
    report(log, purpose, logging.ERROR, does, would, name, why)


# As the stores are kept, and for the same reasons.
_selections: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, Selection]] = WeakKeyDictionary()


def find_selection(source: SelectedConfigMapsSource) -> Selection:
    """The selection of a source on the running event loop."""
    selections = _selections.setdefault(asyncio.get_running_loop(), {})
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
) -> Reading:
    """Gives the main document with those of other ConfigMaps behind it, both read at once.

    Args:
        source: Where the main document is.
        selected: Where the others are; None for none.
        policy: What to give when nothing good comes of the main one.
        timeout_seconds: How long to wait altogether, whatever hangs.
        log: Where to say what is wrong and how to mend it.
        purpose: What the document is for.
        file: Where the last good documents are kept for the next hub; None for nowhere. What an earlier one has kept is
            used where the policy is ``last-good``.

    Raises:
        SourceError: The main document could not be read, and the policy has nothing to give.
        DocumentError: There is no valid one, and the policy has nothing to give.
    """
    loop = asyncio.get_running_loop()
    time_is_up = loop.time() + timeout_seconds
    # What is kept of it to combine what has been read.
    patience = 0 if selected is None else min(_COMBINING_SECONDS, timeout_seconds / 4)
    reading_main = find_store(source).read(
        source, policy=policy, timeout_seconds=timeout_seconds - patience, log=log, purpose=purpose, file=file
    )
    if selected is None:
        return await reading_main
    selection = find_selection(selected)
    others = asyncio.ensure_future(
        selection.read(
            selected,
            timeout_seconds=timeout_seconds - patience,
            log=log,
            purpose=purpose,
            file=file,
            restores=policy == "last-good",
        )
    )
    try:
        main = await reading_main
        readings = await others
    finally:
        others.cancel()
    combination = await selection.combine(
        main.document, readings, timeout_seconds=max(patience, time_is_up - loop.time()), log=log, purpose=purpose
    )
    if combination is None:
        return main
    kept = [reading for position, reading in enumerate(readings) if position not in combination.left_out]
    return Reading(
        combination.document,
        main.source,
        main.fault,
        tuple(reading.source for reading in kept if reading.source is not None),
    )
