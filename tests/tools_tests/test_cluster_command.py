"""The command on a ConfigMap of a real cluster, as an admin reaches it: through a kubeconfig, with TLS and a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.api import ClusterAPI
from cluster.apiserver import ControlPlane

pytestmark = pytest.mark.cluster

CONFIGMAP = "jupyter-singleuser-profiles"
KEY = "jupyterhub-singleuser-profiles.yaml"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
async def run(control_plane: ControlPlane, tmp_path: Path) -> Run:
    """Runs the command with the kubeconfig of the hub's service account."""
    async with ClusterAPI(control_plane):
        pass
    token = control_plane.service_account_token("jhub", "hub")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(control_plane.kubeconfig(token=token, namespace="jhub"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_SERVICE")}
    environment["KUBECONFIG"] = str(kubeconfig)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "profiled_spawner", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def write(control_plane: ControlPlane, text: str, name: str = CONFIGMAP) -> None:
    metadata = {"name": name, "namespace": "jhub"}
    control_plane.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: text}})


def test_a_valid_document_is_validated(control_plane: ControlPlane, run: Run) -> None:
    write(control_plane, "profiles: [{name: globals, env: {A: b}}]")
    for configmap in (f"jhub/{CONFIGMAP}", CONFIGMAP):
        done = run("validate", "--configmap", configmap)
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 profile, no errors" in done.stdout


def test_an_invalid_document_is_told_with_its_place(control_plane: ControlPlane, run: Run) -> None:
    write(control_plane, "profiles:\n- nmae: x")
    done = run("validate", "--configmap", f"jhub/{CONFIGMAP}")
    assert done.returncode == 1
    assert "profiles[0].nmae: unknown key; did you mean 'name'?" in done.stdout


def test_it_is_explained(control_plane: ControlPlane, run: Run) -> None:
    write(control_plane, "profiles: [{name: globals, env: {A: b}}, {users: [grace], env: {A: c}}]")
    subject = ("--user", "ada", "--image", "an-image", "--format", "json", "--show-values")
    done = run("explain", "--configmap", f"jhub/{CONFIGMAP}", *subject)
    assert done.returncode == 0
    assert json.loads(done.stdout)["env"] == [{"name": "A", "value": "b", "profile": 0}]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(CONFIGMAP, f"there is no ConfigMap '{CONFIGMAP}' in namespace 'jhub'", id="missing"),
        pytest.param("another", "kubectl auth can-i get configmaps/another --namespace jhub", id="forbidden"),
    ],
)
def test_what_cannot_be_read_is_told(control_plane: ControlPlane, run: Run, name: str, message: str) -> None:
    write(control_plane, "profiles: []", name="another")
    done = run("validate", "--configmap", f"jhub/{name}")
    assert done.returncode == 2
    assert message in done.stderr
