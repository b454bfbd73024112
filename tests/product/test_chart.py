"""The Zero to JupyterHub chart with the spawner, installed and changed as the how-tos say.

Helm and kubectl are real, and so are the control plane, the scheduler and the controllers. The hub and the proxy run as
the chart starts them, with the packages of its images. Users' pods are KWOK's: one server of the test answers for all.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from chart.checkout import Chart, ChartUnavailableError, find_checkout, find_release_before
from chart.image import install
from chart.kubelet import ChartKubelet, why_not
from cluster.assets import find_tool
from cluster.controllers import PROGRAMS, Cluster
from profiled_spawner import __version__
from sandbox.inprocess import answer_for_pods
from sandbox.waiting import HANG_SECONDS

pytestmark = [pytest.mark.needs(*PROGRAMS, "helm", "kubectl"), pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
NAMESPACE = "jhub"
TOKEN = "of-the-tests"
KEY = "jupyterhub-singleuser-profiles.yaml"
RELEASE = __version__.partition(".dev")[0]
# The ports that the chart's pods listen on, and that of a user's server.
PORTS = (8000, 8001, 8081, 8888)

# What an admin has who has installed the chart before. The rest is for the tests' cluster: who asks the hub, where its
# own pods run, and what pods of KWOK's nodes cannot have: another scheduler, and people's volumes.
CORE_NODE = {"nodeSelector": {"role": "core"}, "tolerations": [{"key": "role", "operator": "Exists"}]}
OWN_VALUES: dict[str, Any] = {
    "hub": {
        **CORE_NODE,
        "services": {"tests": {"apiToken": TOKEN}},
        "loadRoles": {"tests": {"services": ["tests"], "scopes": ["admin:users", "admin:servers", "admin:groups"]}},
        "config": {"JupyterHub": {"authenticator_class": "dummy"}},
    },
    "proxy": {"chp": CORE_NODE},
    "scheduling": {"userScheduler": {"enabled": False}},
    "singleuser": {"storage": {"type": "none"}},
}


class Admin:
    """An admin's terminal, and people who use the hub."""

    def __init__(
        self, cluster: Cluster, kubelet: ChartKubelet, chart: Chart, earlier: Chart | None, directory: Path
    ) -> None:
        self.cluster = cluster
        self.kubelet = kubelet
        self.chart = chart
        self.earlier = earlier
        self._directory = directory
        self._kubeconfig = directory / "kubeconfig"
        self._kubeconfig.write_text(cluster.kubeconfig(namespace=NAMESPACE))

    async def run(self, program: str, *arguments: str | Path, code: int = 0) -> str:
        """Runs helm or kubectl, and returns what it prints."""
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig), "HELM_CACHE_HOME": str(self._directory)}
        process = await asyncio.create_subprocess_exec(
            find_tool(program),
            *map(str, arguments),
            env=environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(HANG_SECONDS):
            output = (await process.communicate())[0].decode()
        assert process.returncode == code, output
        return output

    async def upgrade(self, *values: Path | dict[str, Any], chart: Chart | None = None) -> None:
        """Installs or upgrades the chart with files of values, the admin's own last, and waits for the hub."""
        files = [self._file(number, each) for number, each in enumerate([*values, OWN_VALUES])]
        options = [option for file in files for option in ("--values", file)]
        directory = (chart or self.chart).directory
        await self.run("helm", "upgrade", "--install", "jhub", directory, "--namespace", NAMESPACE, *options)
        await self.rollout()

    async def rollout(self) -> None:
        """Waits until the hub and the proxy are what the chart says."""
        for name in ("hub", "proxy"):
            await self.run("kubectl", "rollout", "status", f"deployment/{name}", "--namespace", NAMESPACE)

    def _file(self, number: int, values: Path | dict[str, Any]) -> Path:
        if isinstance(values, Path):
            return values
        path = self._directory / f"values-{number}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    async def edit(self, document: str, *, name: str = "jupyter-singleuser-profiles", labels: Any = None) -> None:
        """Applies a document as a ConfigMap."""
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: document}}
        await self.run("kubectl", "apply", "--filename", self._file(99, manifest))

    def hub(self) -> str:
        """The name of the hub's pod."""
        (name,) = (
            pod["metadata"]["name"]
            for pod in self.cluster.list("Pod", NAMESPACE)
            if pod["metadata"]["labels"].get("component") == "hub" and "deletionTimestamp" not in pod["metadata"]
        )
        return str(name)

    async def log(self) -> str:
        """What the hub has logged."""
        return await self.run("kubectl", "logs", "deployment/hub", "--namespace", NAMESPACE)

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Asks the hub's REST API, through the proxy."""
        headers = {"Authorization": f"token {TOKEN}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"http://127.0.0.1:8000/hub/api{path}", json=body) as response,
        ):
            text = await response.text()
        return response.status, json.loads(text) if text else None

    async def start(self, user: str, *groups: str, **options: Any) -> tuple[int, str]:
        """Starts somebody's server, and waits until it runs or has failed.

        Returns:
            The API's answer and its message; 201 for a server that runs.
        """
        await self.api("POST", f"/users/{user}")
        for group in groups:
            await self.api("POST", f"/groups/{group}")
            await self.api("POST", f"/groups/{group}/users", {"users": [user]})
        status, answer = await self.api("POST", f"/users/{user}/server", options)
        if status != 202:
            return status, (answer or {}).get("message", "")
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                server = (await self.api("GET", f"/users/{user}"))[1]["servers"].get("")
                if server is None:
                    return 500, "the start has failed"
                if server["ready"]:
                    return 201, ""
                await asyncio.sleep(0.2)

    async def stop(self, user: str) -> None:
        """Stops somebody's server."""
        await self.api("DELETE", f"/users/{user}/server")
        async with asyncio.timeout(HANG_SECONDS):
            while (await self.api("GET", f"/users/{user}"))[1]["servers"]:
                await asyncio.sleep(0.2)

    def pod(self, user: str) -> dict[str, Any]:
        """Somebody's pod."""
        return self.cluster.get("Pod", NAMESPACE, f"jupyter-{user}")

    def applied(self, user: str) -> list[str]:
        """The profiles in somebody's pod; none if another spawner made it."""
        applied: list[str] = json.loads(self.pod(user)["metadata"]["annotations"].get("profiled-spawner/applied", "[]"))
        return applied

    def env(self, user: str) -> dict[str, str]:
        """The variables of somebody's pod."""
        (container,) = self.pod(user)["spec"]["containers"]
        return {each["name"]: each.get("value", "") for each in container["env"]}


