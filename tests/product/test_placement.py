"""Where pods of profiles run, what a cluster makes for them, and what it clears away: with a real scheduler, real
controllers, and nodes that KWOK pretends to be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from traitlets.config import Config

from cluster.controllers import PROGRAMS, Cluster
from sandbox.inprocess import InProcessHub, found_by_kubespawner
from sandbox.status import StatusError
from sandbox.waiting import until

pytestmark = pytest.mark.needs(*PROGRAMS)

ROOT = Path(__file__).parents[2]
NAMESPACE = "jhub"
GPU = "nvidia.com/gpu"

GPU_TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
EXAM_TAINT = {"key": "hub.example.org/exam", "value": "only", "effect": "NoSchedule"}

StartHub = Callable[..., AbstractAsyncContextManager[InProcessHub]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """A cluster with a node of each kind, and the hub's namespace and account."""
    async with Cluster() as cluster:
        cluster.add_node("plain")
        cluster.add_node("large", labels={"pool": "large", "zone": "a"})
        cluster.add_node("far", labels={"pool": "large", "zone": "b"})
        cluster.add_node("exam", taints=[EXAM_TAINT], labels={"pool": "exam"})
        cluster.add_node("gpu", taints=[GPU_TAINT], labels={"pool": "gpu"}, **{GPU: 2})
        cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for path in (ROOT / "tests/tools/cluster/hub.yaml", ROOT / "deploy/role.yaml"):
            for obj in yaml.safe_load_all(path.read_text()):
                cluster.put(obj)
        yield cluster


