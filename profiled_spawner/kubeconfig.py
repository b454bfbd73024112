"""A live ConfigMap, read by a person: with their kubeconfig, or in a pod with its service account."""

from __future__ import annotations

import os
from pathlib import Path

from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubernetes_asyncio.config import kube_config

from .errors import SourceError
from .sources import ConfigMapSource, Revision

__all__ = ["read_configmap"]

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def read_configmap(namespace: str, name: str, key: str, *, timeout_seconds: float) -> Revision:
    """Reads a ConfigMap once, as `kubectl` would.

    Args:
        namespace: Its namespace; empty for that of the kubeconfig's current context.
        name: Its name.
        key: The key of its ``data`` that holds the document.
        timeout_seconds: How long to wait for the API server.

    Raises:
        SourceError: It cannot be read, or has no such key.
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
        source = ConfigMapSource(namespace, name, key, CoreV1Api(client), timeout_seconds)
        try:
            raw = await source.fetch()
        except SourceError as error:
            # Its own words are for a hub and whoever administers it.
            if error.outcome == "missing":
                what = f"there is no ConfigMap {name!r} in namespace {namespace!r}"
            elif error.outcome == "refused":
                what = (
                    f"you may not read {source.name} with these credentials; "
                    f"see `kubectl auth can-i get configmaps/{name} --namespace {namespace}`"
                )
            else:
                raise
            raise SourceError(what, outcome=error.outcome) from None
    return source.extract(raw)


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