def _build_wheel(source: Path, index: Path) -> None:
    """Builds the wheel of this checkout, under the release that the values pin."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "profiled_spawner", source / "profiled_spawner")
    module = source / "profiled_spawner" / "__init__.py"
    module.write_text(module.read_text().replace(__version__, RELEASE))
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", index, source]
    built = subprocess.run([sys.executable, "-m", "pip", *map(str, command)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Admin]:
    """An admin of a cluster in which the chart is installed, an earlier release if there is one, with KubeSpawner."""
    charts, directory = tmp_path_factory.mktemp("charts"), tmp_path_factory.mktemp("admin")
    try:
        checkout = find_checkout()
        if reason := why_not() or _taken_ports():
            pytest.skip(reason)
        chart, earlier = Chart.from_checkout(checkout, charts / "current"), None
        images = install(chart)
        if before := find_release_before(checkout, charts / "repository"):
            earlier = Chart.from_checkout(before, charts / "earlier")
            images |= install(earlier)
    except ChartUnavailableError as exc:
        pytest.skip(str(exc))
    wheels = tmp_path_factory.mktemp("wheels")
    _build_wheel(tmp_path_factory.mktemp("source"), wheels)
    # In a cluster, PyPI is there.
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    async with (
        Cluster() as cluster,
        ChartKubelet(cluster, directory / "kubelet", images, offline) as kubelet,
    ):
        cluster.add_node("users", labels={"role": "users"})
        cluster.put(_volume(directory / "hub-db"))
        server = await answer_for_pods("0.0.0.0", PORTS[-1])
        admin = Admin(cluster, kubelet, chart, earlier, directory)
        await admin.run("kubectl", "create", "namespace", NAMESPACE)
        await admin.upgrade(chart=earlier or chart)
        yield admin
        await server.cleanup()


def _taken_ports() -> str:
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return f"port {port}, which the chart's pods need, is taken"
    return ""


def _volume(path: Path) -> dict[str, Any]:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(path)}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "hub-db"}, "spec": spec}


VALUES = DEPLOY / "chart" / "values.yaml"
EXAMPLE = """
profiles:
  - name: globals
    env: {TEAM_ENDPOINT: https://datalake.example.org}
    resources: {mem_limit: 2Gi}
  - name: forecasting
    groups: [forecasters]
    env: {BUCKET_PREFIX: data/forecast}
"""


def for_chart(chart: Chart) -> dict[str, Any]:
    """The values of `deploy/`, with the image of a chart's version, as the how-to says."""
    text = VALUES.read_text()
    assert "k8s-hub:4." in text
    values: dict[str, Any] = yaml.safe_load(re.sub(r"k8s-hub:\S+", f"k8s-hub:{chart.version}", text))
    return values


def changed(values: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Values with some settings of the spawner."""
    values = copy.deepcopy(values)
    values["hub"]["config"]["ProfiledKubeSpawner"] = settings
    return values


@pytest_asyncio.fixture(loop_scope="module")
async def values(admin: Admin) -> dict[str, Any]:
    """The values of `deploy/` for the chart; what else the installation needs is applied."""
    await admin.run("kubectl", "apply", "--filename", DEPLOY / "role.yaml")
    return for_chart(admin.chart)


async def test_it_is_installed_on_a_hub_that_people_use(admin: Admin) -> None:
    chart = admin.earlier or admin.chart
    assert await admin.start("early") == (201, "")
    before = admin.pod("early")["metadata"]["uid"]
    await admin.run("kubectl", "apply", "--filename", DEPLOY / "role.yaml", "--filename", DEPLOY / "configmap.yaml")
    allowed = await admin.run(
        *("kubectl", "auth", "can-i", "get", "configmaps/jupyter-singleuser-profiles"),
        *("--namespace", NAMESPACE, "--as", "system:serviceaccount:jhub:hub"),
    )
    assert allowed == "yes\n"
    await admin.upgrade(for_chart(chart), chart=chart)
    # The document of the first day changes nothing.
    assert await admin.start("ada") == (201, "")
    assert admin.pod("early")["metadata"]["uid"] == before
    plain, ours = (admin.pod(user)["spec"]["containers"][0]["resources"] for user in ("early", "ada"))
    assert plain == ours
    assert "Profiles for ada on" in await admin.log()
    # An edit takes effect at the next start, and the hub stays the same.
    hub = admin.hub()
    await admin.edit(EXAMPLE)
    await admin.stop("ada")
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "forecasting"]
    assert admin.env("ada")["BUCKET_PREFIX"] == "data/forecast"
    assert admin.env("ada")["MEM_LIMIT"] == str(2 * 2**30)
    assert admin.hub() == hub


async def test_the_chart_is_upgraded_while_servers_run(admin: Admin, values: dict[str, Any]) -> None:
    if admin.earlier is None:
        pytest.skip("the checkout's repository has no tags of earlier releases")
    before = admin.pod("ada")["metadata"]["uid"]
    await admin.upgrade(values)
    assert await running(admin) == {"ada", "early"}
    assert admin.pod("ada")["metadata"]["uid"] == before
    for user in ("early", "ada"):
        await admin.stop(user)
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "forecasting"]
    await admin.stop("ada")


async def running(admin: Admin) -> set[str]:
    """Whose servers the hub says are running."""
    return {user["name"] for user in (await admin.api("GET", "/users"))[1] if user["servers"]}


async def test_the_command_is_in_the_hubs_pod(admin: Admin, values: dict[str, Any]) -> None:
    await admin.upgrade(values)
    await admin.edit(EXAMPLE)
    code, output = await admin.kubelet.run_in(
        admin.hub(),
        *("python3", "-m", "profiled_spawner", "explain", "--configmap", "jupyter-singleuser-profiles"),
        *("--user", "ada", "--group", "forecasters", "--image", "quay.io/example/notebook:1"),
    )
    assert code == 0, output
    assert "✔ 1  forecasting  member of forecasters; for every image" in output


async def test_on_the_first_day_it_only_observes(admin: Admin, values: dict[str, Any]) -> None:
    await admin.edit(EXAMPLE)
    await admin.upgrade(changed(values, observe_only=True))
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == []
    observed = json.loads(admin.pod("ada")["metadata"]["annotations"]["profiled-spawner/observed"])
    assert observed["applied"] == ["globals", "forecasting"]
    assert "TEAM_ENDPOINT" not in admin.env("ada")
    assert "Would apply to ada on" in await admin.log()
    await admin.stop("ada")
    await admin.upgrade(values)
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "forecasting"]
    await admin.stop("ada")


async def test_the_last_good_document_survives_a_restart_of_the_hub(admin: Admin, values: dict[str, Any]) -> None:
    await admin.edit(EXAMPLE)
    await admin.upgrade(values)
    assert await admin.start("ada", "forecasters") == (201, "")
    await admin.stop("ada")
    await admin.edit("profiles: [{env: 1}]")
    await admin.run("kubectl", "rollout", "restart", "deployment/hub", "--namespace", NAMESPACE)
    await admin.rollout()
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "forecasting"]
    assert "profiles[0].env" in await admin.log()
    await admin.stop("ada")


async def test_without_the_role_no_server_starts_and_the_hub_stays_up(admin: Admin, values: dict[str, Any]) -> None:
    # The Role names another ConfigMap, and nothing good was ever read of this one.
    await admin.upgrade(changed(values, configmap_name="of-nobody"))
    hub = admin.hub()
    for _ in range(7):  # the chart lets the hub exit after five failures
        assert (await admin.start("ada"))[0] >= 400
    assert admin.hub() == hub
    assert "the hub may not read configmap/jhub/of-nobody" in await admin.log()
    await admin.run(
        *("kubectl", "patch", "role", "hub-profiles", "--namespace", NAMESPACE, "--type", "json", "--patch"),
        '[{"op": "add", "path": "/rules/0/resourceNames/-", "value": "of-nobody"}]',
    )
    await admin.edit(EXAMPLE, name="of-nobody")
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "forecasting"]
    await admin.stop("ada")


async def test_the_profiles_are_read_from_a_mounted_file(admin: Admin, values: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "howto" / "read-from-a-file.md").read_text()
    mounted = yaml.safe_load(yaml_blocks(page)[0])
    # Helm replaces lists, so the two files of values are merged by hand.
    for name in ("extraVolumes", "extraVolumeMounts"):
        values["hub"][name] += mounted["hub"].pop(name)
    await admin.edit(EXAMPLE)
    await admin.run("kubectl", "delete", "role", "hub-profiles", "--namespace", NAMESPACE)
    await admin.upgrade(values, mounted)
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "forecasting"]
    assert "file//etc/jupyterhub-profiles/" in admin.pod("ada")["metadata"]["annotations"]["profiled-spawner/source"]
    hub = admin.hub()
    await admin.stop("ada")
    await admin.edit(EXAMPLE.replace("forecasting", "predicting"))
    await asyncio.sleep(2)  # the kubelet here brings the file up to date within a second
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "predicting"]
    assert admin.hub() == hub
    await admin.stop("ada")


async def test_teams_have_their_own_configmaps(admin: Admin, values: dict[str, Any]) -> None:
    await admin.edit(EXAMPLE)
    await admin.run("kubectl", "apply", "--filename", DEPLOY / "role-label-selector.yaml")
    await admin.upgrade(changed(values, configmap_label_selector="jupyterhub=singleuser-profiles"))
    team = "profiles: [{name: of the team, groups: [forecasters], env: {TEAM: forecasting}}]"
    await admin.edit(team, name="forecasting", labels={"jupyterhub": "singleuser-profiles"})
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "forecasting", "forecasting/of the team"]
    await admin.run("kubectl", "delete", "configmap", "forecasting", "--namespace", NAMESPACE)
    await admin.stop("ada")


async def test_sizes_and_images_are_offered_beside_profile_list(admin: Admin, values: dict[str, Any]) -> None:
    values["singleuser"] = {
        "profileList": [
            {"display_name": "Small", "slug": "small", "default": True},
            {"display_name": "R", "slug": "r", "kubespawner_override": {"image": "quay.io/example/r:1"}},
        ]
    }
    await admin.edit(
        EXAMPLE
        + "sizes: [{name: Large, groups: [forecasters], resources: {mem_limit: 8Gi}}]\n"
        + "images: [{name: Forecasting, image: 'quay.io/a/forecast:3', groups: [forecasters]}, {name: Hub default}]\n"
    )
    await admin.upgrade(values)
    options = {"profile": "r", "profiled": {"size": "Large", "image": "Hub default"}}
    assert await admin.start("ada", "forecasters", **options) == (201, "")
    (container,) = admin.pod("ada")["spec"]["containers"]
    assert (container["image"], container["resources"]["limits"]["memory"]) == ("quay.io/example/r:1", "8Gi")
    await admin.stop("ada")
    assert await admin.start("ada", "forecasters", profile="r", profiled={"image": "Forecasting"}) == (201, "")
    (container,) = admin.pod("ada")["spec"]["containers"]
    assert container["image"] == "quay.io/a/forecast:3"
    await admin.stop("ada")
    # Who is in no group, has what profile_list gives.
    assert await admin.start("mary", profile="r") == (201, "")
    assert admin.pod("mary")["spec"]["containers"][0]["image"] == "quay.io/example/r:1"
    assert (await admin.start("grace", profiled={"size": "Large"}))[0] >= 400
    await admin.stop("mary")


async def test_the_values_for_openshift_leave_users_to_the_cluster(admin: Admin, values: dict[str, Any]) -> None:
    openshift = yaml.safe_load(yaml_blocks((ROOT / "docs" / "howto" / "openshift.md").read_text())[0])
    # As the page says.
    for name in ("runAsUser", "runAsGroup"):
        del values["hub"]["initContainers"][0]["securityContext"][name]
    await admin.edit(EXAMPLE)
    await admin.upgrade(values, openshift)
    assert await admin.start("ada", "forecasters") == (201, "")
    assert admin.applied("ada") == ["globals", "forecasting"]
    hub, server = admin.cluster.get("Pod", NAMESPACE, admin.hub())["spec"], admin.pod("ada")["spec"]
    for spec in (hub, server):
        assert not {"runAsUser", "fsGroup"} & set(spec.get("securityContext", {}))
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            assert not {"runAsUser", "runAsGroup", "privileged"} & set(container.get("securityContext", {}))
    await admin.stop("ada")


async def test_it_is_rolled_back_while_servers_run(admin: Admin, values: dict[str, Any]) -> None:
    await admin.edit(EXAMPLE)
    await admin.upgrade(values)
    assert await admin.start("ada", "forecasters") == (201, "")
    before = admin.pod("ada")["metadata"]["uid"]
    values["hub"]["config"]["JupyterHub"]["spawner_class"] = "kubespawner.KubeSpawner"
    await admin.upgrade(values)
    assert await running(admin) == {"ada"}
    assert admin.pod("ada")["metadata"]["uid"] == before
    await admin.stop("ada")
    assert await admin.start("ada") == (201, "")
    assert admin.applied("ada") == []
    # And without anything of ours, as before the installation.
    await admin.upgrade()
    await admin.run("kubectl", "delete", "--filename", DEPLOY / "role.yaml", "--filename", DEPLOY / "configmap.yaml")
    assert await running(admin) == {"ada"}
    await admin.stop("ada")
    assert await admin.start("ada") == (201, "")
    await admin.stop("ada")


def yaml_blocks(page: str) -> list[str]:
    """The YAML of a page, with the indentation of each block taken off."""
    found = re.findall(r"^( *)```yaml\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]
