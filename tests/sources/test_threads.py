"""Work in threads: the event loop need not wait long for its turn, nor for a collection, nor for what never ends."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from profiled_spawner.document.model import Combination, Document, combine_documents
from profiled_spawner.document.parser import parse_document
from profiled_spawner.errors import SourceError
from profiled_spawner.sources import cache, several
from profiled_spawner.sources.cache import Store
from profiled_spawner.sources.configmap import ConfigMapSource, SelectedConfigMapsSource
from profiled_spawner.sources.file import FileSource
from profiled_spawner.sources.several import Selection
from profiled_spawner.sources.threads import GIVE_UP_SECONDS, SMALL_TEXT, SingleFlight, low_latency
from sandbox.waiting import HANG_SECONDS, Clock, our_threads, until

from ..conftest import KEY

log = logging.getLogger("hub")
INTERVAL = sys.getswitchinterval()
LARGE = SMALL_TEXT + 1


@pytest.fixture(autouse=True)
def interpreter() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()
    sys.setswitchinterval(INTERVAL)


def test_it_lasts_until_the_last_of_several_ends() -> None:
    first, second = low_latency(LARGE), low_latency(LARGE)
    with first:
        second.__enter__()
        assert not gc.isenabled()
        assert sys.getswitchinterval() < INTERVAL
    assert not gc.isenabled()
    assert sys.getswitchinterval() < INTERVAL
    second.__exit__(None, None, None)
    assert gc.isenabled()
    assert sys.getswitchinterval() == INTERVAL


def test_everything_is_as_before_after_an_error() -> None:
    with pytest.raises(ValueError, match="broken"), low_latency(LARGE):
        raise ValueError("broken")
    assert gc.isenabled()
    assert sys.getswitchinterval() == INTERVAL


def test_what_the_host_has_set_stays() -> None:
    gc.disable()
    sys.setswitchinterval(0.0005)
    with low_latency(LARGE):
        assert sys.getswitchinterval() == 0.0005
    assert not gc.isenabled()
    assert sys.getswitchinterval() == 0.0005


def test_nothing_changes_for_something_small() -> None:
    with low_latency(SMALL_TEXT), low_latency(2, small=2):
        assert gc.isenabled()
        assert sys.getswitchinterval() == INTERVAL
        with low_latency(2, small=1):
            assert not gc.isenabled()


@dataclass
class Settings:
    """What a step of reading sees of the interpreter's settings."""

    gc_is_enabled: bool
    switch_interval: float


DEFAULT, LOW_LATENCY = Settings(True, INTERVAL), Settings(False, 0.001)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param(2**10, DEFAULT, id="small"),
        pytest.param(SMALL_TEXT, DEFAULT, id="just-small"),
        pytest.param(SMALL_TEXT + 1, LOW_LATENCY, id="large"),
    ],
)
@pytest.mark.parametrize("of", ["file", "configmap", "selected"])
async def test_only_a_large_edit_pauses_the_collector_and_shortens_the_switch_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, expected: Settings, of: str
) -> None:
    seen: list[Settings] = []

    def parse(text: str, **kwargs: Any) -> Document:
        assert len(text) == size
        seen.append(Settings(gc.isenabled(), sys.getswitchinterval()))
        return parse_document(text, **kwargs)

    monkeypatch.setattr(cache, "parse_document", parse)
    text = f"profiles: [] #{'x' * size}"[:size]
    if of == "file":
        file = tmp_path / "profiles.yaml"
        file.write_text(text)
        await Store("file").read(FileSource(file, KEY), policy="fail", timeout_seconds=60, log=log)
    elif of == "configmap":
        raw = json.dumps({"kind": "ConfigMap", **_configmap(text)}).encode()
        monkeypatch.setattr(ConfigMapSource, "fetch", lambda _: _answer(raw))
        source = ConfigMapSource("jhub", "one", KEY, None, 60)
        await Store("configmap").read(source, policy="fail", timeout_seconds=60, log=log)
    else:
        raw = json.dumps({"kind": "ConfigMapList", "metadata": {}, "items": [_configmap(text)]}).encode()
        monkeypatch.setattr(SelectedConfigMapsSource, "fetch", lambda _: _answer(raw))
        selected = SelectedConfigMapsSource("jhub", "a=b", KEY, None, None, 60)
        await Selection(selected).read(selected, timeout_seconds=60, log=log)
    assert seen == [expected]
    assert Settings(gc.isenabled(), sys.getswitchinterval()) == DEFAULT


