"""Fixtures for tests on a real API server; they are skipped where there are no binaries for one."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cluster.apiserver import ControlPlane
from cluster.assets import Assets, AssetsUnavailableError, find_assets


@pytest.fixture(scope="session")
def assets() -> Assets:
    """The binaries of a control plane."""
    try:
        return find_assets()
    except AssetsUnavailableError as exc:
        pytest.skip(str(exc))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane(assets: Assets) -> AsyncIterator[ControlPlane]:
    """A control plane for all tests."""
    async with ControlPlane(assets, start_seconds=60) as control_plane:
        yield control_plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.create_namespace(name)
    return name
