"""Several ConfigMaps: those that a label selector selects, beside the main one.

Each is handled for itself alone: one that is broken counts as it last was good, or not at all, and neither changes the
others nor fails a spawn. Whether a spawn fails, the main document decides (see `store`).
"""

from __future__ import annotations

import asyncio
import logging
import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from . import metrics
from .background import background
from .document import Document, combine_documents
from .errors import SourceError
from .last_good import LastGoodFile, Recall, Saved
from .reads import SharedReads
from .sources import SelectedConfigMapsSource, Source
from .store import (
    FailurePolicy,
    Fault,
    Log,
    Outcome,
    Purpose,
    Reading,
    Versions,
    describe_age,
    fetch,
    find_store,
    report,
    report_for_page,
)

__all__ = ["Selection", "find_selection", "read_documents"]


_Key: TypeAlias = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class _Caller:
    source: SelectedConfigMapsSource
    purpose: Purpose
    log: Log
    file: LastGoodFile | None
    restores: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one request came to: the versions of each ConfigMap, by name and uid, and what there is of the newest."""

    found: Mapping[tuple[str, str], tuple[Versions, Outcome]] = field(default_factory=dict)
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
        self._combined: tuple[tuple[Document, ...], Document] | None = None

    async def combine(self, documents: tuple[Document, ...]) -> Document:
        """Documents as one: the very same one as long as they are, since the next spawns will want it too."""
        known = self._combined
        if known is None or len(known[0]) != len(documents) or any(map(operator.is_not, known[0], documents)):
            known = self._combined = documents, await asyncio.to_thread(background()(combine_documents), documents)
        return known[1]

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

        One that is broken is given as it last was good, or left out; where they cannot be read, so is each of those
        that were selected when they last could be. What is wrong is logged.

        Args:
            source: Where to read; equal to that of every other caller of this selection.
            timeout_seconds: How long to wait and read altogether.
            log: Where to say what is wrong and how to mend it.
            purpose: What the documents are for.
            file: Where the last good versions are kept for the next hub; None for nowhere.
            restores: Whether those of an earlier hub may be used.
        """
        caller = _Caller(source, purpose, log, file, restores)
        try:
            await self._reads.join(caller, timeout_seconds)
        except SourceError as fault:
            await self._restore_all(caller)
            self._report(fault, purpose, log)
        return tuple(versions.last_good for versions in self._versions.values() if versions.last_good is not None)

    async def _read(self, caller: _Caller) -> _Answer:
        raw = await fetch(caller.source)
        answer = (
            _Answer(fault=raw)
            if isinstance(raw, SourceError)
            else await asyncio.to_thread(self._parse, caller.source, raw)
        )
        metrics.READS.labels(self._name, answer.fault.outcome if answer.fault else "ok").inc()
        if answer.fault is not None:
            if not answer.fault.transient:
                await self._restore_all(caller)
            return answer
        for key in self._versions.keys() - answer.found.keys():
            metrics.forget(self._versions[key].name)
        self._versions = {key: versions for key, (versions, _) in answer.found.items()}
        for versions, outcome in answer.found.values():
            versions.keep(outcome, caller.log)
        self._read_at, self._is_restored = time.monotonic(), False
        if any(versions.last_good is None for versions in self._versions.values()):
            for saved, restored in await self._find_saved(caller):
                # The uid too: those of a ConfigMap that was deleted do not come back with another of its name.
                if found := self._versions.get((saved.configmap, saved.uid)):
                    found.restore(saved, restored[1], caller.log)
        if caller.file is not None:
            good = tuple(versions.saved for versions in self._versions.values() if versions.saved is not None)
            caller.file.save(self._saved_as, good, caller.log)
        return answer

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
        return await self._recall.find(caller.file, caller.log) if caller.restores else ()

    @background()
    def _parse(self, source: SelectedConfigMapsSource, raw: bytes) -> _Answer:
        """Makes documents of what was fetched. Runs in a thread, and changes nothing."""
        found = {}
        try:
            for configmap in source.extract(raw):
                key = configmap.name, configmap.uid
                versions = self._versions.get(key) or Versions(configmap.source, *key)
                found[key] = versions, versions.parse(configmap.extract)
        except SourceError as fault:
            return _Answer(fault=fault)
        return _Answer(found)

    def _tell(self, answer: _Answer, callers: Sequence[_Caller]) -> None:
        for purpose, log in {caller.purpose: caller.log for caller in callers}.items():
            if answer.fault is not None:
                self._report(answer.fault, purpose, log)
            for versions, outcome in answer.found.values():
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
            does, would = "Leaving out %s, because %s", "Would leave out %s, because %s"
            report(log, purpose, logging.ERROR, does, would, versions.name, why)

    def _report(self, fault: SourceError, purpose: Purpose, log: Log) -> None:
        age = None if self._read_at is None else describe_age(self._read_at, self._is_restored)
        if purpose == "page":
            shown = f"the selected ConfigMaps as they were {age}" if age else "none of the selected ConfigMaps"
            report_for_page(shown, fault, log)
        elif age:
            does = "Using the selected ConfigMaps as they were %s, because %s"
            would = "Would use the selected ConfigMaps as they were %s, because %s"
            report(log, purpose, logging.WARNING, does, would, age, fault)
        else:
            does = "Leaving out all ConfigMaps that configmap_label_selector selects, because %s"
            would = "Would leave out all ConfigMaps that configmap_label_selector selects, because %s"
            report(log, purpose, logging.ERROR, does, would, fault)


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
        timeout_seconds: How long to wait and read altogether.
        log: Where to say what is wrong and how to mend it.
        purpose: What the document is for.
        file: Where the last good documents are kept for the next hub; None for nowhere. What an earlier one has kept is
            used where the policy is ``last-good``.

    Raises:
        SourceError: The main document could not be read, and the policy has nothing to give.
        DocumentError: There is no valid one, and the policy has nothing to give.
    """
    reading_main = find_store(source).read(
        source, policy=policy, timeout_seconds=timeout_seconds, log=log, purpose=purpose, file=file
    )
    if selected is None:
        return await reading_main
    selection = find_selection(selected)
    others = asyncio.ensure_future(
        selection.read(
            selected,
            timeout_seconds=timeout_seconds,
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
    return Reading(
        await selection.combine((main.document, *(reading.document for reading in readings))),
        main.source,
        main.fault,
        tuple(reading.source for reading in readings if reading.source is not None),
    )
