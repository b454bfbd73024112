"""Several ConfigMaps: those that a label selector selects, beside the main one.

Each is handled for itself alone: one that is broken counts as it last was good, or not at all, and neither changes the
others nor fails a spawn. Whether a spawn fails, the main document decides (see `store`).
"""

from __future__ import annotations

import asyncio
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
from .reads import SharedReads
from .sources import SelectedConfigMapsSource, Source
from .store import FailurePolicy, Fault, Log, Outcome, Purpose, Reading, Versions, fetch, find_store, report_for_page

__all__ = ["Selection", "find_selection", "read_documents"]


_Key: TypeAlias = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class _Caller:
    source: SelectedConfigMapsSource
    purpose: Purpose
    log: Log


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one request came to: the versions of each ConfigMap, by name and uid, and what there is of the newest."""

    found: Mapping[tuple[str, str], tuple[Versions, Outcome]] = field(default_factory=dict)
    fault: SourceError | None = None


class Selection:
    """The documents that a selector selects, as the spawns of one event loop see them."""

    def __init__(self, name: str) -> None:
        self._reads = SharedReads[_Caller, _Answer](name, self._read, self._tell)
        self._name = name
        # By name and uid: what was deleted does not come back with another ConfigMap of the same name, whether or not
        # a spawn has come between.
        self._versions: dict[tuple[str, str], Versions] = {}
        self._read_at: float | None = None
        self._combined: tuple[tuple[Document, ...], Document] | None = None

    async def combine(self, documents: tuple[Document, ...]) -> Document:
        """Documents as one: the very same one as long as they are, since the next spawns will want it too."""
        known = self._combined
        if known is None or len(known[0]) != len(documents) or any(map(operator.is_not, known[0], documents)):
            known = self._combined = documents, await asyncio.to_thread(background()(combine_documents), documents)
        return known[1]

    async def read(
        self, source: SelectedConfigMapsSource, *, timeout_seconds: float, log: Log, purpose: Purpose = "start"
    ) -> tuple[Reading, ...]:
        """Gives each document as it is now, in order of the ConfigMaps' names.

        One that is broken is given as it last was good, or left out; where they cannot be read, so is each of those
        that were selected when they last could be. What is wrong is logged.

        Args:
            source: Where to read; equal to that of every other caller of this selection.
            timeout_seconds: How long to wait and read altogether.
            log: Where to say what is wrong and how to mend it.
            purpose: What the documents are for.
        """
        try:
            await self._reads.join(_Caller(source, purpose, log), timeout_seconds)
        except SourceError as fault:
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
            return answer
        for key in self._versions.keys() - answer.found.keys():
            metrics.forget(self._versions[key].name)
        self._versions = {key: versions for key, (versions, _) in answer.found.items()}
        for versions, outcome in answer.found.values():
            versions.keep(outcome, caller.log)
        self._read_at = time.monotonic()
        return answer

    @background()
    def _parse(self, source: SelectedConfigMapsSource, raw: bytes) -> _Answer:
        """Makes documents of what was fetched. Runs in a thread, and changes nothing."""
        found = {}
        try:
            for configmap in source.extract(raw):
                key = configmap.name, configmap.uid
                versions = self._versions.get(key) or Versions(configmap.source, configmap.name)
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
            log.warning("Using the last good version, %s, because %s", last_good, why)
        else:
            log.error("Leaving out %s, because %s", versions.name, why)

    def _report(self, fault: SourceError, purpose: Purpose, log: Log) -> None:
        age = None if self._read_at is None else f"{time.monotonic() - self._read_at:.0f}"
        if purpose == "page":
            shown = f"the selected ConfigMaps as they were {age} s ago" if age else "none of the selected ConfigMaps"
            report_for_page(shown, fault, log)
        elif age:
            log.warning("Using the selected ConfigMaps as they were %s s ago, because %s", age, fault)
        else:
            log.error("Leaving out all ConfigMaps that configmap_label_selector selects, because %s", fault)


# As the stores are kept, and for the same reasons.
_selections: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, Selection]] = WeakKeyDictionary()


def find_selection(source: SelectedConfigMapsSource) -> Selection:
    """The selection of a source on the running event loop."""
    selections = _selections.setdefault(asyncio.get_running_loop(), {})
    return selections.setdefault((source.name, source.key, source.excluded), Selection(source.name))


async def read_documents(
    source: Source,
    selected: SelectedConfigMapsSource | None,
    *,
    policy: FailurePolicy,
    timeout_seconds: float,
    log: Log,
    purpose: Purpose = "start",
) -> Reading:
    """Gives the main document with those of other ConfigMaps behind it, both read at once.

    Args:
        source: Where the main document is.
        selected: Where the others are; None for none.
        policy: What to give when nothing good comes of the main one.
        timeout_seconds: How long to wait and read altogether.
        log: Where to say what is wrong and how to mend it.
        purpose: What the document is for.

    Raises:
        SourceError: The main document could not be read, and the policy has nothing to give.
        DocumentError: There is no valid one, and the policy has nothing to give.
    """
    reading_main = find_store(source).read(
        source, policy=policy, timeout_seconds=timeout_seconds, log=log, purpose=purpose
    )
    if selected is None:
        return await reading_main
    selection = find_selection(selected)
    others = asyncio.ensure_future(selection.read(selected, timeout_seconds=timeout_seconds, log=log, purpose=purpose))
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
