"""What importing the package costs: neither a hub's configuration nor the command may pay for what it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "asyncio",
    "jupyterhub",
    "kubernetes_asyncio",
    "kubespawner",
    "prometheus_client",
    "tornado",
    "yaml",
}


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        pytest.param("profiled_spawner", set(), id="the-package"),
        pytest.param("profiled_spawner.command.main", {"yaml"}, id="the-command"),
        pytest.param("profiled_spawner.hub.spawner", HEAVY, id="the-spawner"),
    ],
)
def test_importing_it_imports_of_the_heavy_packages(module: str, imported: set[str]) -> None:
    script = f"import sys, {module}; print(*{HEAVY} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert set(shown.split()) == imported
