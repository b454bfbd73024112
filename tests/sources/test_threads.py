"""While a document is parsed in a thread, the event loop need not wait long for its turn, nor for a collection."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiled_spawner.document.parser import parse_document
from profiled_spawner.sources.cache import Store
from profiled_spawner.sources.source import FileSource
from profiled_spawner.sources.threads import background

from ..conftest import KEY

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
