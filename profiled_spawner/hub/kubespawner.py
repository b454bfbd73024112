"""The private parts of JupyterHub and KubeSpawner that this package uses, under names of our own.

A release of either may change them. `PRIVATE_PARTS` says what each is for, and what would go wrong without it.
`tests/hub/test_kubespawner.py` checks that every supported host has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import kubespawner.spawner
from jupyterhub import handlers
from jupyterhub import spawner as jupyterhub_spawner
from jupyterhub.app import JupyterHub
from jupyterhub.utils import exponential_backoff
from kubernetes_asyncio.client import V1Pod
from kubespawner import KubeSpawner
from tornado import web

from ..document.model import ImageChoice

__all__ = [
    "PRIVATE_PARTS",
    "HostSpawner",
    "PrivatePart",
    "SpawnException",
    "find_hub_namespace",
    "hub_namespaces",
    "leave_failure_count",
    "no_kubeconfig",
]

SpawnException: type[web.HTTPError] | None = getattr(jupyterhub_spawner, "SpawnException", None)
"""An exception that does not count towards `consecutive_failure_limit`. None before JupyterHub 6."""


class PrivatePart(NamedTuple):
    """A private part of a host.

    Attributes:
        owner: The class or module that has it.
        name: Its name there.
        parameters: A method's parameters without `self`; None if it is no method.
        use: What we use it for.
        without: What would happen if it were removed or changed.
    """

    owner: type | ModuleType
    name: str
    parameters: tuple[str, ...] | None
    use: str
    without: str


PRIVATE_PARTS = (
    PrivatePart(
        KubeSpawner,
        "_make_create_pod_request",
        ("pod", "request_timeout"),
        "overridden: sends the pod, and logs and raises what the API server answers",
        "values of variables would stand in the hub's log, and refused pods count as failures of the hub",
    ),
    PrivatePart(
        KubeSpawner,
        "_expand_user_properties",
        ("template", "slug_scheme"),
        "replaces fields such as {username} in a template by the server's values",
        "no server with a template in its profiles would start",
    ),
    PrivatePart(
        KubeSpawner,
        "_namespace_default",
        None,
        "finds the namespace that the hub runs in",
        "no server would start, unless configmap_namespace is set",
    ),
    PrivatePart(
        KubeSpawner,
        "_start_watching_pods",
        ("replace",),
        "waits until the hub has the list of its pods, to look up a server that an earlier version started",
        "no server with a quota would start, while a server of an earlier version runs",
    ),
    PrivatePart(
        jupyterhub_spawner.Spawner,
        "_log_name",
        None,
        "names a server in the log",
        "no server would start",
    ),
    PrivatePart(
        kubespawner.spawner,
        "load_config",
        None,
        "replaced by nothing while `render` makes a pod",
        "`render` would run the kubeconfig's plugins, and fail where there is none",
    ),
    PrivatePart(
        handlers.BaseHandler,
        "spawn_single_user",
        None,
        "JupyterHub 5: adds one to the setting failure_count of the hub's application, whatever the failure",
        "on JupyterHub 5, starts that are refused for the document would count, and the hub would exit",
    ),
)


class HostSpawner(KubeSpawner):  # type: ignore[misc]  # KubeSpawner has no types
    """KubeSpawner, with our own names for its private parts."""

    async def create_pod(self, pod: V1Pod, request_timeout: int) -> bool:
        """Creates the pod. KubeSpawner calls this for each attempt.

        Returns:
            Whether it succeeded. If not, KubeSpawner tries again.
        """
        created: bool = await super()._make_create_pod_request(pod, request_timeout)
        return created

    async def _make_create_pod_request(self, pod: V1Pod, request_timeout: int) -> bool:
        return await self.create_pod(pod, request_timeout)

    @contextmanager
    def running(self, choice: ImageChoice | None) -> Iterator[None]:
        """Lets KubeSpawner make the pod of another image; afterwards, its settings are what they were."""
        names = ("image", "image_pull_secrets", "default_url")
        given = {name: value for name in names if (value := getattr(choice, name, None)) is not None}
        kept = {name: getattr(self, name) for name in given}
        if "image_pull_secrets" in given:
            given["image_pull_secrets"] = [{"name": name} for name in given["image_pull_secrets"]]
        try:
            for name, value in given.items():
                setattr(self, name, value)
            yield
        finally:
            for name, value in kept.items():
                setattr(self, name, value)

    async def find_pod(self) -> dict[str, Any] | None:
        """Returns the server's pod as the hub has it from watching them; None if there is none."""
        await self._start_watching_pods()
        pod: dict[str, Any] | None = self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}")
        return pod

    async def wait_for_pod(self) -> None:
        """Waits until the hub sees the server's pod, for as long as a request may take."""
        await exponential_backoff(self.find_pod, "the pod did not appear", timeout=self.k8s_api_request_timeout)

    def expand_fields(self, template: str) -> str:
        """Returns a template with KubeSpawner's fields, such as ``{username}``, replaced by the server's values."""
        expanded: str = self._expand_user_properties(template)
        return expanded

    @property
    def own_amounts(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The limits and guarantees that KubeSpawner's settings give; None if more than those settings decides them.

        Group overrides and own configuration of the container may change them when a server starts.
        """
        # JupyterHub 5.0 has no group_overrides.
        if getattr(self, "group_overrides", None) or "resources" in self.extra_container_config:
            return None
        limits = {"memory": self.mem_limit or None, "cpu": self.cpu_limit or None}
        requests = {"memory": self.mem_guarantee or None, "cpu": self.cpu_guarantee or None}
        return limits | self.extra_resource_limits, requests | self.extra_resource_guarantees

    @property
    def shown_name(self) -> str:
        """The server's name in the hub's log: ``ada``, or ``ada:lab`` for a named server."""
        name: str = self._log_name
        return name


def leave_failure_count() -> None:
    """Makes up for the failure that JupyterHub 5 is about to count, so that its count stays the same."""
    if JupyterHub.initialized():
        settings = JupyterHub.instance().tornado_application.settings
        settings["failure_count"] = settings.get("failure_count", 0) - 1


hub_namespaces: list[str] = []


def find_hub_namespace(spawner: KubeSpawner) -> str:
    """Returns the namespace of the hub's pod: KubeSpawner's default for its `namespace`.

    KubeSpawner reads it from a file that never changes, so it is read once per process.
    """
    if not hub_namespaces:
        hub_namespaces.append(spawner._namespace_default())
    return hub_namespaces[0]


@contextmanager
def no_kubeconfig() -> Iterator[None]:
    """Prevents KubeSpawner from loading a kubeconfig, which it does for every spawner object.

    Loading runs the kubeconfig's plugins, and fails if there is none. The client is still created, but never used.
    """
    load_config = kubespawner.spawner.load_config
    kubespawner.spawner.load_config = lambda **_: None
    try:
        yield
    finally:
        kubespawner.spawner.load_config = load_config
