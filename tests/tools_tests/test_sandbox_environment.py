"""A container's environment is what a kubelet would make of it."""

import base64
import json
import os
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient, V1ConfigMap, V1Pod, V1Secret

from sandbox.environment import (
    CreateContainerConfigError,
    Reference,
    ReferencedData,
    data_of,
    expand,
    references,
    resolve_environment,
)

PodReader = Callable[..., V1Pod]

DATA = ReferencedData(
    "jhub",
    {
        Reference("ConfigMap", "team"): {"endpoint": "https://team", "A": "from the ConfigMap"},
        Reference("Secret", "keys"): {"password": "s3cret", "A": "from the Secret"},
    },
)


@pytest.fixture
async def pod() -> AsyncIterator[PodReader]:
    """Make a pod out of its container's fields, as the client reads it from the API."""
    async with ApiClient() as client:

        def read(**container: Any) -> V1Pod:
            manifest = {
                "metadata": {
                    "name": "jupyter-ada",
                    "namespace": "jhub",
                    "uid": "u-1",
                    "labels": {"app": "jupyterhub"},
                    "annotations": {"hub.jupyter.org/username": "ada"},
                },
                "spec": {"nodeName": "node-1", "containers": [{"name": "notebook", **container}]},
                "status": {"podIP": "127.0.1.2", "hostIP": "127.0.0.1"},
            }
            return client.deserialize(SimpleNamespace(data=json.dumps(manifest)), "V1Pod")

        yield read


def resolve(pod: V1Pod, data: ReferencedData = DATA) -> dict[str, str]:
    return resolve_environment(pod, pod.spec.containers[0], data)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param("$(A)/$(B)", "a/b", id="references"),
        pytest.param("$(MISSING)", "$(MISSING)", id="unset-stays"),
        pytest.param("$$(A)", "$(A)", id="escaped"),
        pytest.param("$$$(A)", "$a", id="escape-then-reference"),
        pytest.param("$A ${A} $", "$A ${A} $", id="not-a-reference"),
        pytest.param("$(A", "$(A", id="unclosed"),
        pytest.param("$($(A)", "$($(A)", id="reference-in-a-reference"),
        pytest.param('{"a": 1}', '{"a": 1}', id="braces"),
        pytest.param("$(C)", "$(A)", id="expanded-once"),
    ],
)
def test_references_are_expanded_as_kubernetes_does_it(text: str, expanded: str) -> None:
    assert expand(text, {"A": "a", "B": "b", "C": "$(A)"}) == expanded


def test_a_variable_refers_only_to_those_before_it(pod: PodReader) -> None:
    env = [
        {"name": "EARLY", "value": "$(LATE)"},
        {"name": "LATE", "value": "x"},
        {"name": "AFTER", "value": "$(LATE)"},
    ]

    assert resolve(pod(env=env)) == {"EARLY": "$(LATE)", "LATE": "x", "AFTER": "x"}


def test_env_wins_over_env_from_and_the_later_source_over_the_earlier(pod: PodReader) -> None:
    env_from = [{"configMapRef": {"name": "team"}}, {"secretRef": {"name": "keys"}}]

    assert resolve(pod(envFrom=env_from))["A"] == "from the Secret"
    assert resolve(pod(envFrom=env_from[::-1]))["A"] == "from the ConfigMap"
    assert resolve(pod(envFrom=env_from, env=[{"name": "A", "value": "from env"}]))["A"] == "from env"


def test_env_refers_to_env_from(pod: PodReader) -> None:
    container = pod(envFrom=[{"configMapRef": {"name": "team"}}], env=[{"name": "URL", "value": "$(endpoint)/v1"}])

    assert resolve(container)["URL"] == "https://team/v1"


def test_env_from_puts_its_prefix_before_every_name(pod: PodReader) -> None:
    container = pod(envFrom=[{"prefix": "TEAM_", "configMapRef": {"name": "team"}}])

    assert resolve(container) == {"TEAM_endpoint": "https://team", "TEAM_A": "from the ConfigMap"}


def test_a_variable_without_a_value_is_empty(pod: PodReader) -> None:
    assert resolve(pod(env=[{"name": "A"}])) == {"A": ""}