@pytest.fixture
async def start_hub(cluster: Cluster, tmp_path: Path) -> AsyncIterator[StartHub]:
    """Starts a hub of the service account `hub`, with a document; its pods are gone when the test has ended."""

    @contextlib.asynccontextmanager
    async def start(document: str, config: Config | None = None) -> AsyncIterator[InProcessHub]:
        write(cluster, document)
        settings = Config()
        settings.KubeSpawner.update(namespace=NAMESPACE, image="quay.io/example/notebook:1", mem_guarantee="1G")
        settings.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
        settings.merge(config or Config())
        token = cluster.service_account_token(NAMESPACE, "hub")
        async with (
            found_by_kubespawner(cluster.kubeconfig(token=token, namespace=NAMESPACE), tmp_path),
            InProcessHub(tmp_path, settings, pods="0.0.0.0") as hub,
        ):
            yield hub

    yield start
    for pod in cluster.list("Pod"):
        with contextlib.suppress(StatusError):
            cluster.delete("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
    await until(lambda: not cluster.list("Pod"))


def write(cluster: Cluster, document: str) -> None:
    metadata = {"name": "jupyter-singleuser-profiles", "namespace": NAMESPACE}
    data = {"jupyterhub-singleuser-profiles.yaml": document}
    cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


async def start(hub: InProcessHub, user: str, *groups: str, **options: Any) -> int:
    """Starts somebody's server, and returns the API's answer when it runs or is refused."""
    await hub.add_user(user, *groups)
    return (await hub.api("POST", f"/users/{user}/server", json=options)).status


def node_of(cluster: Cluster, user: str) -> str | None:
    node: str | None = cluster.get("Pod", NAMESPACE, f"jupyter-{user}")["spec"].get("nodeName")
    return node


DOCUMENT = """
profiles:
  - name: a pool
    groups: [modellers]
    node_selector: {pool: large}
  - name: zone b
    groups: [explorers]
    node_affinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
          - matchExpressions: [{key: zone, operator: In, values: [b]}]
  - name: rather zone a
    groups: [commuters]
    node_affinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          preference: {matchExpressions: [{key: zone, operator: In, values: [a]}]}
  - name: the exam
    groups: [candidates]
    node_selector: {pool: exam}
    node_tolerations:
      - {key: hub.example.org/exam, operator: Equal, value: only, effect: NoSchedule}
  - name: a gpu
    groups: [trainers]
    gpu: 1
    node_tolerations:
      - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
"""


@pytest.mark.parametrize(
    ("group", "nodes"),
    [
        ("modellers", {"large", "far"}),
        ("explorers", {"far"}),
        ("commuters", {"large"}),
        ("candidates", {"exam"}),
        ("trainers", {"gpu"}),
        ("others", {"plain", "large", "far"}),
    ],
)
async def test_the_scheduler_places_a_pod_as_its_profiles_say(
    group: str, nodes: set[str], cluster: Cluster, start_hub: StartHub
) -> None:
    async with start_hub(DOCUMENT) as hub:
        assert await start(hub, "ada", group) == 201
        assert node_of(cluster, "ada") in nodes


async def test_a_pod_without_the_toleration_stays_out_of_the_exam(cluster: Cluster, start_hub: StartHub) -> None:
    document = DOCUMENT.replace("value: only", "value: another")
    async with start_hub(document) as hub:
        starting = asyncio.create_task(start(hub, "ada", "candidates"))
        await until(lambda: unscheduled(cluster, "ada"))
        assert "had untolerated taint" in unscheduled(cluster, "ada")
        assert node_of(cluster, "ada") is None
        cluster.put({**cluster.get("Node", "", "exam"), "spec": {}})
        assert await starting == 201
        assert node_of(cluster, "ada") == "exam"
    cluster.put({**cluster.get("Node", "", "exam"), "spec": {"taints": [EXAM_TAINT]}})


async def test_the_third_person_waits_for_the_second_gpu(cluster: Cluster, start_hub: StartHub) -> None:
    async with start_hub(DOCUMENT) as hub:
        for user in ("ada", "grace"):
            assert await start(hub, user, "trainers") == 201
            assert node_of(cluster, user) == "gpu"
        third = asyncio.create_task(start(hub, "edith", "trainers"))
        await until(lambda: unscheduled(cluster, "edith"))
        assert "Insufficient nvidia.com/gpu" in unscheduled(cluster, "edith")
        # Somebody without a GPU does not wait, and has no place on its node.
        assert await start(hub, "mary") == 201
        assert node_of(cluster, "mary") != "gpu"
        assert node_of(cluster, "edith") is None
        assert (await hub.api("DELETE", "/users/grace/server")).status == 204
        assert await third == 201
        assert node_of(cluster, "edith") == "gpu"


async def test_a_quota_refuses_at_once_what_the_scheduler_would_keep_pending(
    cluster: Cluster, start_hub: StartHub
) -> None:
    quota = f"quotas:\n  - name: gpus\n    per: all\n    hard: {{requests.{GPU}: 1}}\n"
    async with start_hub(DOCUMENT + quota) as hub:
        assert await start(hub, "ada", "trainers") == 201
        assert await start(hub, "grace", "trainers") == 429
        with pytest.raises(StatusError):
            cluster.get("Pod", NAMESPACE, "jupyter-grace")


async def test_the_claim_of_an_ephemeral_volume_comes_and_goes_with_its_pod(
    cluster: Cluster, start_hub: StartHub
) -> None:
    cluster.put(volume("scratch"))
    document = """
profiles:
  - name: scratch
    volumes:
      - name: scratch
        mountPath: /scratch
        ephemeral:
          volumeClaimTemplate:
            spec:
              accessModes: [ReadWriteOnce]
              resources: {requests: {storage: 1Gi}}
"""
    async with start_hub(document) as hub:
        assert await start(hub, "ada") == 201
        (claim,) = cluster.list("PersistentVolumeClaim", NAMESPACE)
        assert claim["metadata"]["name"] == "jupyter-ada-scratch"
        assert claim["status"]["phase"] == "Bound"
        assert (await hub.api("DELETE", "/users/ada/server")).status == 204
        await until(lambda: not cluster.list("PersistentVolumeClaim", NAMESPACE))


async def test_a_persons_own_namespace_is_made_with_its_account(cluster: Cluster, start_hub: StartHub) -> None:
    for obj in yaml.safe_load_all((ROOT / "tests/tools/cluster/user-namespaces.yaml").read_text()):
        cluster.put(obj)
    config = Config()
    config.KubeSpawner.update(enable_user_namespaces=True, user_namespace_template="jhub-{username}")
    async with start_hub(DOCUMENT, config) as hub:
        # The first pod may come before its account, and KubeSpawner tries again.
        assert await start(hub, "ada", "modellers") == 201
        pod = cluster.get("Pod", "jhub-ada", "jupyter-ada")
        assert pod["spec"]["nodeName"] in {"large", "far"}
        assert pod["spec"]["serviceAccountName"] == "default"
        assert cluster.get("ServiceAccount", "jhub-ada", "default")
        cluster.delete("Namespace", "", "jhub-ada")
        # The controllers empty it, the pod included.
        await until(lambda: "jhub-ada" not in {each["metadata"]["name"] for each in cluster.list("Namespace")})
        assert not cluster.list("Pod")


def volume(name: str) -> dict[str, Any]:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": f"/tmp/{name}"}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def unscheduled(cluster: Cluster, user: str) -> str:
    """Why somebody's pod has no node, as the scheduler says; empty if it has said nothing yet."""
    with contextlib.suppress(StatusError):
        for condition in cluster.get("Pod", NAMESPACE, f"jupyter-{user}")["status"].get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                message: str = condition["message"]
                return message
    return ""