@pytest.mark.parametrize(("users", "expected"), [(10, DEFAULT), (6_000, LOW_LATENCY)])
async def test_only_a_large_combination_does_the_same(
    monkeypatch: pytest.MonkeyPatch, users: int, expected: Settings
) -> None:
    seen: list[Settings] = []

    def combine(*documents: Any) -> Combination:
        seen.append(Settings(gc.isenabled(), sys.getswitchinterval()))
        return combine_documents(*documents)

    monkeypatch.setattr(several, "combine_documents", combine)
    main = parse_document(f"profiles: [{{users: [{', '.join(f'user{number}' for number in range(users))}]}}]")
    selection = Selection(SelectedConfigMapsSource("jhub", "a=b", KEY, None, None, 60))
    for _ in range(2):
        await selection.combine(main, (), timeout_seconds=60, log=log, purpose="start")
    # Once for both starts: no document has changed.
    assert seen == [expected]


def _configmap(text: str) -> dict[str, Any]:
    return {"metadata": {"name": "one", "uid": "u", "resourceVersion": "1"}, "data": {KEY: text}}


async def _answer(raw: bytes) -> bytes:
    return raw


async def test_a_large_document_is_parsed_so(tmp_path: Path) -> None:
    file = tmp_path / "profiles.yaml"
    file.write_text("profiles:\n" + "- {name: one, users: [ada], env: {FOO: x}}\n" * 2000)
    source = FileSource(file, KEY)
    collections: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        collections.append(phase)

    gc.callbacks.append(note)
    try:
        parse_document(file.read_text())
        otherwise, collections[:] = len(collections), []
        await Store(source.name).read(source, policy="fail", timeout_seconds=60, log=log)
        so = len(collections)
    finally:
        gc.callbacks.remove(note)
    assert so < otherwise / 5


class Work:
    """Calls for a `SingleFlight`, which end when they may."""

    def __init__(self) -> None:
        self.flight = SingleFlight[str, str]()
        self.may_end = threading.Event()
        self.done: list[str] = []

    def begin(self, key: str, **kwargs: object) -> asyncio.Task[str]:
        def work() -> str:
            with low_latency(LARGE):
                assert self.may_end.wait(HANG_SECONDS)
                self.done.append(key)
                return f"{key}{len(self.done)}"

        give_up = (lambda: "given up") if kwargs.get("can_be_given_up") else None
        return asyncio.create_task(self.flight.run(key, work, give_up))


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    work = Work()
    yield work
    work.may_end.set()
    await until(lambda: not our_threads())


async def test_the_same_is_done_once_and_another_after_it(work: Work) -> None:
    tasks = [work.begin(key) for key in ("a", "a", "b", "a")]
    await until(our_threads)
    await asyncio.sleep(0)
    assert len(our_threads()) == 1
    work.may_end.set()
    assert await asyncio.gather(*tasks) == ["a1", "a1", "b2", "a1"]
    assert await work.begin("b") == "b2"
    assert work.done == ["a", "b"]


async def test_a_caller_that_leaves_leaves_the_thread_to_the_next(work: Work) -> None:
    leaving = work.begin("a")
    await until(our_threads)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    coming = work.begin("a")
    await asyncio.sleep(0)
    assert len(our_threads()) == 1
    work.may_end.set()
    assert await coming == "a1"


async def test_what_is_given_up_lets_the_next_begin_and_counts_if_it_ends_after_all(work: Work, clock: Clock) -> None:
    task = work.begin("a", can_be_given_up=True)
    await until(lambda: not gc.isenabled())
    clock.forward(GIVE_UP_SECONDS)
    assert await task == "given up"
    assert gc.isenabled()
    assert await work.begin("a") == "given up"
    assert len(our_threads()) == 1
    work.may_end.set()
    await until(lambda: work.flight.last == ("a", "a1"))
    assert await work.begin("a") == "a1"
    assert work.done == ["a"]
    assert gc.isenabled()


async def test_what_cannot_be_given_up_pauses_no_collection_for_ever(work: Work, clock: Clock) -> None:
    task = work.begin("a")
    await until(lambda: not gc.isenabled())
    clock.forward(GIVE_UP_SECONDS)
    await until(gc.isenabled)
    assert not task.done()
    work.may_end.set()
    assert await task == "a1"
    assert gc.isenabled()


async def test_an_error_is_raised_and_not_kept() -> None:
    flight = SingleFlight[str, str]()

    def fail() -> str:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await flight.run("a", fail)
    assert await flight.run("a", lambda: "done") == "done"


async def test_without_a_thread_there_is_an_error_that_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(SourceError, match="could start no thread") as caught:
        await SingleFlight[str, str]().run("a", str)
    assert caught.value.transient
