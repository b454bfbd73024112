"""KubeSpawner's own test suite passes with our class wherever it passes with the stock one.

It runs with both, one after the other, on a cluster of its own, whose pods are Running at once, though nothing runs in
them. So the suite's checks within a pod that a server answers are answered for it, for both classes (`theirsuite`).
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

import profiled_spawner
from cluster.controllers import PROGRAMS, Cluster
from theirsuite import FILE

CHECKOUT = os.environ.get("KUBESPAWNER_CHECKOUT")
TOOLS = Path(__file__).parents[1] / "tools"

DOCUMENT = "profiles: [{name: for everyone, env: {}, annotations: {example.org/read: 'yes'}}]"

#: The tests that pass with the stock class alone, and why they are to fail with ours.
MEANT = {
    "test_spawner::test_variable_expansion": "it looks for values of variables in the pod's text, which masks them",
}


def find_tests() -> Path:
    """Returns the suite of the KubeSpawner that is installed."""
    if not CHECKOUT:
        pytest.skip("KUBESPAWNER_CHECKOUT names no checkout of jupyterhub/kubespawner")
    checkout, installed = Path(CHECKOUT), version("jupyterhub-kubespawner")
    text = (checkout / "kubespawner" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "(.*)"', text)
    if found is None or found[1] != installed:
        pytest.fail(f"KUBESPAWNER_CHECKOUT has {found and found[1]}: check out the tag {installed}, which is installed")
    return checkout / "tests"


async def run(cluster: Cluster, tests: Path, scratch: Path, *, document: str = "") -> tuple[dict[str, str], str]:
    """Runs the suite, with the stock class or, if there is a document, with ours.

    Returns:
        The outcome of each test, and all that was printed.
    """
    scratch.mkdir()
    kubeconfig, results = scratch / "kubeconfig", scratch / "results.xml"
    kubeconfig.write_text(cluster.kubeconfig())
    path = os.pathsep.join(map(str, (Path(profiled_spawner.__file__).parents[1], TOOLS)))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")},
        "KUBECONFIG": str(kubeconfig),
        "PYTHONPATH": path,
    }
    if document:
        (scratch / "profiles.yaml").write_text(document)
        environment[FILE] = str(scratch / "profiles.yaml")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", str(tests), "--color=no", f"--junitxml={results}"),
        *("-p", "theirsuite.plugin", "-p", "no:cacheprovider"),
        *(f"--rootdir={tests.parent}", f"--config-file={tests.parent / 'pyproject.toml'}"),
        # It is written for a release of pytest-asyncio in which this was so.
        *("-o", "asyncio_default_fixture_loop_scope=session", "-o", "asyncio_default_test_loop_scope=session"),
        cwd=scratch,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert results.exists(), output.decode()
    return read_outcomes(results), output.decode()


def read_outcomes(results: Path) -> dict[str, str]:
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(results).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        # An error of the clean-up is beside the outcome.
        outcomes[name] = next(iter(sorted(kinds)), outcomes.get(name, "passed"))
    return outcomes


@pytest.mark.newest
@pytest.mark.needs(*PROGRAMS)
async def test_it_passes_with_ours_where_it_passes_with_the_stock_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = find_tests()
    outputs: dict[str, str] = {}
    outcomes: dict[str, dict[str, str]] = {}
    for name, document in (("stock", ""), ("ours", DOCUMENT)):
        async with Cluster() as cluster:
            cluster.add_node("node")
            outcomes[name], outputs[name] = await run(cluster, tests, tmp_path / name, document=document)
    passed = {name: {test for test, how in found.items() if how == "passed"} for name, found in outcomes.items()}
    with capsys.disabled():
        print(f"\nkubespawner {version('jupyterhub-kubespawner')}'s own tests:", end=" ")
        print(", ".join(f"{len(found)} of {len(outcomes[name])} pass with {name}" for name, found in passed.items()))
        neither = sorted(outcomes["stock"].keys() - passed["stock"] - passed["ours"])
        print("with neither:", ", ".join(f"{test} ({outcomes['stock'][test]})" for test in neither) or "none")
    assert passed["stock"], outputs["stock"]
    assert "profiles were read 0 times" in outputs["stock"]
    assert re.search(r"profiles were read [1-9]\d* times", outputs["ours"]), outputs["ours"]
    assert passed["stock"] - passed["ours"] == set(MEANT), outputs["ours"]
