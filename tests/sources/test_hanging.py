"""Whatever step of reading hangs, for however long, it holds up nobody else, and nothing needs a restart."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.hub.spawner import ProfilesUnavailableError
from profiled_spawner.sources import file as file_module
from sandbox.hanging import START_SECONDS, STEPS, Gate, Step, World, count_descriptors
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import HANG_SECONDS, Clock, our_threads, until

from ..conftest import MakeSpawner, WriteProfiles

in_every_step = pytest.mark.parametrize("step", STEPS, ids=str)


class Executor(concurrent.futures.ThreadPoolExecutor):
    """An event loop's, which notes what it is given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given: list[Callable[..., Any]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.given.append(work)
        return super().submit(work, *args, **kwargs)


@pytest.fixture
async def executor() -> Executor:
    executor = Executor()
    asyncio.get_running_loop().set_default_executor(executor)
    return executor


@pytest.fixture
async def world(step: Step, tmp_path: Path) -> AsyncIterator[World]:
    async with World(step, tmp_path).running() as world:
        yield world


@in_every_step
@pytest.mark.parametrize("good_before", [True, False], ids=["good-before", "nothing-good-before"])
async def test_what_hangs_holds_up_nobody(executor: Executor, world: World, step: Step, good_before: bool) -> None:
    if good_before or step.breaks:
        assert await world.start() is not None
    if step.breaks:
        await world.restart()
    expected = step.last_good if good_before and not step.breaks else step.first

    await world.hang()

    assert await world.start_another() == ("other",)
    assert await world.start_many(10) == {expected}
    await world.settle()
    threads, descriptors = threading.active_count(), count_descriptors()
    assert await world.start_many(200) == {expected}
    await world.settle()
    assert len(our_threads()) == len(world.gate.waiting) == 1
    assert threading.active_count() == threads
    assert count_descriptors() <= descriptors
    assert await world.start_another() == ("other",)
    # Every request to the API server needs it.
    assert executor.given == []
    assert await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)


@in_every_step
@pytest.mark.parametrize("given_up", [False, True], ids=["soon", "late"])
async def test_when_it_goes_on_the_next_start_has_the_newest(world: World, step: Step, given_up: bool) -> None:
    await world.start()
    if step.breaks:
        await world.restart()
    await world.hang()
    if given_up:
        await world.give_up()
        await world.start_many(10)
    world.gate.open()
    await until(lambda: not our_threads())
    newest = ("v2", "one/v2", "two/v2") if step.selects else ("v1",) if step.breaks else ("v2",)
    await world.settle()
    assert await world.start() == newest


@pytest.mark.parametrize("step", [step for step in STEPS if step.gives_up], ids=str)
async def test_a_newer_document_is_parsed_beside_what_was_given_up(
    world: World, step: Step, caplog: pytest.LogCaptureFixture
) -> None:
    await world.start()
    await world.hang()
    world.write("v3")
    as_before = tuple(label.replace("v2", "v3") for label in step.last_good)
    assert await world.start_many(10) == {as_before}

    await world.give_up()

    newest = ("v3", "one/v3", "two/v3") if step.selects else ("v3",)
    assert await world.start_many(10) == {newest}
    # That of the old one goes on, and keeps nothing from the others.
    assert len(our_threads()) == len(world.gate.waiting) == 1
    assert gc.isenabled()
    assert "canary" not in caplog.text


@pytest.mark.parametrize("step", [step for step in STEPS if step.title == "parsing"], ids=str)
async def test_what_was_given_up_is_told_once_and_not_tried_again(
    world: World, step: Step, caplog: pytest.LogCaptureFixture
) -> None:
    await world.start()
    await world.hang()
    assert "main is still being parsed" in caplog.text
    assert not gc.isenabled()
    await world.give_up()
    assert gc.isenabled()
    assert len([text for text in caplog.messages if text.startswith("Gave up parsing configmap/jhub/main after")]) == 1
    caplog.clear()
    await world.start_many(10)
    assert len(our_threads()) == 1
    assert "main has 1 error:\n  could not be read, because of a defect of this package (not parsed" in caplog.text
    assert "Gave up" not in caplog.text


@in_every_step
def test_the_process_ends_meanwhile(step: Step) -> None:
    """Its main function returns, and nobody waits for the thread."""
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.hanging", str(STEPS.index(step))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hangs\n", "")


async def test_starts_go_on_beside_a_file_that_hangs(
    kubelet: PaperKubelet,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_profiles("profiles: [{name: good}]")
    path, gate, open_file = tmp_path / "profiles.yaml", Gate(), file_module.open_file
    path.write_text("profiles: [{name: in-the-file}]")

    def hanging(*args: Any) -> Any:
        gate.pass_through("")
        return open_file(*args)

    def spawner(user: str) -> ProfiledKubeSpawner:
        return make_spawner(user, profiles_file=str(path), k8s_api_request_retry_timeout=START_SECONDS)

    monkeypatch.setattr(file_module, "open_file", hanging)
    gate.shut("")
    for user in ("ada", "grace", "edsger"):
        starting = spawner(user).start()
        await until(lambda: gate.waiting)
        await make_spawner(f"{user}-elsewhere").start()
        clock.forward(START_SECONDS)
        with pytest.raises(ProfilesUnavailableError):
            await starting
    assert len(our_threads()) == 1
    gate.open()
    await spawner("ada").start()
