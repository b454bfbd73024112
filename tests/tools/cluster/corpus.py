"""What asks a real API server whether it would create a pod, and how a document comes to one."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from hypothesis import HealthCheck, settings
from kubernetes_asyncio.client import ApiClient, V1Pod
from kubespawner.objects import make_pod

from cluster.apiserver import ControlPlane
from profiled_spawner.decide.matching import Subject, match_profiles
from profiled_spawner.decide.merging import merge_profiles
from profiled_spawner.document.model import Document
from profiled_spawner.document.templates import TEMPLATE_FIELDS
from profiled_spawner.pod.patch import inject_profile
from sandbox.status import Object, StatusError

__all__ = ["Report", "Server", "corpus", "make_pods"]

Report: TypeAlias = Callable[[str, Counter[str]], None]


def corpus(count: int) -> Callable[[Any], Any]:
    """How many examples a property is tried with."""
    # The same ones in every run of the same tests, and no time limit: the server may be busy.
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


class Server:
    """A namespace of a real API server, which is asked whether it would create a pod."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self._control_plane = control_plane
        self._path = f"{control_plane.path('v1', 'Pod', namespace)}?dryRun=All&fieldValidation=Strict"
        self.asked = 0

    def create(self, pod: Object) -> Object | StatusError:
        """Return the pod as it would be, or why it is refused."""
        self.asked += 1
        try:
            created: Object = self._control_plane.request("POST", self._path, pod)
        except StatusError as refusal:
            return refusal
        return created

    def create_with(self, **container: Any) -> Object | StatusError:
        """Return the container as it would be in a pod, or why it is refused."""
        spec = {"containers": [{"name": "notebook", "image": "an-image", **container}]}
        created = self.create({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "jupyter-ada"}, "spec": spec})
        return created if isinstance(created, StatusError) else created["spec"]["containers"][0]


# KubeSpawner's manifests, without and with what an admin may have set.
_BARE = make_pod("jupyter-ada", [], 8888, "an-image")
_CONFIGURED = make_pod(
    "jupyter-ada",
    ["jupyterhub-singleuser"],
    8888,
    "an-image",
    env={"JUPYTERHUB_USER": "ada", "OWN": "$(JUPYTERHUB_USER)"},
    mem_limit=3 * 2**30,
    mem_guarantee=2**30,
    cpu_limit=1.5,
    cpu_guarantee=0.5,
    extra_resource_limits={"nvidia.com/gpu": "1"},
    node_selector={"own": "selector"},
    tolerations=[{"key": "own", "operator": "Exists"}],
    node_affinity_required=[{"matchExpressions": [{"key": "own", "operator": "In", "values": ["a", "b"]}]}],
    pod_anti_affinity_preferred=[{"weight": 1, "podAffinityTerm": {"topologyKey": "own"}}],
    volumes=[{"name": "own-volume", "emptyDir": {}}],
    volume_mounts=[{"name": "own-volume", "mountPath": "/own-volume"}],
)


def make_pods(document: Document, subject: Subject) -> Iterable[Object]:
    """The pods that a document comes to, as they are sent."""
    effective = merge_profiles((*match_profiles(document, subject), *document.sizes[:1]))
    for manifest in (_BARE, _CONFIGURED):
        pod: V1Pod = copy.deepcopy(manifest)
        pod.spec.containers[0].image = subject.image
        injected = inject_profile(pod, effective, "configmap/jhub/jupyter-singleuser-profiles@1", _expand).pod
        # The method uses nothing of its instance.
        yield json.loads(json.dumps(ApiClient.sanitize_for_serialization(ApiClient.__new__(ApiClient), injected)))


def _expand(template: str) -> str:
    return template.format(**dict.fromkeys(TEMPLATE_FIELDS, "ada"))
