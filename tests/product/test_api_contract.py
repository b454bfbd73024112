"""The embedded API answers as a real API server does, or says that it does not know: both are asked the same."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from cluster.api import ClusterAPI
from cluster.apiserver import ControlPlane
from cluster.assets import Assets
from sandbox.api import EmbeddedAPI

Object = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One request, whose path and body may refer to earlier answers: `{0[metadata][uid]}` is of the first."""

    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"


def get(path: str) -> Request:
    return Request("GET", path)


def post(path: str, body: Any) -> Request:
    return Request("POST", path, body)


def put(path: str, body: Any) -> Request:
    return Request("PUT", path, body)


def delete(path: str, **options: Any) -> Request:
    return Request("DELETE", path, options or None)


def merge(path: str, body: Any) -> Request:
    return Request("PATCH", path, body, "application/merge-patch+json")


def strategic(path: str, body: Any) -> Request:
    return Request("PATCH", path, body, "application/strategic-merge-patch+json")


def json_patch(path: str, *operations: Any) -> Request:
    return Request("PATCH", path, list(operations), "application/json-patch+json")


def config_map(name: str = "profiles", data: Any = None, **metadata: Any) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {"key": "value"}}


def pod(name: str = "ada", *, node: str = "", spec: Any = None, container: Any = None, **metadata: Any) -> Object:
    return {
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "notebook", "image": "example/notebook:1", **(container or {})}],
            **({"nodeName": node} if node else {}),
            **(spec or {}),
        },
    }


