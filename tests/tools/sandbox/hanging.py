"""Reading whose steps hang, one at a time: the steps, what is read, and what it costs a hub.

`python -m sandbox.hanging` prints how many threads and descriptors a process has under each, and with 200 starts more.
With the number of a step, it hangs in that one and ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from profiled_spawner.document.model import Document
from profiled_spawner.errors import ProfiledSpawnerError
from profiled_spawner.sources import cache, last_good, several
from profiled_spawner.sources import file as file_module
from profiled_spawner.sources.cache import Snapshot
from profiled_spawner.sources.configmap import ConfigMapSource, SelectedConfigMapsSource
from profiled_spawner.sources.file import FileSource
from profiled_spawner.sources.last_good import LastGoodFile, get_last_good_file
from profiled_spawner.sources.threads import SMALL_TEXT

from .waiting import HANG_SECONDS, Clock, our_threads, until

__all__ = ["START_SECONDS", "STEPS", "Gate", "Step", "World", "count_descriptors"]

NAMESPACE, KEY = "jhub", "profiles.yaml"
START_SECONDS = 20
"""How long a start waits; tests put the clock forward by as much."""

log = logging.getLogger("hub")


class Gate:
    """Holds up the threads that come to it while it is shut, if what they are at has a mark.

    Attributes:
        waiting: The threads that it holds up.
    """

    def __init__(self) -> None:
        self.waiting: set[threading.Thread] = set()
        self._mark: str | None = None
        self._opened = threading.Event()

    def shut(self, mark: str) -> None:
        self._mark = mark

    def open(self) -> None:
        self._mark = None
        self._opened.set()

    def pass_through(self, what: str) -> None:
        if self._mark is not None and self._mark in what:
            self.waiting.add(threading.current_thread())
            assert self._opened.wait(3 * HANG_SECONDS)
            self.waiting.remove(threading.current_thread())


def _holding(owner: Any, name: str, describe: Callable[..., str] = lambda *_, **__: "") -> Callable[[Gate], Any]:
    """Holds up a function at its beginning."""
    real = getattr(owner, name)

    def hold(gate: Gate) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            gate.pass_through(describe(*args, **kwargs))
            return real(*args, **kwargs)

        return patch.object(owner, name, call)

    return hold


def _holding_an_open_file(gate: Gate) -> Any:
    real = file_module.open_file

    @contextmanager
    def open_file(*args: Any) -> Iterator[Any]:
        with real(*args) as file:
            gate.pass_through(str(args[0]))
            yield file

    return patch.object(file_module, "open_file", open_file)


def _names(main: Document, others: Sequence[Document]) -> str:
    return " ".join(str(profile.label) for document in (main, *others) for profile in document.profiles)


@dataclass(frozen=True)
class Step:
    """A step of reading that hangs.

    Attributes:
        title: What it is.
        hold: Has it hang at a gate.
        mark: What of what it does hangs: the texts in which this occurs.
        is_file: Whether the main document is in a file; else it is in a ConfigMap.
        selects: Whether there are selected ConfigMaps, ``one`` and ``two``.
        last_good: What a start is given where all was good before, as the labels of its profiles.
        first: What it is given where nothing has been read before; None for nothing.
        breaks: Whether the newest document is not valid.
        gives_up: Whether it is given up, so that a newer document can be read beside it.
    """

    title: str
    hold: Callable[[Gate], AbstractContextManager[Any]]
    mark: str = ""
    is_file: bool = False
    selects: bool = False
    last_good: tuple[str, ...] = ("v1",)
    first: tuple[str, ...] | None = None
    breaks: bool = False
    gives_up: bool = False

    def __str__(self) -> str:
        return self.title


STEPS = [
    Step("opening the file", _holding(file_module, "open_file", lambda path: str(path)), mark="/main", is_file=True),
    Step("reading the file", _holding_an_open_file, mark="/main", is_file=True),
    Step(
        "taking the ConfigMap's JSON apart",
        _holding(ConfigMapSource, "extract", lambda self, raw: raw.decode()),
        mark="v2",
        gives_up=True,
    ),
    Step(
        "parsing",
        _holding(cache, "parse_document", lambda text, **_: text),
        mark="v2",
        gives_up=True,
    ),
    Step(
        "taking the list's JSON apart",
        _holding(SelectedConfigMapsSource, "extract", lambda self, raw: raw.decode()),
        mark="v2",
        selects=True,
        last_good=("v2", "one/v1", "two/v1"),
        first=("v2",),
        gives_up=True,
    ),
    Step(
        "parsing one of several",
        _holding(cache, "parse_document", lambda text, *, source, **_: f"{source} {text}".partition("one@")[2]),
        mark="v2",
        selects=True,
        last_good=("v2", "one/v1", "two/v2"),
        first=("v2", "two/v2"),
        gives_up=True,
    ),
    Step(
        "combining several",
        _holding(several, "combine_documents", _names),
        mark="v2",
        selects=True,
        last_good=("v2",),
        first=("v2",),
        gives_up=True,
    ),
    Step(
        "looking into the file of last good documents",
        _holding(LastGoodFile, "load"),
        breaks=True,
    ),
    Step(
        "writing the file of last good documents",
        _holding(LastGoodFile, "_replace"),
        last_good=("v2",),
        first=("v2",),
    ),
]


class World:
    """A hub's reading: of a document that hangs, and of another one.

    Attributes:
        step: Which step it is that hangs.
        gate: Where it hangs.
    """

    def __init__(self, step: Step, directory: Path) -> None:
        self.step = step
        self.gate = Gate()
        self._directory = directory
        self._version = 0
        self._texts: dict[str, tuple[str, int]] = {}
        self._main: Any = ConfigMapSource(NAMESPACE, "main", KEY, None, START_SECONDS)
        if step.is_file:
            self._main = FileSource(directory / "main", KEY)
        self._selected = SelectedConfigMapsSource(NAMESPACE, "a=b", KEY, "main", None, START_SECONDS)
        self._clock = Clock()
        self.write("v1")
        (directory / "other").write_text(_document("other"))

    @contextmanager
    def holding(self) -> Iterator[None]:
        """In which reading works, and hangs at the step once the gate is shut."""

        async def get(source: ConfigMapSource) -> bytes:
            return json.dumps({"kind": "ConfigMap", **self._manifest(source.configmap)}).encode()

        async def list_all(_: object) -> bytes:
            items = [self._manifest(name) for name in ("one", "two")]
            return json.dumps({"kind": "ConfigMapList", "metadata": {}, "items": items}).encode()

        with (
            patch.object(ConfigMapSource, "fetch", get),
            patch.object(SelectedConfigMapsSource, "fetch", list_all),
            self.step.hold(self.gate),
        ):
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        """The same; in the end the gate is opened."""
        with self.holding():
            try:
                yield self
            finally:
                self.gate.open()
                await until(lambda: not our_threads())

    def write(self, name: str) -> None:
        """Writes all documents anew, each with a profile of that name; those that a hub reads first, if it breaks."""
        self._version += 1
        for configmap in ("main", "one", "two"):
            self._texts[configmap] = _document(name), self._version
        if self.step.breaks and name != "v1":
            self._texts["main"] = "profiles: [{nmae: x}]", self._version
        (self._directory / "main").write_text(_document(name))

    def _manifest(self, configmap: str) -> dict[str, Any]:
        text, version = self._texts[configmap]
        metadata = {"name": configmap, "uid": configmap, "resourceVersion": str(version)}
        return {"metadata": metadata, "data": {KEY: text}}

    async def start(self) -> tuple[str, ...] | None:
        """What a start is given, as the labels of its profiles; None if it fails."""
        file = self._directory / "last-good.json"
        return await self._read(self._main, self._selected if self.step.selects else None, str(file))

    async def start_another(self) -> tuple[str, ...] | None:
        """What somebody's start is given who has another document."""
        return await self._read(FileSource(self._directory / "other", KEY), None, "")

    async def _read(self, source: Any, selected: SelectedConfigMapsSource | None, file: str) -> tuple[str, ...] | None:
        try:
            snapshot: Snapshot = await several.read_documents(
                source,
                selected,
                policy="last-good",
                timeout_seconds=START_SECONDS,
                log=log,
                file=get_last_good_file(file),
            )
        except ProfiledSpawnerError:
            return None
        return tuple(str(profile.label) for profile in snapshot.document.profiles)

    async def restart(self) -> None:
        """Forgets all that a hub knows of documents; what it has kept in its file is all there."""
        await until(lambda: not our_threads())
        cache.all_stores.clear()
        several.all_selections.clear()
        last_good.all_files.clear()

    async def hang(self) -> None:
        """Has the newest version hang, and a thread come to it."""
        self.gate.shut(self.step.mark)
        self.write("v2")
        starting = asyncio.create_task(self.start())
        await until(lambda: self.gate.waiting)
        await self._time_passes([starting])

    async def start_many(self, count: int) -> set[tuple[str, ...] | None]:
        """What many starts are given, ten at a time, each within its time, which passes in a moment."""
        given: set[tuple[str, ...] | None] = set()
        for _ in range(0, count, 10):
            given.update(await self._time_passes([asyncio.create_task(self.start()) for _ in range(10)]))
        return given

    async def _time_passes(self, starting: list[asyncio.Task[Any]]) -> list[Any]:
        # In pieces, for what begins to wait when something else has waited long enough.
        for _ in range(8):
            await self.settle()
            self._clock.forward(START_SECONDS / 8)
        await self.settle()
        assert all(task.done() for task in starting)
        return await asyncio.gather(*starting)

    async def give_up(self) -> None:
        """Lets so much time pass that what can be given up, is."""
        await self.settle()
        self._clock.forward(2 * HANG_SECONDS)
        await self.settle()

    async def settle(self) -> None:
        """Waits until nothing goes on any more but what hangs."""
        quiet = 0
        while quiet < 5:
            for _ in range(20):
                await asyncio.sleep(0)
            quiet = quiet + 1 if set(our_threads()) <= self.gate.waiting else 0
            if not quiet:
                await asyncio.sleep(0.001)


