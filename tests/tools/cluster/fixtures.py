"""Fixtures for tests on a real API server; they are skipped where there are no binaries for one."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import pytest_asyncio

from cluster.apiserver import ControlPlane
from cluster.assets import Assets, AssetsUnavailableError, find_assets, find_tool
from cluster.corpus import Report, Server


# First, since `-m cluster` selects by marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs programs that are not there: by marks, whose reasons pytest reports together."""
    for item in items:
        for marker in list(item.iter_markers("needs")):
            item.add_marker("cluster")
            for name in marker.args:
                _skip_without(partial(find_tool, name), item)
        if item.get_closest_marker("cluster"):
            _skip_without(find_assets, item)


def _skip_without(find: Callable[[], object], item: pytest.Item) -> None:
    try:
        find()
    except AssetsUnavailableError as exc:
        item.add_marker(pytest.mark.skip(reason=str(exc)))


@pytest.fixture(scope="session")
def assets() -> Assets:
    """The binaries of a control plane."""
    return find_assets()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane(assets: Assets) -> AsyncIterator[ControlPlane]:
    """A control plane for all tests."""
    async with ControlPlane(assets) as control_plane:
        yield control_plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.create_namespace(name)
    return name


@pytest.fixture
def server(control_plane: ControlPlane, namespace: str) -> Server:
    """A namespace of the test's own, to ask about pods."""
    return Server(control_plane, namespace)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Prints how much was asked, on a line that is seen."""

    def write(what: str, seen: Counter[str]) -> None:
        counts = ", ".join(f"{count} {answer}" for answer, count in sorted(seen.items()))
        with capsys.disabled():
            print(f"\n{what}: {counts}", end=" ")

    return write