CONFIG_MAPS = "namespaces/jhub/configmaps"
PROFILES = f"{CONFIG_MAPS}/profiles"
PODS = "namespaces/jhub/pods"
ADA = f"{PODS}/ada"
SINCE_FIRST = "watch=1&timeoutSeconds=1&resourceVersion={0[metadata][resourceVersion]}"
RUNNING = {"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}


def variable(**fields: Any) -> Object:
    return {"env": [{"name": "A", **fields}]}


def resources(**fields: Any) -> Object:
    return {"resources": fields}


PODS_TO_CHECK: dict[str, Object] = {
    "capital-in-name": pod("Ada"),
    "long-name": pod("a" * 254),
    "bad-label": pod(labels={"a b": "c d"}),
    "bad-annotation": pod(annotations={"a b": "x"}),
    "no-containers": pod(spec={"containers": []}),
    "no-image": pod(container={"image": ""}),
    "no-container-name": pod(container={"name": ""}),
    "dot-in-container-name": pod(container={"name": "a.b"}),
    "bad-restart-policy": pod(spec={"restartPolicy": "Sometimes"}),
    "env-value": pod(container=variable(value="x")),
    "env-without-value": pod(container=variable()),
    "env-name-empty": pod(container={"env": [{"name": ""}]}),
    "env-name-with-equals-sign": pod(container={"env": [{"name": "A=B"}]}),
    "env-name-with-dot-and-dash": pod(container={"env": [{"name": "A-b.c"}]}),
    "env-name-with-digit-first": pod(container={"env": [{"name": "1A"}]}),
    "env-name-with-blank": pod(container={"env": [{"name": "A B"}]}),
    "env-name-not-ascii": pod(container={"env": [{"name": "Ä"}]}),
    "env-twice": pod(container={"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
    "env-value-of-number": pod(container=variable(value=1)),
    "env-value-and-source": pod(container=variable(value="x", valueFrom={"fieldRef": {"fieldPath": "metadata.name"}})),
    "env-empty-source": pod(container=variable(valueFrom={})),
    "env-two-sources": pod(
        container=variable(
            valueFrom={
                "fieldRef": {"fieldPath": "metadata.name"},
                "secretKeyRef": {"name": "a", "key": "b"},
            }
        )
    ),
    "env-unknown-field": pod(container=variable(valueFrom={"fieldRef": {"fieldPath": "spec.color"}})),
    "env-field": pod(container=variable(valueFrom={"fieldRef": {"fieldPath": "status.podIP"}})),
    "env-secret-without-key": pod(container=variable(valueFrom={"secretKeyRef": {"name": "a"}})),
    "env-secret-without-name": pod(container=variable(valueFrom={"secretKeyRef": {"key": "a"}})),
    "env-secret": pod(container=variable(valueFrom={"secretKeyRef": {"name": "a", "key": "b", "optional": True}})),
    "env-configmap-bad-key": pod(container=variable(valueFrom={"configMapKeyRef": {"name": "a", "key": "b/c"}})),
    "env-resource": pod(container=variable(valueFrom={"resourceFieldRef": {"resource": "limits.memory"}})),
    "limits": pod(container=resources(limits={"memory": "1024Mi", "cpu": "0.5"})),
    "limits-in-other-forms": pod(container=resources(limits={"memory": "1e9", "cpu": "1500m"})),
    "limit-of-number": pod(container=resources(limits={"memory": 1073741824, "cpu": 2})),
    "limit-of-fraction": pod(container=resources(limits={"cpu": 0.5})),
    "limit-no-quantity": pod(container=resources(limits={"memory": "1GB"})),
    "limit-empty": pod(container=resources(limits={"memory": ""})),
    "limit-negative": pod(container=resources(limits={"memory": "-1"})),
    "limit-zero": pod(container=resources(limits={"memory": "0", "cpu": "0"})),
    "limit-fraction-of-byte": pod(container=resources(limits={"memory": "512m"})),
    "limit-below-request": pod(container=resources(limits={"memory": "1Gi"}, requests={"memory": "2Gi"})),
    "request-alone": pod(container=resources(requests={"memory": "2Gi", "cpu": "100m"})),
    "request-without-some-limits": pod(container=resources(limits={"memory": "1Gi"}, requests={"cpu": "1"})),
    "extended-limit": pod(container=resources(limits={"nvidia.com/gpu": "1"})),
    "extended-limit-fraction": pod(container=resources(limits={"nvidia.com/gpu": "500m"})),
    "extended-request-alone": pod(container=resources(requests={"nvidia.com/gpu": "1"})),
    "extended-request-not-limit": pod(
        container=resources(limits={"nvidia.com/gpu": "2"}, requests={"nvidia.com/gpu": "1"})
    ),
    "extended-zero": pod(container=resources(limits={"nvidia.com/gpu": "0"}, requests={"nvidia.com/gpu": "0"})),
    "resource-unknown": pod(container=resources(limits={"gold": "1"})),
    "resource-of-kubernetes": pod(container=resources(limits={"kubernetes.io/gold": "1"})),
    "resource-hugepages": pod(container=resources(limits={"hugepages-2Mi": "4Mi", "memory": "1Gi", "cpu": "1"})),
    "resource-hugepages-alone": pod(container=resources(limits={"hugepages-2Mi": "2Mi"})),
    "resource-hugepages-beside-a-request": pod(
        container=resources(limits={"hugepages-2Mi": "2Mi"}, requests={"memory": "1Gi"})
    ),
    "resource-hugepages-in-parts": pod(container=resources(limits={"hugepages-2Mi": "3Mi", "memory": "1Gi"})),
    "resource-hugepages-of-no-size": pod(container=resources(limits={"hugepages-x": "0", "memory": "1Gi"})),
    "resource-hugepages-of-size-zero": pod(container=resources(limits={"hugepages-0Mi": "0", "memory": "1Gi"})),
    "extended-limit-beyond-counting": pod(container=resources(limits={"nvidia.com/gpu": "9223372036854776"})),
    "limit-finer-than-counted": pod(container=resources(limits={"cpu": "0.0001"})),
    "resource-ephemeral": pod(container=resources(limits={"ephemeral-storage": "1Gi"})),
    "mount-without-volume": pod(container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
    "mount": pod(
        container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        spec={"volumes": [{"name": "v", "emptyDir": {}}]},
    ),
    "volume-twice": pod(spec={"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]}),
    "volume-without-source": pod(spec={"volumes": [{"name": "v"}]}),
    "volume-of-two-sources": pod(spec={"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
    "unknown-field": pod(spec={"colour": "red"}),
    "list-for-mapping": pod(spec={"nodeSelector": []}),
    "string-for-bool": pod(spec={"hostNetwork": "yes"}),
    "tolerations": pod(spec={"tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}]}),
    "toleration-of-all": pod(spec={"tolerations": [{"operator": "Exists"}]}),
    "bad-tolerations": pod(
        spec={
            "tolerations": [
                {"operator": "Exists", "value": "b"},
                {"key": "a b", "operator": "Exists"},
                {"value": "b"},
                {"key": "a", "operator": "Sometimes"},
                {"key": "a", "value": "b c"},
                {"key": "a", "effect": "Never"},
                {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1},
            ]
        }
    ),
    "other-kind": {"kind": "Secret", "metadata": {"name": "a"}},
    "other-version": {**pod(), "apiVersion": "v2"},
    "no-kind": {name: value for name, value in pod().items() if name != "kind"},
    "no-name": {**pod(), "metadata": {}},
    "other-namespace": pod(namespace="default"),
    "resource-version": pod(resourceVersion="12"),
}

CONFIG_MAPS_TO_CHECK: dict[str, Any] = {
    "bad-key": config_map(data={"a b": "x"}),
    "key-of-parent": config_map(data={"..": "x"}),
    "key-of-two-dots": config_map(data={"..a": "x"}),
    "long-key": config_map(data={"a" * 254: "x"}),
    "value-of-number": config_map(data={"a": 1}),
    "value-null": config_map(data={"a": None}),
    "value-empty": config_map(data={"a": ""}),
    "binary": {**config_map(), "binaryData": {"b": "/w=="}},
    "binary-not-base64": {**config_map(), "binaryData": {"b": "%"}},
    "key-in-both": {**config_map(), "binaryData": {"key": "/w=="}},
    "too-large": config_map(data={"a": "x" * (1024 * 1024 + 1)}),
    "mebibyte": config_map(data={"a": "x" * 1024 * 1024}),
    "name-with-dots": config_map("a.b"),
    "name-with-underscore": config_map("a_b"),
    "unknown-field": {**config_map(), "dta": {}},
    "list": [],
    "text": "x",
    "null": None,
    "generated-name": {"metadata": {"generateName": "generated-"}},
    "many-errors": config_map("A B", data={"a b": "x", "..": "y"}, labels={"-": "-"}),
}

SELECTABLE = [
    post(CONFIG_MAPS, config_map("a", labels={"tier": "web"})),
    post(CONFIG_MAPS, config_map("b", labels={"tier": "db", "zone": "x"})),
    post(CONFIG_MAPS, config_map("c", labels={"example.org/kind": "notebook"})),
]
LABEL_SELECTORS = [
    *("tier%3Dweb", "tier%3D%3Dweb", "tier!%3Dweb", "tier", "!tier", "tier+in+(web,db)", "tier+notin+(web)"),
    *("tier+in+(web,db),zone%3Dx", "example.org/kind", "a+b", "a+in+b", "a%3Db%3Dc", "tier+in+()", ",", "tier%3D"),
    *("a>b", "tier%3Dw!b", "-a%3Db", "tier%3D" + "x" * 64),
]
FIELD_SELECTORS = [
    *("metadata.name%3Da", "metadata.name!%3Da", "metadata.namespace%3Djhub", "data.key%3Dvalue", "metadata.name"),
    *("metadata.name%3D%3Da,metadata.namespace%3Djhub", "%3D", ","),
]

SCENARIOS: dict[str, list[Request]] = {
    **{f"pod-{name}": [post(PODS, body)] for name, body in PODS_TO_CHECK.items()},
    **{f"configmap-{name}": [post(CONFIG_MAPS, body)] for name, body in CONFIG_MAPS_TO_CHECK.items()},
    **{f"labels-{text}": [*SELECTABLE, get(f"{CONFIG_MAPS}?labelSelector={text}")] for text in LABEL_SELECTORS},
    **{f"fields-{text}": [*SELECTABLE, get(f"{CONFIG_MAPS}?fieldSelector={text}")] for text in FIELD_SELECTORS},
    "create-read-delete": [
        post(CONFIG_MAPS, config_map()),
        get(PROFILES),
        post(CONFIG_MAPS, config_map()),
        delete(PROFILES),
        get(PROFILES),
        delete(PROFILES),
    ],
    "strict-and-ignored-fields": [
        post(f"{CONFIG_MAPS}?fieldValidation=Strict", {**config_map(), "dta": {}}),
        post(f"{CONFIG_MAPS}?fieldValidation=Ignore", {**config_map(), "dta": {}}),
        post(f"{CONFIG_MAPS}?fieldValidation=Maybe", config_map("other")),
    ],
    "dry-run": [
        post(f"{CONFIG_MAPS}?dryRun=All", config_map()),
        get(PROFILES),
        post(f"{CONFIG_MAPS}?dryRun=Some", config_map()),
    ],
    "nowhere": [
        post("namespaces/nowhere/configmaps", config_map()),
        get("namespaces/nowhere/configmaps"),
        get("namespaces/nowhere/configmaps/profiles"),
        get("gadgets"),
        get("namespaces/jhub/namespaces"),
        post("pods", pod()),
        put(PODS, pod()),
        post(ADA, pod()),
    ],
    "replace": [
        put(PROFILES, config_map()),
        post(CONFIG_MAPS, config_map()),
        put(PROFILES, config_map(data={"key": "new"})),
        put(PROFILES, config_map(resourceVersion="{1[metadata][resourceVersion]}")),
        put(PROFILES, config_map(resourceVersion="{2[metadata][resourceVersion]}")),
        put(PROFILES, config_map(uid="other")),
        put(PROFILES, config_map("other")),
        put(PROFILES, config_map(namespace="default")),
        put(PROFILES, config_map(resourceVersion="none")),
        get(PROFILES),
    ],
    "immutable": [
        post(CONFIG_MAPS, {**config_map(), "immutable": True}),
        merge(PROFILES, {"data": {"key": "other"}}),
        merge(PROFILES, {"immutable": False}),
        merge(PROFILES, {"metadata": {"labels": {"a": "b"}}}),
        delete(PROFILES),
        post(CONFIG_MAPS, config_map()),
    ],
    "merge-patch": [
        merge(PROFILES, {"data": {"a": "1"}}),
        post(CONFIG_MAPS, config_map(data={"keep": "1", "change": "1", "drop": "1"})),
        merge(PROFILES, {"data": {"change": "2", "drop": None, "new": "3"}}),
        merge(PROFILES, {"data": {"x/y": "2"}}),
        merge(PROFILES, {"metadata": {"resourceVersion": "{1[metadata][resourceVersion]}"}, "data": {"key": "x"}}),
        merge(PROFILES, {"metadata": {"name": "other"}}),
        merge(PROFILES, {"data": None}),
        merge(PROFILES, []),
        merge(PROFILES, {"data": {"a": 1}}),
    ],
    "strategic-merge-patch": [
        post(PODS, pod(container={"env": [{"name": "A", "value": "1"}]})),
        strategic(ADA, {"metadata": {"labels": {"a": "b"}}}),
        strategic(ADA, {"metadata": {"labels": {"a": None}}}),
        strategic(ADA, {"spec": {"containers": [{"name": "notebook", "image": "example/notebook:2"}]}}),
        strategic(ADA, {"spec": {"containers": [{"name": "other", "image": "example/notebook:2"}]}}),
        strategic(ADA, {"spec": {"containers": [{"image": "example/notebook:2"}]}}),
        strategic(f"{ADA}/status", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        strategic(
            f"{ADA}/status",
            {
                "status": {
                    "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]
                }
            },
        ),
        strategic(ADA, []),
        strategic(ADA, {"$patch": "replace"}),
    ],
    "json-patch": [
        post(CONFIG_MAPS, config_map(data={"a": "1"})),
        json_patch(PROFILES, {"op": "add", "path": "/data/b", "value": "2"}),
        json_patch(PROFILES, {"op": "replace", "path": "/data/a", "value": "2"}),
        json_patch(PROFILES, {"op": "move", "from": "/data/a", "path": "/data/c"}),
        json_patch(PROFILES, {"op": "copy", "from": "/data/c", "path": "/data/d"}),
        json_patch(PROFILES, {"op": "test", "path": "/data/c", "value": "2"}),
        json_patch(PROFILES, {"op": "add", "path": "/data/x~1y", "value": "2"}),
        json_patch(PROFILES, {"op": "test", "path": "/data/c", "value": "other"}),
        json_patch(PROFILES, {"op": "remove", "path": "/data/absent"}),
        json_patch(PROFILES, {"op": "replace", "path": "/data/absent", "value": "2"}),
        json_patch(PROFILES, {"op": "add", "path": "/absent/a", "value": "2"}),
        json_patch(PROFILES, {"op": "add", "path": "data/e", "value": "2"}),
        json_patch(PROFILES, {"op": "invent", "path": "/data/a"}),
        Request("PATCH", PROFILES, {"data": {}}, "application/json-patch+json"),
        Request("PATCH", PROFILES, {"data": {}}, "application/json"),
        get(PROFILES),
    ],
    "status-apart-from-spec": [
        post(PODS, {**pod(), **RUNNING}),
        put(ADA, {**pod(labels={"a": "b"}), **RUNNING}),
        merge(f"{ADA}/status", {"metadata": {"labels": {"c": "d"}}, "spec": {"nodeName": "x"}, **RUNNING}),
        get(f"{ADA}/status"),
        merge(f"{ADA}/status", {"status": {"phase": "Dancing"}}),
        merge(f"{ADA}/status", {"status": {"containerStatuses": [{"name": "notebook"}]}}),
        merge(ADA, {"status": {"phase": "Failed"}}),
        post(f"{ADA}/status", {}),
        merge(f"{PROFILES}/status", {}),
    ],
    "pod-updates": [
        post(PODS, pod(container={"image": "example/notebook:1"})),
        merge(ADA, {"spec": {"nodeName": "elsewhere"}}),
        merge(ADA, {"spec": {"schedulerName": "mine"}}),
        strategic(ADA, {"spec": {"containers": [{"name": "notebook", "image": "example/notebook:2"}]}}),
        merge(ADA, {"metadata": {"annotations": {"a": "b"}}}),
    ],
    "binding": [
        post(PODS, pod()),
        post(
            f"{ADA}/binding", {"kind": "Binding", "metadata": {"name": "ada"}, "target": {"kind": "Node", "name": "n"}}
        ),
        get(ADA),
        post(
            f"{ADA}/binding", {"kind": "Binding", "metadata": {"name": "ada"}, "target": {"kind": "Node", "name": "n"}}
        ),
        post(f"{ADA}/binding", {"metadata": {"name": "ada"}, "target": {}}),
        post(f"{ADA}/binding", {"target": {"kind": "Node", "name": "n"}}),
        post(f"{PODS}/nobody/binding", {"metadata": {"name": "nobody"}, "target": {"kind": "Node", "name": "n"}}),
    ],
    "deletion-with-grace": [
        post(PODS, pod(node="node")),
        delete(ADA, preconditions={"uid": "of-its-predecessor"}),
        delete(ADA, preconditions={"resourceVersion": "1"}),
        delete(ADA),
        delete(ADA, gracePeriodSeconds=60),
        delete(ADA, gracePeriodSeconds=10),
        post(PODS, pod()),
        delete(ADA, gracePeriodSeconds=0),
        get(ADA),
        post(PODS, pod()),
        delete(ADA),
        get(ADA),
    ],
    "deletion-by-parameters": [
        post(PODS, pod(node="node")),
        Request("DELETE", f"{ADA}?gracePeriodSeconds=few"),
        Request("DELETE", f"{ADA}?dryRun=All"),
        Request("DELETE", f"{ADA}?gracePeriodSeconds=7"),
        get(ADA),
    ],
    "deletion-of-a-pod-that-has-ended": [
        post(PODS, pod(node="node")),
        merge(f"{ADA}/status", {"status": {"phase": "Succeeded"}}),
        delete(ADA),
        get(ADA),
    ],
    "finalizer": [
        post(CONFIG_MAPS, config_map(finalizers=["example.org/hold"])),
        delete(PROFILES),
        merge(PROFILES, {"data": {"key": "other"}}),
        merge(PROFILES, {"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}}),
        merge(PROFILES, {"metadata": {"finalizers": None}}),
        get(PROFILES),
    ],
    "watch": [
        post(CONFIG_MAPS, config_map("seen")),
        post(CONFIG_MAPS, config_map("new", labels={"on": "yes"})),
        put(f"{CONFIG_MAPS}/new", config_map("new", {"key": "changed"}, labels={"on": "yes"})),
        put(f"{CONFIG_MAPS}/new", config_map("new", {"key": "changed"}, labels={"on": "no"})),
        put(f"{CONFIG_MAPS}/new", config_map("new", {"key": "changed"}, labels={"on": "no"})),
        put(f"{CONFIG_MAPS}/new", config_map("new", {"key": "again"}, labels={"on": "yes"})),
        post("namespaces/default/configmaps", config_map("elsewhere")),
        delete(f"{CONFIG_MAPS}/seen"),
        delete(f"{CONFIG_MAPS}/new"),
        get(f"{CONFIG_MAPS}?{SINCE_FIRST}"),
        get(f"{CONFIG_MAPS}?{SINCE_FIRST}&labelSelector=on%3Dyes"),
        get(f"{CONFIG_MAPS}?{SINCE_FIRST}&fieldSelector=metadata.name%3Dseen"),
        get(f"{CONFIG_MAPS}?watch=true&timeoutSeconds=1"),
        get(f"{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion=0"),
        get(f"{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion=none"),
        get(f"{CONFIG_MAPS}?watch=true&timeoutSeconds=x"),
    ],
    "watch-of-pods": [
        post(CONFIG_MAPS, config_map("first")),
        post(PODS, pod(node="node")),
        merge(f"{ADA}/status", RUNNING),
        delete(ADA),
        delete(ADA, gracePeriodSeconds=0),
        get(f"{PODS}?{SINCE_FIRST}"),
        get(f"{PODS}?{SINCE_FIRST}&fieldSelector=status.phase%3DRunning"),
    ],
    "pages": [
        *(post(CONFIG_MAPS, config_map(name)) for name in "abc"),
        get(f"{CONFIG_MAPS}?limit=2"),
        delete(f"{CONFIG_MAPS}/c"),
        get(f"{CONFIG_MAPS}?limit=2&continue={{3[metadata][continue]}}"),
        get(f"{CONFIG_MAPS}?limit=2&continue=nonsense"),
        get(f"{CONFIG_MAPS}?limit=few"),
        get(f"{CONFIG_MAPS}?resourceVersionMatch=Exact"),
        get(f"{CONFIG_MAPS}?resourceVersion=0"),
        get(f"{CONFIG_MAPS}?resourceVersion=none"),
    ],
    "secrets": [
        post("namespaces/jhub/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}}),
        post("namespaces/jhub/secrets", {"metadata": {"name": "t"}, "data": {"a": "%"}}),
        merge("namespaces/jhub/secrets/s", {"type": "other"}),
        delete("namespaces/jhub/secrets/s"),
    ],
    "claims": [
        post(
            "namespaces/jhub/persistentvolumeclaims",
            {
                "metadata": {"name": "claim"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}},
            },
        ),
        post("namespaces/jhub/persistentvolumeclaims", {"metadata": {"name": "empty"}, "spec": {}}),
        merge("namespaces/jhub/persistentvolumeclaims/claim", {"spec": {"accessModes": ["ReadWriteMany"]}}),
    ],
    "services": [
        post("namespaces/jhub/services", {"metadata": {"name": "s"}, "spec": {}}),
        post("namespaces/jhub/services", {"metadata": {"name": "1s"}, "spec": {"ports": [{"port": 80}]}}),
        post(
            "namespaces/jhub/services",
            {"metadata": {"name": "s"}, "spec": {"clusterIP": "None", "ports": [{"port": 8888}]}},
        ),
        delete("namespaces/jhub/services/s"),
    ],
    "events": [
        post(
            "namespaces/jhub/events",
            {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "ada", "namespace": "jhub"}},
        ),
        post("namespaces/jhub/events", {"metadata": {"name": "f"}, "involvedObject": {"namespace": "default"}}),
        get("namespaces/jhub/events?fieldSelector=involvedObject.kind%3DPod"),
        get("namespaces/jhub/events?fieldSelector=involvedObject.kind%3DNode"),
    ],
    "namespaces": [
        post("namespaces", {"metadata": {"name": "jhub"}}),
        post("namespaces", {"metadata": {"name": "A.b"}}),
        get("namespaces/jhub"),
        delete("namespaces/default"),
        delete("namespaces/kube-system"),
    ],
}


NOT_ALLOWED: list[tuple[str, str, str | None, Request]] = [
    ("get", "configmaps", None, get(f"{CONFIG_MAPS}/other")),
    ("list", "configmaps", None, get(CONFIG_MAPS)),
    ("list", "configmaps", None, get("configmaps")),
    ("watch", "configmaps", None, get(f"{CONFIG_MAPS}?watch=1&timeoutSeconds=1")),
    ("create", "configmaps", None, post(CONFIG_MAPS, config_map())),
    ("update", "configmaps", None, put(PROFILES, config_map())),
    ("patch", "configmaps", None, merge(PROFILES, {})),
    ("delete", "configmaps", None, delete(PROFILES)),
    ("patch", "pods/status", None, merge(f"{ADA}/status", RUNNING)),
    ("create", "pods/binding", None, post(f"{ADA}/binding", {})),
    ("create", "events", None, post("namespaces/jhub/events", {})),
    ("list", "pods", "default", get("namespaces/default/pods")),
    ("list", "pods", "", get("pods")),
    ("list", "namespaces", None, get("namespaces")),
    ("get", "namespaces", None, get("namespaces/jhub")),
    ("create", "namespaces", None, post("namespaces", {"metadata": {"name": "x"}})),
]
"""What a hub may not do: the verb, the resource, the namespace (`None` is any), and a request for it."""


@dataclass
class Server:
    """One of the two, with what stands for its own names in answers."""

    session: aiohttp.ClientSession
    answers: list[Any] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    async def ask(self, request: Request) -> Object:
        """Return the code, and the body: an object, or a watch's events."""
        path, body = self._filled(request.path), self._filled(request.body)
        # Something to read from, since the client warns of large texts.
        data = None if body is None and request.method != "POST" else io.BytesIO(json.dumps(body).encode())
        headers = {"Content-Type": request.content_type} if data is not None else {}
        async with self.session.request(request.method, path, data=data, headers=headers) as response:
            text = await response.text()
        is_watch = "watch=" in path and response.status == 200
        try:
            answer = [json.loads(line) for line in text.splitlines()] if is_watch else json.loads(text)
        except json.JSONDecodeError:
            answer = text
        self.answers.append(answer)
        return {"code": response.status, "body": self._comparable(answer)}

    def _filled(self, value: Any) -> Any:
        match value:
            case str() if re.search(r"\{\d+\[", value):
                return value.format(*self.answers)
            case dict():
                return {name: self._filled(item) for name, item in value.items()}
        return value

    def _comparable(self, value: Any, name: str = "") -> Any:
        """Replace what differs from server to server and from time to time."""
        match value:
            case {"kind": "Status", "code": 400 | 500}:
                # What is no request at all is refused in the words of Go's parsers.
                value = {key: item for key, item in value.items() if key != "message"}
            case {"kind": "Status", "details": {"causes": [_, _, *_]}}:
                # Go goes through a mapping in another order every time.
                causes = sorted(value["details"]["causes"], key=lambda cause: (cause["field"], cause["message"]))
                details = {**value["details"], "causes": causes}
                value = {key: item for key, item in value.items() if key != "message"} | {"details": details}
            case {"key": str(key), "effect": "NoExecute"} if key.startswith("node.kubernetes.io/"):
                # The default tolerations, which a plugin adds.
                return None
        match value:
            case dict():
                return {key: self._comparable(item, key) for key, item in value.items() if key != "managedFields"}
            case list():
                return [item for item in map(self._comparable, value) if item is not None]
            case str() if name == "resourceVersion" and value:
                return "version"
            case str() if name in ("uid", "continue") and value:
                return self.known.setdefault(value, f"{name} {len(self.known)}")
            case str() if name == "message":
                # Of a change that is refused, a real server shows the difference; of a patched object, all of it.
                value = re.sub(r"\n.*", "", value, flags=re.DOTALL)
                # Only a real server offers the rest of a list whose moment is gone.
                value = re.sub(r"(?<=consistent list result\.).*", "", value)
                value = re.sub(r"(?<=Invalid value: )\"\{.*\}\"", "…", value)
                value = re.sub(r"\(\d+\)|(?<=resource version: )\d+", "version", value)
        if isinstance(value, str):
            for known, stand_in in self.known.items():
                value = value.replace(known, stand_in)
            value = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "time", value)
            value = re.sub(r"(?<=^generated-)[a-z0-9]{5}$", "…", value)
        return value


def differences(embedded: Any, real: Any, path: str = "") -> Iterator[str]:
    """What the embedded API says otherwise; what it leaves out is no difference."""
    if isinstance(embedded, dict) and isinstance(real, dict):
        for name in embedded:
            if name not in real:
                yield f"{path}.{name} is {embedded[name]!r}, and a real server says nothing"
            else:
                yield from differences(embedded[name], real[name], f"{path}.{name}")
    elif isinstance(embedded, list) and isinstance(real, list) and len(embedded) == len(real):
        for i, (one, other) in enumerate(zip(embedded, real, strict=True)):
            yield from differences(one, other, f"{path}[{i}]")
    elif embedded != real:
        yield f"{path} is {embedded!r}, and of a real server {real!r}"


@asynccontextmanager
async def server(control_plane: ControlPlane, token: str) -> AsyncIterator[Server]:
    """The real one, to the owner of a token."""
    async with aiohttp.ClientSession(
        f"{control_plane.url}/api/v1/",
        headers={"Authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(ssl=control_plane.trust),
    ) as session:
        yield Server(session)


@asynccontextmanager
async def embedded_server(**options: Any) -> AsyncIterator[tuple[EmbeddedAPI, Server]]:
    async with EmbeddedAPI(**options) as api, aiohttp.ClientSession(f"{api.url}/api/v1/") as session:
        yield api, Server(session)


async def compare(embedded: Server, real: Server, requests: Sequence[Request]) -> list[str]:
    """What the two say otherwise, to the same requests."""
    found = []
    for request in requests:
        answers = await embedded.ask(request), await real.ask(request)
        if answers[0]["code"] == 501:
            # What it has not done, it need not know of later.
            break
        where = f"{request.method} {request.path}"
        if answers[0]["code"] != answers[1]["code"]:
            found.append(f"{where}: {answers[0]['code']}, and of a real server {answers[1]}")
        else:
            found += [f"{where}: {difference}" for difference in differences(*answers)]
    return found


@pytest.mark.cluster
class TestBothAnswerAlike:
    @pytest.mark.parametrize("scenario", SCENARIOS)
    async def test_to_the_same_requests(self, control_plane: ControlPlane, scenario: str) -> None:
        async with (
            embedded_server() as (_, embedded),
            ClusterAPI(control_plane),
            server(control_plane, control_plane.admin_token) as real,
        ):
            assert await compare(embedded, real, SCENARIOS[scenario]) == []

    async def test_to_what_the_hubs_role_does_not_allow(self, control_plane: ControlPlane) -> None:
        async with embedded_server() as (api, embedded), ClusterAPI(control_plane):
            for verb, resource, namespace, _ in NOT_ALLOWED:
                api.deny(verb, resource, namespace=namespace)
            token = control_plane.service_account_token("jhub", "hub")
            async with server(control_plane, token) as real:
                assert await compare(embedded, real, [request for *_, request in NOT_ALLOWED]) == []

    async def test_to_what_is_too_old(self, assets: Assets) -> None:
        async with (
            embedded_server(history=1) as (_, embedded),
            ControlPlane(assets) as control_plane,
            server(control_plane, control_plane.admin_token) as real,
        ):
            control_plane.create_namespace("jhub")
            begin = [*(post(CONFIG_MAPS, config_map(name)) for name in "abc"), get(f"{CONFIG_MAPS}?limit=1")]
            assert await compare(embedded, real, begin) == []
            await control_plane.forget_history()
            for _ in range(101):
                await embedded.session.get(f"{CONFIG_MAPS}?limit=1")
            late = [
                get(f"{CONFIG_MAPS}?{SINCE_FIRST}"),
                get(f"{CONFIG_MAPS}?limit=1&continue={{3[metadata][continue]}}"),
            ]
            assert await compare(embedded, real, late) == []