def _document(name: str) -> str:
    # Large enough to be parsed with the collector paused, which must not last as long as what hangs.
    return f"profiles: [{{name: {name}, env: {{FOO: canary-value}}}}] #{'x' * SMALL_TEXT}"


def count_descriptors() -> int:
    """How many descriptors the process has."""
    return len(os.listdir("/proc/self/fd"))


async def _measure(step: Step, directory: Path) -> str:
    async with World(step, directory).running() as world:
        await world.start()
        if step.breaks:
            await world.restart()
        await world.settle()
        counts = [(threading.active_count(), count_descriptors())]
        await world.hang()
        counts.append((threading.active_count(), count_descriptors()))
        await world.start_many(200)
        counts.append((threading.active_count(), count_descriptors()))
    return f"{step.title:50}" + "".join(f"{threads:5}{descriptors:5}   " for threads, descriptors in counts)


async def _hang(step: Step, directory: Path) -> None:
    world = World(step, directory)
    with world.holding():
        await world.start()
        if step.breaks:
            await world.restart()
        await world.hang()
        print("hangs", flush=True)


def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory() as directory:
        if sys.argv[1:]:
            asyncio.run(_hang(STEPS[int(sys.argv[1])], Path(directory)))
            return
        print(f"{'threads and descriptors':50}before       hanging      with 200 starts more")
        for number, step in enumerate(STEPS):
            place = Path(directory) / str(number)
            place.mkdir()
            print(asyncio.run(_measure(step, place)))


if __name__ == "__main__":
    main()
