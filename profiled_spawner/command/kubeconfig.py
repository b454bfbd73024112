"""Live ConfigMaps, read by a person: with their kubeconfig, or in a pod with its service account."""

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
    """Reads a ConfigMap once, as `kubectl` would, and those beside it that a label selector selects.

    Args:
        namespace: Its namespace; empty for that of the kubeconfig's current context.
        name: Its name.
        key: The key of its ``data`` that holds the document.
        label_selector: Which others are read; empty for none.
        timeout_seconds: How long to wait for the API server.

    Raises:
        SourceError: They cannot be read, or the first has no such key.
    """
    configuration = Configuration()
    try:
        own_namespace = await _load_config(configuration)
    except config.ConfigException as error:
        raise SourceError(f"no way to a cluster: {error}", outcome="unavailable") from None
    except Exception as error:  # noqa: BLE001  what is wrong with a kubeconfig is not to be quoted: it holds tokens
        kind = type(error).__name__
        raise SourceError(
            f"no way to a cluster: the kubeconfig cannot be used ({kind})", outcome="unavailable"
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
        # Its own words are for a hub and whoever administers it.
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
    """Fills in the way to the API server, and returns the namespace that one is in there."""
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
