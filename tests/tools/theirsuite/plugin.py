"""A plugin of pytest for KubeSpawner's own suite: it puts our class in place of KubeSpawner, or leaves the stock one.

All that the cluster lacks is made up for in the same way for both classes.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import kubespawner
import kubespawner.spawner
import pytest
from traitlets import default

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.sources.cache import Snapshot

FILE = "SUITE_PROFILES_FILE"
"""The environment variable that names the document; without it, the suite tests the stock class."""

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
    """What every check prints that the suite runs within a pod, to see that a server answers: no pod runs anything."""
    return "302"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sys.modules["conftest"]._exec_python_in_pod = answer  # type: ignore[attr-defined]
    for item in items:
        user: Any = getattr(getattr(item, "module", None), "MockUser", None)
        if user is not None:
            # Those of JupyterHub always have some.
            user.groups = ()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"profiles were read {reads} times")
