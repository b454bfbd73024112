"""The modules stand in a row, and each imports only from those to its left."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import profiled_spawner

PACKAGE = Path(profiled_spawner.__file__).parent

# From left to right, each with the packages of others that importing it imports. docs/contributing.md has the same
# picture, with what each module decides.
PICTURE: dict[str, set[str]] = {
    "escaping": set(),
    "errors": set(),
    "quantity": set(),
    "limits": set(),
    "document": set(),
    "legacy": set(),
    "syntax": set(),
    "tree": {"yaml"},
    "reading": set(),
    "templates": set(),
    "objects": set(),
    "advice": set(),
    "parsing": set(),
    "manifest": set(),
    "matching": set(),
    "merging": set(),
    "sizes": set(),
    "terminal": set(),
    "diagnosis": set(),
    "explanation": set(),
    "schema": set(),
    "injection": {"kubernetes_asyncio"},
    "masking": {"kubernetes_asyncio"},
    "metrics": {"prometheus_client"},
    "background": set(),
    "sources": {"aiohttp"},
    "reads": set(),
    "last_good": set(),
    "store": set(),
    "selection": set(),
    "spawner": {"jupyterhub", "kubernetes_asyncio", "kubespawner", "tornado", "traitlets"},
    "kubeconfig": {"kubernetes_asyncio"},
    "rendering": {"jupyterhub", "kubespawner", "sqlalchemy", "traitlets"},
    "cli": {"yaml"},
}
ROW = list(PICTURE)
CORE = [*ROW[: ROW.index("sizes") + 1], "injection"]


def parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def find_imports(tree: ast.AST, *, eager: bool) -> Iterator[str]:
    """What a module imports: names of ours as ``.name``, of others by their top-level package.

    Args:
        tree: The module.
        eager: Leave out what only a call imports, or a type checker.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # "from . import metrics" names a module; "from . import __version__" what the package itself holds.
            names = [node.module] if node.module else [alias.name for alias in node.names if alias.name in PICTURE]
            yield from (f".{name}" if node.level else name.partition(".")[0] for name in names)
        elif eager and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ):
            continue
        else:
            yield from find_imports(node, eager=eager)


def find_ours(module: str, *, eager: bool = False) -> set[str]:
    return {name[1:] for name in find_imports(parse(module), eager=eager) if name.startswith(".")}


def find_others(module: str, *, eager: bool = False) -> set[str]:
    names = {name for name in find_imports(parse(module), eager=eager) if not name.startswith(".")}
    return names - set(sys.stdlib_module_names)


def test_every_module_is_in_the_picture() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"} == set(ROW)
    assert [path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"] == []


@pytest.mark.parametrize("module", ROW)
def test_a_module_imports_only_from_its_left(module: str) -> None:
    assert find_ours(module) - set(ROW[: ROW.index(module)]) == set()


@pytest.mark.parametrize("module", ROW)
def test_importing_a_module_imports_these_packages_of_others(module: str) -> None:
    assert find_others(module, eager=True) == PICTURE[module]


@pytest.mark.parametrize("package", ["jupyterhub", "kubespawner"])
def test_only_the_spawner_and_the_rendering_of_its_pod_import_the_host(package: str) -> None:
    assert [module for module in ROW if package in find_others(module)] == ["spawner", "rendering"]


@pytest.mark.parametrize("module", CORE)
def test_the_core_has_no_io_no_clock_and_no_log(module: str) -> None:
    rim = {
        "asyncio",
        "datetime",
        "io",
        "logging",
        "os",
        "pathlib",
        "random",
        "socket",
        "subprocess",
        "threading",
        "time",
    }

    assert set(find_imports(parse(module), eager=False)) & rim == set()


def test_the_core_knows_nothing_of_the_rim() -> None:
    assert [(module, name) for module in CORE for name in find_ours(module) if name not in CORE] == []


def test_the_command_starts_without_the_host_and_its_client() -> None:
    reached = {"cli"}
    while more := {name for module in reached for name in find_ours(module, eager=True)} - reached:
        reached |= more

    assert reached & {"injection", "masking", "sources", "spawner", "kubeconfig", "rendering"} == set()
    assert {package for module in reached for package in PICTURE[module]} == {"yaml"}


def test_importing_the_package_imports_nothing() -> None:
    assert set(find_imports(parse("__init__"), eager=True)) == {"typing"}
    assert find_ours("__main__") == {"cli"}
