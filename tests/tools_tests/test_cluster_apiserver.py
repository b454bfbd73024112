"""The control plane under the tests: a real API server, with TLS, RBAC and the usual admission."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient, ApiException, Configuration, CoreV1Api, V1DeleteOptions
from kubernetes_asyncio.config import load_kube_config_from_dict
from kubernetes_asyncio.watch import Watch

from cluster.apiserver import ControlPlane, ControlPlaneError
from cluster.assets import PROGRAMS, Assets
from sandbox.status import StatusError
from sandbox.waiting import HANG_SECONDS

Object = dict[str, Any]


async def open_client(kubeconfig: str) -> ApiClient:
    configuration = Configuration()
    await load_kube_config_from_dict(yaml.safe_load(kubeconfig), client_configuration=configuration)
    return ApiClient(configuration)


@pytest.fixture
async def core(control_plane: ControlPlane) -> AsyncIterator[CoreV1Api]:
    """An administrator's client."""
    async with await open_client(control_plane.kubeconfig()) as client:
        yield CoreV1Api(client)


def config_map(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}}


def pod(name: str, *, node: str | None = None) -> Object:
    containers = [{"name": "notebook", "image": "example/notebook:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, **({"nodeName": node} if node else {})},
    }


def reading_role(name: str) -> list[Object]:
    """A Role that allows the service account `hub` to read one ConfigMap, and its binding."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "hub"}, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "hub"},
            "subjects": [{"kind": "ServiceAccount", "name": "hub"}],
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "hub"},
        },
    ]


@pytest.mark.cluster
class TestControlPlane:
    def test_it_says_its_release(self, control_plane: ControlPlane) -> None:
        version = control_plane.request("GET", "/version")
        if "KUBEBUILDER_ASSETS" not in os.environ:
            assert version["gitVersion"] == PROGRAMS["kube-apiserver"].version
        assert version["major"] == "1"

    def test_strangers_are_turned_away(self, control_plane: ControlPlane) -> None:
        with pytest.raises(StatusError, match="Unauthorized"):
            control_plane.request("GET", "/api/v1/namespaces", token="nobody's")

    async def test_a_service_account_may_do_what_its_role_says_and_no_more(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        hub = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hub"}}
        control_plane.put(hub, namespace=namespace)
        for name in ("profiles", "other"):
            control_plane.put(config_map(name), namespace=namespace)
        token = control_plane.service_account_token(namespace, "hub")
        who = f"system:serviceaccount:{namespace}:hub"
        async with await open_client(control_plane.kubeconfig(token=token, namespace=namespace)) as client:
            core = CoreV1Api(client)
            refused = f'User \\\\"{who}\\\\" cannot get resource \\\\"configmaps\\\\" in API group \\\\"\\\\"'
            with pytest.raises(ApiException, match=refused) as caught:
                await core.read_namespaced_config_map("profiles", namespace)
            assert caught.value.status == 403

            for obj in reading_role("profiles"):
                control_plane.put(obj, namespace=namespace)
            while not control_plane.allows(who, "get", "configmaps", name="profiles", namespace=namespace):
                await asyncio.sleep(0.01)
            assert (await core.read_namespaced_config_map("profiles", namespace)).data == {"key": "value"}
            with pytest.raises(ApiException, match="is forbidden"):
                await core.read_namespaced_config_map("other", namespace)
            with pytest.raises(ApiException, match="cannot list resource"):
                await core.list_namespaced_config_map(namespace)

    async def test_a_pod_runs_as_the_default_service_account(self, core: CoreV1Api, namespace: str) -> None:
        created = await core.create_namespaced_pod(namespace, pod("notebook"))
        assert created.spec.service_account_name == "default"
        assert created.status.phase == "Pending"

    async def test_a_pod_that_kubernetes_does_not_want_is_refused(self, core: CoreV1Api, namespace: str) -> None:
        body = pod("notebook")
        body["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1Gi"}, "requests": {"memory": "2Gi"}}
        with pytest.raises(ApiException, match="must be less than or equal to memory limit of 1Gi") as caught:
            await core.create_namespaced_pod(namespace, body)
        assert caught.value.status == 422

    async def test_a_watch_shows_what_comes_after_its_version(self, core: CoreV1Api, namespace: str) -> None:
        first = await core.create_namespaced_config_map(namespace, config_map("first"))
        await core.create_namespaced_config_map(namespace, config_map("second"))
        seen = []
        async with Watch() as watch:
            version = first.metadata.resource_version
            async for change in watch.stream(
                core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=HANG_SECONDS
            ):
                seen.append((change["type"], change["object"].metadata.name))
                if change["type"] == "ADDED":
                    await core.delete_namespaced_config_map("second", namespace)
                else:
                    break
        assert seen == [("ADDED", "second"), ("DELETED", "second")]

    async def test_a_pod_on_a_node_goes_when_its_kubelet_says_so(self, core: CoreV1Api, namespace: str) -> None:
        await core.create_namespaced_pod(namespace, pod("notebook", node="node"))
        await core.delete_namespaced_pod("notebook", namespace)
        leaving = await core.read_namespaced_pod("notebook", namespace)
        assert leaving.metadata.deletion_grace_period_seconds == 30
        at_once = V1DeleteOptions(grace_period_seconds=0)
        await core.delete_namespaced_pod("notebook", namespace, body=at_once)
        assert (await core.list_namespaced_pod(namespace)).items == []

    def test_putting_an_object_again_replaces_it(self, control_plane: ControlPlane, namespace: str) -> None:
        first = control_plane.put(config_map("profiles"), namespace=namespace)
        second = control_plane.put({**config_map("profiles"), "data": {"other": "1"}}, namespace=namespace)
        assert second["metadata"]["uid"] == first["metadata"]["uid"]
        assert second["data"] == {"other": "1"}

    def test_nothing_of_it_outlives_who_started_it(self, control_plane: ControlPlane, tmp_path: Path) -> None:
        program = tmp_path / "program.py"
        program.write_text(
            "import asyncio\n"
            "from cluster.apiserver import ControlPlane\n"
            "from cluster.assets import find_assets\n"
            "async def main():\n"
            "    async with ControlPlane(find_assets()) as control_plane:\n"
            "        print(control_plane.ca_file.parents[1], flush=True)\n"
            "        await asyncio.sleep(3600)\n"
            "asyncio.run(main())\n"
        )
        tools = Path(__file__).parents[1] / "tools"
        environment = {**os.environ, "PYTHONPATH": str(tools)}
        with subprocess.Popen([sys.executable, program], env=environment, stdout=subprocess.PIPE, text=True) as runner:
            assert runner.stdout
            directory = runner.stdout.readline().strip()
            assert sorted(processes_of(directory)) == ["etcd", "kube-apiserver"]
            runner.send_signal(signal.SIGKILL)
        while processes_of(directory):
            time.sleep(0.05)


def processes_of(directory: str) -> list[str]:
    """The names of the processes that have the directory in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text().split("\0")
        except OSError:
            continue
        if any(directory in argument for argument in command):
            found.append(Path(command[0]).name)
    return found


async def test_a_control_plane_that_ends_shows_its_last_words(tmp_path: Path) -> None:
    assets = []
    for name, words in (("etcd", "sleep 60"), ("kube-apiserver", "echo 'unknown flag' >&2; exit 1")):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{words}\n")
        script.chmod(0o755)
        assets.append(script)
    with pytest.raises(ControlPlaneError, match=r"the control plane ended\n(.|\n)*unknown flag"):
        async with ControlPlane(Assets(*assets)):
            pass
