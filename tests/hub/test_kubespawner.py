"""Whether the host has what this package uses of it, though it is private there."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from jupyterhub import handlers
from kubespawner import KubeSpawner

import profiled_spawner
from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.hub.kubespawner import PRIVATE_PARTS, HostSpawner, PrivatePart, SpawnException

PACKAGE = Path(profiled_spawner.__file__).parent
NAMES = {part.name for part in PRIVATE_PARTS}


@pytest.mark.parametrize("part", PRIVATE_PARTS, ids=lambda part: part.name)
def test_the_host_has_it_as_it_was(part: PrivatePart) -> None:
    found = inspect.getattr_static(part.owner, part.name, None)
    assert found is not None, f"{part.owner.__name__} has no {part.name} any more: {part.without}"
    if part.parameters is not None:
        assert tuple(inspect.signature(found).parameters) == ("self", *part.parameters), part.without


def test_jupyterhub_5_counts_failures_where_we_look() -> None:
    if SpawnException is None:
        source = inspect.getsource(handlers.BaseHandler.spawn_single_user)
        assert "self.settings['failure_count'] += 1" in source


def private_names(path: Path) -> set[str]:
    """The private attributes that a module uses of itself, of its class's bases, or of others."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")}


def is_of_the_host(name: str) -> bool:
    return hasattr(KubeSpawner, name) and name not in vars(ProfiledKubeSpawner) and not name.startswith("__")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_else_of_it_is_used_elsewhere(path: Path) -> None:
    used = {name for name in private_names(path) if is_of_the_host(name)}
    assert used <= (NAMES if path.stem == "kubespawner" else set())


@pytest.mark.parametrize("name", ["_make_create_pod_request"])
def test_what_is_overridden_is_called_by_the_host(name: str) -> None:
    assert name in vars(HostSpawner)
    callers = [each for each, method in vars(KubeSpawner).items() if inspect.isfunction(method) and each != name]
    sources = {each: inspect.getsource(vars(KubeSpawner)[each]) for each in callers}
    assert [each for each, source in sources.items() if f"self.{name}" in source] != []
