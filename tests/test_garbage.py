"""Python's garbage collector waits while a document is parsed, and goes on afterwards."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiled_spawner.garbage import collector_paused
from profiled_spawner.parsing import parse_document
from profiled_spawner.sources import FileSource
from profiled_spawner.store import Store

from .conftest import KEY

log = logging.getLogger("hub")


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


def test_it_waits_until_the_last_pause_ends() -> None:
    first, second = collector_paused(), collector_paused()
    with first:
        second.__enter__()
        assert not gc.isenabled()
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    with pytest.raises(ValueError, match="broken"), collector_paused():
        raise ValueError("broken")
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off() -> None:
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()


async def test_it_waits_while_a_document_is_parsed(tmp_path: Path) -> None:
    file = tmp_path / "profiles.yaml"
    file.write_text("profiles:\n" + "- {name: one, users: [ada], env: {FOO: x}}\n" * 2000)
    source = FileSource(file, KEY)
    collections: list[str] = []
    gc.callbacks.append(lambda phase, info: collections.append(phase))
    try:
        parse_document(file.read_text())
        without, collections[:] = len(collections), []
        await Store(source.name).read(source, policy="fail", timeout_seconds=60, log=log)
        within = len(collections)
    finally:
        gc.callbacks.pop()
    assert within < without / 5
