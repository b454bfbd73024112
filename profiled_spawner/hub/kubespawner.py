"""The private parts of JupyterHub and KubeSpawner that this package uses, under names of our own.

A release of either may change them. `PRIVATE_PARTS` says what each is for and what would go wrong without it, and
`tests/hub/test_kubespawner.py` holds every supported host to it.
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
from kubernetes_asyncio.client import V1Pod
from kubespawner import KubeSpawner
from tornado import web

__all__ = [
    "PRIVATE_PARTS",
    "HostSpawner",
    "PrivatePart",
    "SpawnException",
    "find_hub_namespace",
    "leave_failure_count",
    "no_kubeconfig",
]

SpawnException: type[web.HTTPError] | None = getattr(jupyterhub_spawner, "SpawnException", None)
"""From JupyterHub 6 on, such an exception does not count towards `consecutive_failure_limit`; None before."""


class PrivatePart(NamedTuple):
    """Something of a host that is not public.

    Attributes:
        owner: The class or module that has it.
        name: Its name there.
        parameters: Those of a method, without `self`; None where it is none.
        use: What it is used for.
        without: What would happen if it went, or changed.
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
        "puts the server's values for fields such as {username} into a template",
        "no server with a template in its profiles would start",
    ),
    PrivatePart(
        KubeSpawner,
        "_get_initialized_profile_list",
        ("profile_list",),
        "overridden: sees the options of profile_list",
        "an option of profile_list called size would be taken for a size",
    ),
    PrivatePart(
        KubeSpawner,
        "_options_from_form",
        ("formdata",),
        "the default of options_from_form: whether the hub has a form of its own",
        "an option of the hub's own form called size would be taken for a size",
    ),
    PrivatePart(
        KubeSpawner,
        "_namespace_default",
        None,
        "finds the namespace that the hub runs in",
        "no server would start, unless configmap_namespace is set",
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
    """KubeSpawner, with names of our own for what is private there."""

    async def create_pod(self, pod: V1Pod, request_timeout: int) -> bool:
        """Sends the pod; KubeSpawner calls this for each try.

        Returns:
            Whether that is done; otherwise KubeSpawner tries again.
        """
        created: bool = await super()._make_create_pod_request(pod, request_timeout)
        return created

    async def _make_create_pod_request(self, pod: V1Pod, request_timeout: int) -> bool:
        return await self.create_pod(pod, request_timeout)

    def note_profile_list(self, profiles: list[Any]) -> None:
        """Is given the `profile_list` with all defaults filled in, for the form and for the start."""

    def _get_initialized_profile_list(self, profile_list: Any) -> Any:
        profiles = super()._get_initialized_profile_list(profile_list)
        self.note_profile_list(profiles or [])
        return profiles

    def expand_fields(self, template: str) -> str:
        """Puts the server's values for KubeSpawner's fields, such as ``{username}``, into a template."""
        expanded: str = self._expand_user_properties(template)
        return expanded

    @property
    def has_own_form(self) -> bool:
        """Whether the hub's configuration says how options are made of a form."""
        return bool(self.options_from_form != self._options_from_form)

    @property
    def shown_name(self) -> str:
        """The server as the hub's log names it: ``ada``, or ``ada:lab`` for a named one."""
        name: str = self._log_name
        return name


def leave_failure_count() -> None:
    """Lets JupyterHub 5 count what it counted before, when it adds the start that is about to fail."""
    if JupyterHub.initialized():
        settings = JupyterHub.instance().tornado_application.settings
        settings["failure_count"] = settings.get("failure_count", 0) - 1


_hub_namespaces: list[str] = []


def find_hub_namespace(spawner: KubeSpawner) -> str:
    """The namespace that the hub's pod runs in: KubeSpawner's own default for its `namespace`.

    KubeSpawner reads it from a file that never changes; once for the process is enough.
    """
    if not _hub_namespaces:
        _hub_namespaces.append(spawner._namespace_default())
    return _hub_namespaces[0]


@contextmanager
def no_kubeconfig() -> Iterator[None]:
    """Keeps KubeSpawner from its configuration of the cluster, which it loads with every spawner object.

    That would run the kubeconfig's plugins, and fail where there is none. The client is made all the same, and
    never used.
    """
    load_config = kubespawner.spawner.load_config
    kubespawner.spawner.load_config = lambda **_: None
    try:
        yield
    finally:
        kubespawner.spawner.load_config = load_config
