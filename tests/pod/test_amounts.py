"""What a pod counts, by the rules of Kubernetes' ResourceQuota."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_asyncio.client import V1Container, V1ObjectMeta, V1Pod, V1PodSpec, V1ResourceRequirements

from profiled_spawner.document.quantity import format_billionths
from profiled_spawner.pod.amounts import measure_pod


def container(
    limits: dict[str, Any] | None = None, requests: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"name": "x", "resources": {"limits": limits, "requests": requests}, **more}


GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"containers": [{"name": "x"}]}, {}, id="nothing"),
        pytest.param(
            {"containers": [container({"memory": "1Gi", "cpu": "500m"})]},
            {
                "limits.memory": "1073741824",
                "requests.memory": "1073741824",
                "limits.cpu": "0.5",
                "requests.cpu": "0.5",
            },
            id="a-missing-request-is-the-limit",
        ),
        pytest.param(
            {"containers": [container({"memory": "2k"}, {"memory": "1k", "cpu": 1})]},
            {"limits.memory": "2000", "requests.memory": "1000", "requests.cpu": "1"},
            id="no-limit",
        ),
        pytest.param(
            {"containers": [container({GPU: 2, "hugepages-2Mi": "4Mi"})]},
            {"requests.nvidia.com/gpu": "2", "requests.hugepages-2Mi": "4194304"},
            id="extended",
        ),
        pytest.param(
            {"containers": [container({"memory": 1}), container({"memory": 2})]},
            {"limits.memory": "3", "requests.memory": "3"},
            id="side-by-side",
        ),
        pytest.param(
            {"containers": [container({"memory": 1}), container(None, {"cpu": 2})]},
            {"requests.memory": "1", "requests.cpu": "2"},
            id="one-without-a-limit",
        ),
        pytest.param(
            {"containers": [container({"memory": 5})], "initContainers": [container({"memory": 7}), {"name": "y"}]},
            {"limits.memory": "7", "requests.memory": "7"},
            id="a-larger-init-container",
        ),
        pytest.param(
            {
                "containers": [container({"memory": 5})],
                "initContainers": [container(None, {"cpu": 3}), container({"memory": 4})],
            },
            {"limits.memory": "5", "requests.memory": "5", "requests.cpu": "3"},
            id="init-containers-do-not-add-up",
        ),
        pytest.param(
            {
                "containers": [container({"memory": 5})],
                "initContainers": [container({"memory": 2}, restartPolicy="Always")],
            },
            {"limits.memory": "7", "requests.memory": "7"},
            id="a-sidecar",
        ),
        pytest.param(
            {
                "containers": [container({"memory": 5})],
                "initContainers": [container({"memory": 2}, restartPolicy="Always"), container({"memory": 9})],
            },
            {"limits.memory": "11", "requests.memory": "11"},
            id="an-init-container-beside-a-sidecar",
        ),
        pytest.param(
            {"containers": [container()], "resources": {"limits": {"memory": 9}}},
            {"limits.memory": "9", "requests.memory": "9"},
            id="for-the-whole-pod",
        ),
    ],
)
def test_amounts_add_up_as_in_kubernetes(spec: dict[str, Any], expected: dict[str, str]) -> None:
    found = {name: format_billionths(amount) for name, amount in measure_pod({"spec": spec}).items()}
    assert found == {"pods": "1", **expected}


def test_a_model_is_measured_like_a_dictionary() -> None:
    resources = V1ResourceRequirements(limits={"memory": "1Gi", GPU: "1"}, requests={"memory": 1024})
    pod = V1Pod(
        metadata=V1ObjectMeta(name="x"), spec=V1PodSpec(containers=[V1Container(name="x", resources=resources)])
    )
    plain = {"spec": {"containers": [container({"memory": "1Gi", GPU: "1"}, {"memory": 1024})]}}
    assert measure_pod(pod) == measure_pod(plain)
