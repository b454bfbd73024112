"""A plugin of pytest for KubeSpawner's own suite: it puts our class in place of KubeSpawner, or leaves the stock one.

It changes the host when it is imported, so nothing else may import it.
All that the cluster lacks is made up for in the same way for both classes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import kubespawner
import kubespawner.spawner
import pytest
from jupyterhub.app import JupyterHub
from kubernetes_asyncio.client import ApiClient
from traitlets import default

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.sources.cache import Snapshot
from theirsuite import FILE

reads = 0


class Ours(ProfiledKubeSpawner):
    """Our class with a document, and nothing else."""

    @default("profiles_file")
    def _profiles_file_default(self) -> str:
        return os.environ[FILE]

    @default("last_good_path")
    def _last_good_path_default(self) -> str:
        return ""

    async def read_profiles(self) -> Snapshot:
        global reads
        reads += 1
        return await super().read_profiles()


# Before its tests import it.
if FILE in os.environ:
    kubespawner.KubeSpawner = kubespawner.spawner.KubeSpawner = Ours


async def answer(*_: Any, **__: Any) -> str:
    """What a check within a pod prints if a server answers it. The suite's tests of servers have no other one."""
    return "302"


def init_internal_ssl(self: JupyterHub) -> None:
    """JupyterHub 6 needs a running event loop for this, which the suite does not give it."""
    loop = asyncio.new_event_loop()
    loop.call_soon(_init_internal_ssl, self)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


_init_internal_ssl, JupyterHub.init_internal_ssl = JupyterHub.init_internal_ssl, init_internal_ssl
# KubeSpawner's own, for spawners without a user. Those of JupyterHub have groups.
kubespawner.spawner.MockObject.groups = ()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sys.modules["conftest"]._exec_python_in_pod = answer  # type: ignore[attr-defined]
    for item in items:
        module: Any = item.getparent(pytest.Module).obj  # type: ignore[union-attr]
        if hasattr(module, "MockUser"):
            module.MockUser.groups = ()
        if hasattr(module, "api_client"):
            # That of the synchronous client, whose newer releases take models of their own alone.
            module.api_client = ApiClient.__new__(ApiClient)
        if module.__name__ == "test_utils" and "exec_python" in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.skip(reason="nothing runs in the pods of this cluster"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"profiles were read {reads} times")
