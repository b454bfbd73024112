"""Reads live ConfigMaps as the person who runs the command: with a kubeconfig, or a pod's service account."""

from __future__ import annotations

import os
from pathlib import Path

from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubernetes_asyncio.config import kube_config

from ..errors import SourceError
from ..sources.configmap import ConfigMapSource, SelectedConfigMap, SelectedConfigMapsSource
from ..sources.source import Revision

__all__ = ["read_configmaps"]

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def read_configmaps(
    namespace: str, name: str, key: str, *, label_selector: str, timeout_seconds: float
) -> tuple[Revision, tuple[SelectedConfigMap, ...]]:
    """Reads a ConfigMap once, with the credentials that `kubectl` would use, and the ConfigMaps of a label selector.

    Args:
        namespace: The namespace. Empty: the namespace of the kubeconfig's current context.
        name: The name of the main ConfigMap.
        key: The key in ``data`` that holds the document.
        label_selector: Selects ConfigMaps beside the main one. Empty: none.
        timeout_seconds: The timeout of each request.

    Returns:
        The main document, and the selected ConfigMaps.

    Raises:
        SourceError: The ConfigMaps cannot be read, or the main one has no such key.
    """
    configuration = Configuration()
    try:
        own_namespace = await _load_config(configuration)
    except config.ConfigException as error:
        raise SourceError(f"cannot connect to a cluster: {error}", outcome="unavailable") from None
    except Exception as error:  # noqa: BLE001  do not quote it: a kubeconfig holds tokens
        kind = type(error).__name__
        raise SourceError(
            f"cannot connect to a cluster: the kubeconfig cannot be used ({kind})", outcome="unavailable"
        ) from None
    namespace = namespace or own_namespace
    async with ApiClient(configuration) as client:
        api = CoreV1Api(client)
        source = ConfigMapSource(namespace, name, key, api, timeout_seconds)
        revision = source.extract(await _fetch(source, "get", f"configmaps/{name}"))
        if not label_selector:
            return revision, ()
        others = SelectedConfigMapsSource(namespace, label_selector, key, name, api, timeout_seconds)
        return revision, others.extract(await _fetch(others, "list", "configmaps"))


async def _fetch(source: ConfigMapSource | SelectedConfigMapsSource, verb: str, resource: str) -> bytes:
    try:
        return await source.fetch()
    except SourceError as error:
        # The error's own words are for the admins of a hub.
        if error.outcome == "missing" and isinstance(source, ConfigMapSource):
            what = f"there is no ConfigMap {source.configmap!r} in namespace {source.namespace!r}"
        elif error.outcome == "refused":
            what = (
                f"you may not {'read' if verb == 'get' else verb} {source.name} with these credentials; "
                f"see `kubectl auth can-i {verb} {resource} --namespace {source.namespace}`"
            )
        else:
            raise
        raise SourceError(what, outcome=error.outcome) from None


async def _load_config(configuration: Configuration) -> str:
    """Fills in the API server's address and credentials, and returns the current namespace."""
    if not _has_kubeconfig():
        return _load_pod_config(configuration)
    await config.load_kube_config(client_configuration=configuration)
    _, context = config.list_kube_config_contexts()
    namespace: str | None = context["context"].get("namespace") if context else None
    return namespace or "default"


def _has_kubeconfig() -> bool:
    paths = kube_config.KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep)
    return any(Path(path).expanduser().exists() for path in paths)


def _load_pod_config(configuration: Configuration) -> str:
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise config.ConfigException(f"there is no kubeconfig ({kube_config.KUBE_CONFIG_DEFAULT_LOCATION})")
    config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return _POD_NAMESPACE.read_text().strip()