@pytest.mark.parametrize(
    ("value_from", "value"),
    [
        pytest.param({"secretKeyRef": {"name": "keys", "key": "password"}}, "s3cret", id="secret"),
        pytest.param({"configMapKeyRef": {"name": "team", "key": "endpoint"}}, "https://team", id="configmap"),
        pytest.param({"fieldRef": {"fieldPath": "status.podIP"}}, "127.0.1.2", id="pod-ip"),
        pytest.param({"fieldRef": {"fieldPath": "status.hostIP"}}, "127.0.0.1", id="host-ip"),
        pytest.param({"fieldRef": {"fieldPath": "metadata.name"}}, "jupyter-ada", id="name"),
        pytest.param({"fieldRef": {"fieldPath": "metadata.namespace"}}, "jhub", id="namespace"),
        pytest.param({"fieldRef": {"fieldPath": "metadata.uid"}}, "u-1", id="uid"),
        pytest.param({"fieldRef": {"fieldPath": "spec.nodeName"}}, "node-1", id="node"),
        pytest.param({"fieldRef": {"fieldPath": "spec.serviceAccountName"}}, "default", id="service-account"),
        pytest.param({"fieldRef": {"fieldPath": "metadata.labels['app']"}}, "jupyterhub", id="label"),
        pytest.param(
            {"fieldRef": {"fieldPath": "metadata.annotations['hub.jupyter.org/username']"}},
            "ada",
            id="annotation",
        ),
        pytest.param({"fieldRef": {"fieldPath": "metadata.labels['no']"}}, "", id="no-such-label"),
    ],
)
def test_a_value_may_come_from_elsewhere(pod: PodReader, value_from: dict[str, Any], value: str) -> None:
    assert resolve(pod(env=[{"name": "A", "valueFrom": value_from}])) == {"A": value}


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        pytest.param("limits.memory", None, str(2 * 1024**3), id="bytes"),
        pytest.param("limits.memory", "1Mi", "2048", id="mebibytes"),
        pytest.param("limits.memory", "1M", "2148", id="megabytes-rounded-up"),
        pytest.param("limits.cpu", None, "2", id="cores-rounded-up"),
        pytest.param("limits.cpu", "1m", "1500", id="millicores"),
        pytest.param("requests.cpu", "1m", "250", id="requests"),
        pytest.param("requests.memory", None, "0", id="no-request"),
    ],
)
def test_a_resource_is_counted_in_divisors(pod: PodReader, resource: str, divisor: str | None, value: str) -> None:
    reference = {"resource": resource, "divisor": divisor}
    container = pod(
        resources={"limits": {"memory": "2Gi", "cpu": "1.5"}, "requests": {"cpu": "250m"}},
        env=[{"name": "A", "valueFrom": {"resourceFieldRef": reference}}],
    )

    assert resolve(container) == {"A": value}


def test_without_a_limit_the_node_itself_is_the_limit(pod: PodReader) -> None:
    container = pod(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}])

    assert resolve(container) == {"A": str(os.cpu_count())}


@pytest.mark.parametrize(
    ("container", "message"),
    [
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]},
            'secret "gone" not found',
            id="secret",
        ),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "team", "key": "gone"}}}]},
            "couldn't find key gone in ConfigMap jhub/team",
            id="key",
        ),
        pytest.param({"envFrom": [{"configMapRef": {"name": "gone"}}]}, 'configmap "gone" not found', id="env-from"),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.hostname"}}}]},
            "unsupported fieldPath: spec.hostname",
            id="field",
        ),
    ],
)
def test_what_is_missing_is_named(pod: PodReader, container: dict[str, Any], message: str) -> None:
    with pytest.raises(CreateContainerConfigError) as raised:
        resolve(pod(**container))

    assert str(raised.value) == message


@pytest.mark.parametrize(
    "container",
    [
        pytest.param({"envFrom": [{"secretRef": {"name": "gone", "optional": True}}]}, id="env-from"),
        pytest.param(
            {
                "env": [
                    {
                        "name": "A",
                        "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k", "optional": True}},
                    }
                ]
            },
            id="object",
        ),
        pytest.param(
            {
                "env": [
                    {
                        "name": "A",
                        "valueFrom": {"configMapKeyRef": {"name": "team", "key": "k", "optional": True}},
                    }
                ]
            },
            id="key",
        ),
    ],
)
def test_what_is_optional_and_missing_is_left_out(pod: PodReader, container: dict[str, Any]) -> None:
    assert resolve(pod(**container)) == {}


def test_everything_that_is_referred_to_is_known_beforehand(pod: PodReader) -> None:
    container = pod(
        envFrom=[{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
        env=[
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "c", "key": "k"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "d", "key": "k"}}},
            {"name": "C", "value": "x"},
        ],
    ).spec.containers[0]

    assert set(references(container)) == {
        Reference("ConfigMap", "a"),
        Reference("Secret", "b"),
        Reference("Secret", "c"),
        Reference("ConfigMap", "d"),
    }


def test_a_secret_is_decoded_and_a_configmap_is_not() -> None:
    encoded = base64.b64encode("pässword".encode()).decode()

    assert data_of(V1Secret(data={"key": encoded})) == {"key": "pässword"}
    assert data_of(V1ConfigMap(data={"key": encoded})) == {"key": encoded}


def test_a_secret_of_any_bytes_reaches_the_process_unchanged() -> None:
    secret = V1Secret(data={"key": base64.b64encode(b"\xff\xfe").decode()})

    assert os.fsencode(data_of(secret)["key"]) == b"\xff\xfe"
