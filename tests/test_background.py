"""Work in threads: the event loop need not wait long for its turn, nor for a collection, nor for what never ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from profiled_spawner.background import GIVE_UP_SECONDS, Single, background
from profiled_spawner.errors import SourceError
from profiled_spawner.parsing import parse_document
from profiled_spawner.sources import FileSource
from profiled_spawner.store import Store
from sandbox.waiting import HANG_SECONDS, Clock, our_threads, until

from .conftest import KEY

log = logging.getLogger("hub")
INTERVAL = sys.getswitchinterval()


@pytest.fixture(autouse=True)
def interpreter() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()
    sys.setswitchinterval(INTERVAL)


def test_it_lasts_until_the_last_of_several_ends() -> None:
    first, second = background(), background()
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
    with pytest.raises(ValueError, match="broken"), background():
        raise ValueError("broken")
    assert gc.isenabled()
    assert sys.getswitchinterval() == INTERVAL


def test_what_the_host_has_set_stays() -> None:
    gc.disable()
    sys.setswitchinterval(0.0005)
    with background():
        assert sys.getswitchinterval() == 0.0005
    assert not gc.isenabled()
    assert sys.getswitchinterval() == 0.0005


async def test_a_document_is_parsed_so(tmp_path: Path) -> None:
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
    """Pieces of work for a `Single`, which end when they may."""

    def __init__(self) -> None:
        self.single = Single[str, str]()
        self.may_end = threading.Event()
        self.done: list[str] = []

    def begin(self, key: str, **kwargs: object) -> asyncio.Task[str]:
        def work() -> str:
            with background():
                assert self.may_end.wait(HANG_SECONDS)
                self.done.append(key)
                return f"{key}{len(self.done)}"

        give_up = (lambda: "given up") if kwargs.get("can_be_given_up") else None
        return asyncio.create_task(self.single.run(key, work, give_up))


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
    await until(lambda: work.single._last == ("a", "a1"))
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
    single = Single[str, str]()

    def fail() -> str:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await single.run("a", fail)
    assert await single.run("a", lambda: "done") == "done"


async def test_without_a_thread_there_is_an_error_that_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(SourceError, match="could start no thread") as caught:
        await Single[str, str]().run("a", str)
    assert caught.value.transient
