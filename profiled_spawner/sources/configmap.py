"""Documents in ConfigMaps: in one, or in all that a label selector selects.

All requests to the API server are here.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import aiohttp

from ..document.limits import MAX_SELECTED_CHARACTERS, find_within
from ..errors import SourceError
from .extract import Text, explain_missing_key
from .source import Revision
from .threads import SMALL_JSON, low_latency

__all__ = ["MAX_SELECTED_BYTES", "ConfigMapSource", "ListBytes", "SelectedConfigMap", "SelectedConfigMapsSource"]

# etcd limits an object to about 1.5 MiB; JSON may double that.
_MAX_CONFIGMAP_BYTES = 8 * 2**20
# For all ConfigMaps that a selector selects.
MAX_SELECTED_BYTES = 16 * 2**20

# Names, uids and versions appear in logs, annotations and metrics. Those that Kubernetes assigns always match this.
_IDENTIFIER = re.compile("[!-~]{1,253}")

_VERSION = re.compile(rb'"resourceVersion": ?"[0-9]*"')
_ITEMS = re.compile(r'"items"\s*:\s*\[\s*')
_COMMA = re.compile(r"\s*,\s*")


@dataclass(frozen=True, slots=True)
class ConfigMapSource:
    """A document under a key of a ConfigMap.

    Attributes:
        namespace: The ConfigMap's namespace.
        configmap: Its name.
        key: The key of its ``data``.
        api: A CoreV1Api of kubernetes_asyncio that belongs to the running event loop.
        timeout_seconds: How long one request may take.
    """

    namespace: str
    configmap: str
    key: str
    api: Any = field(compare=False, repr=False)
    timeout_seconds: float = field(compare=False)

    @property
    def name(self) -> str:
        return f"configmap/{self.namespace}/{self.configmap}"

    async def fetch(self) -> bytes:
        """Sends one GET, without a resourceVersion: Kubernetes then guarantees the most recent state.

        Raises:
            SourceError: There is no ConfigMap in the answer, or no answer. The message says how to fix it.
        """
        request = self.api.read_namespaced_config_map(
            self.configmap, self.namespace, _preload_content=False, _request_timeout=self.timeout_seconds
        )
        too_large = f"the answer for {self.name} is larger than any ConfigMap"
        return await _fetch(request, self, max_bytes=_MAX_CONFIGMAP_BYTES, too_large=too_large)

    def extract(self, raw: bytes) -> Revision:
        """Returns the document in the ConfigMap's bytes. Its version is the ConfigMap's uid and resourceVersion."""
        with low_latency(len(raw), SMALL_JSON):
            return _find_revision(_load_json(raw), self.name, self.key)


@dataclass(frozen=True, slots=True)
class SelectedConfigMap:
    """One of the ConfigMaps that a label selector selects.

    Attributes:
        name: Its name.
        uid: Its uid. An earlier or later ConfigMap of the same name has another one.
        source: Its name in messages, such as ``configmap/jhub/forecasting``.
        manifest: The object.
        key: The key of its ``data`` that holds the document.
        is_within_limit: False if all selected documents together exceed `MAX_SELECTED_CHARACTERS`, and this is one of
            the largest.
    """

    name: str
    uid: str
    source: str
    manifest: Any = field(repr=False)
    key: str
    is_within_limit: bool = True

    @property
    def text(self) -> str:
        """The document's text, unchecked; empty if there is none."""
        data = self.manifest.get("data")
        text = data.get(self.key) if isinstance(data, dict) else None
        return text if isinstance(text, str) else ""

    def extract(self) -> Revision:
        """Returns the document.

        Raises:
            SourceError: There is no document, or it is over the limit.
        """
        if not self.is_within_limit:
            raise SourceError(
                f"the selected ConfigMaps have more than {MAX_SELECTED_CHARACTERS >> 20} MiB of documents together, "
                "and it is one of the largest",
                outcome="unavailable",
            )
        return _find_revision(self.manifest, self.source, self.key)


@dataclass(frozen=True, slots=True)
class SelectedConfigMapsSource:
    """A document under a key of each ConfigMap that a label selector selects.

    Attributes:
        namespace: The ConfigMaps' namespace.
        label_selector: The selector.
        key: The key of their ``data``.
        excluded: The name of a ConfigMap to ignore, because it is read by itself; None for none.
        api: A CoreV1Api of kubernetes_asyncio that belongs to the running event loop.
        timeout_seconds: How long one request may take.
    """

    namespace: str
    label_selector: str
    key: str
    excluded: str | None
    api: Any = field(compare=False, repr=False)
    timeout_seconds: float = field(compare=False)

    @property
    def name(self) -> str:
        return f"configmaps/{self.namespace}?labelSelector={self.label_selector}"

    async def fetch(self) -> bytes:
        """Sends one LIST, without a resourceVersion: Kubernetes then guarantees the most recent state.

        Raises:
            SourceError: There is no list in the answer, or no answer. The message says how to fix it.
        """
        request = self.api.list_namespaced_config_map(
            self.namespace,
            label_selector=self.label_selector,
            _preload_content=False,
            _request_timeout=self.timeout_seconds,
        )
        too_large = f"the ConfigMaps of {self.name} are larger than {MAX_SELECTED_BYTES >> 20} MiB together"
        return await _fetch(request, self, max_bytes=MAX_SELECTED_BYTES, too_large=too_large)

    def extract(self, raw: bytes) -> tuple[SelectedConfigMap, ...]:
        """Returns the ConfigMaps in the bytes that `fetch` returned, in order of name.

        Raises:
            SourceError: The bytes are not a complete list of ConfigMaps.
        """
        items = _find_items(_load_list(raw))
        found = {}
        for manifest in items or ():
            metadata = _find_metadata(manifest)
            if metadata is not None:
                source = f"configmap/{self.namespace}/{metadata.name}"
                found[metadata.name] = SelectedConfigMap(metadata.name, metadata.uid, source, manifest, self.key)
        # There are fewer if an item is not a ConfigMap, or if two have the same name.
        if items is None or len(found) < len(items):
            raise SourceError(f"the answer for {self.name} is no list of ConfigMaps", outcome="unavailable")
        selected = [found[name] for name in sorted(found) if name != self.excluded]
        within = find_within([len(configmap.text) for configmap in selected], MAX_SELECTED_CHARACTERS)
        return tuple(
            replace(configmap, is_within_limit=position in within) for position, configmap in enumerate(selected)
        )


@dataclass(frozen=True, slots=True)
class ListBytes:
    """The bytes of a list, to see whether the next list has the same ConfigMaps.

    The list's own resourceVersion is left out, because it changes with every edit of any object in the cluster.

    Attributes:
        head: Everything before the items.
        items: The rest.
    """

    # Not in the repr: they hold values of environment variables.
    head: bytes = field(repr=False)
    items: bytes = field(repr=False)

    @classmethod
    def of(cls, raw: bytes) -> ListBytes:
        """Returns the parts of the bytes that `SelectedConfigMapsSource.fetch` returned."""
        begin = max(raw.find(b'"items"'), 0)
        return cls(_VERSION.sub(b"", raw[:begin], count=1), raw[begin:])

    def matches(self, raw: bytes) -> bool:
        """Whether a list has the same ConfigMaps.

        It compares the bytes without copying them. A checksum would take longer than reading them.
        """
        head = raw[: len(raw) - len(self.items)]
        return raw.endswith(self.items) and _VERSION.sub(b"", head, count=1) == self.head


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes = field(repr=False)
    retry_after: str

    @property
    def message(self) -> str:
        """The message of the Kubernetes Status in the body, as ``: message``; empty if the body is not a Status."""
        try:
            message = json.loads(self.body[:65536])["message"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return ""
        return f": {message[:500]}" if isinstance(message, str) and message else ""


async def _fetch(
    # With `_preload_content=False`, the client neither deserializes the body nor logs it at DEBUG.
    request: Awaitable[aiohttp.ClientResponse],
    source: ConfigMapSource | SelectedConfigMapsSource,
    *,
    max_bytes: int,
    too_large: str,
) -> bytes:
    """Returns the body of the answer to a request of the client.

    Args:
        request: The request.
        source: The source that sends it.
        max_bytes: The largest body to accept.
        too_large: The error message for a larger one.

    Raises:
        SourceError: There is no answer, it is too large, or its status is not 200.
    """
    try:
        async with await request as response:
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > max_bytes:
                    raise SourceError(too_large, outcome="unavailable")
    except TimeoutError:
        raise SourceError(
            f"the API server gave no answer for {source.name} within {source.timeout_seconds:g} s",
            outcome="unavailable",
            transient=True,
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        # aiohttp's parser errors may quote the body, so show only their type.
        why = (isinstance(error, OSError) and str(error)) or type(error).__name__
        raise SourceError(
            f"the API server could not be asked for {source.name}: {why}",
            outcome="unavailable",
            # A retry does not make a certificate valid.
            transient=not isinstance(error, aiohttp.ClientSSLError | ssl.SSLError),
        ) from None
    answer = _Response(response.status, b"".join(chunks), response.headers.get("Retry-After", ""))
    if answer.status != 200:
        raise _explain_status(answer, source)
    return answer.body


def _explain_status(response: _Response, source: ConfigMapSource | SelectedConfigMapsSource) -> SourceError:
    """Returns the error for an answer whose status is not 200."""
    status, message, retry_after = response.status, response.message, response.retry_after
    name, namespace = source.name, source.namespace
    outcome: Literal["unavailable", "refused", "missing"] = "unavailable"
    transient = False
    match status, source:
        case 400, SelectedConfigMapsSource():
            what = f"the API server cannot answer for {name} (400{message}); check the label selector"
        case 401, _:
            outcome = "refused"
            what = (
                f"the API server did not accept the hub's credentials when asked for {name} (401{message}); "
                "check the hub's service account and its token"
            )
        case 403, ConfigMapSource(configmap=configmap):
            outcome = "refused"
            what = (
                f"the hub may not read {name} (403{message}); add this rule to its Role in namespace {namespace}: "
                f'{{apiGroups: [""], resources: ["configmaps"], resourceNames: ["{configmap}"], verbs: ["get"]}}'
            )
        case 403, SelectedConfigMapsSource():
            outcome = "refused"
            what = (
                f"the hub may not list {name} (403{message}); add this rule to its Role in namespace {namespace}: "
                '{apiGroups: [""], resources: ["configmaps"], verbs: ["list"]}, '
                "without resourceNames, which do not work for a list with a label selector"
            )
        case 404, ConfigMapSource(configmap=configmap, key=key):
            outcome = "missing"
            what = (
                f"there is no ConfigMap {configmap!r} in namespace {namespace!r} (404); create it with the document "
                f"under the key {key!r}, or name another with configmap_name and configmap_namespace"
            )
        case _:
            transient = status == 429 or status >= 500
            what = f"the API server answered {status} when asked for {name}{message}"
    retry_after_seconds = float(retry_after) if retry_after.isdecimal() else 0
    return SourceError(what, outcome=outcome, transient=transient, retry_after_seconds=retry_after_seconds)


def _load_json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _load_list(raw: bytes) -> Any:
    """Decodes a list item by item: the decoder holds the GIL for a whole call."""
    try:
        text = raw.decode()
        found = _ITEMS.search(text)
        if found is None:
            return json.loads(text)
        items: list[Any] = []
        decode = json.JSONDecoder().raw_decode
        end = found.end()
        more = not text.startswith("]", end)
        while more:
            item, end = decode(text, end)
            items.append(item)
            if more := (comma := _COMMA.match(text, end)) is not None:
                end = comma.end()
        answer = json.loads(text[: found.end()] + text[end:])
    except (ValueError, RecursionError):
        return None
    # It is something else if `items` was found inside another member, or if the list has two of them.
    if not isinstance(answer, dict) or answer.get("items") != []:
        return None
    return {**answer, "items": items}


@dataclass(frozen=True, slots=True)
class _Metadata:
    name: str
    uid: str
    resource_version: str


def _find_metadata(manifest: Any) -> _Metadata | None:
    """Returns an object's identifiers; None if one is missing, or cannot be from Kubernetes."""
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    if not isinstance(metadata, dict):
        return None
    found = [metadata.get(name) for name in ("name", "uid", "resourceVersion")]
    texts = [text for text in found if isinstance(text, str) and _IDENTIFIER.fullmatch(text)]
    return _Metadata(*texts) if len(texts) == len(found) else None


def _find_items(answer: Any) -> list[Any] | None:
    """Returns the objects of a list; None if it is not a complete list of ConfigMaps."""
    if not isinstance(answer, dict) or answer.get("kind") != "ConfigMapList":
        return None
    metadata, items = answer.get("metadata"), answer.get("items", "")
    # A `continue` token means that there are more pages, although the request did not set a limit.
    if not isinstance(metadata, dict) or metadata.get("continue"):
        return None
    return [] if items is None else items if isinstance(items, list) else None


def _find_revision(manifest: Any, name: str, key: str) -> Revision:
    """Returns the document in a ConfigMap that the API server sent.

    Raises:
        SourceError: It is not a ConfigMap, or does not have the key.
    """
    metadata = _find_metadata(manifest)
    data, binary_data = (manifest.get("data"), manifest.get("binaryData")) if metadata else (None, None)
    if (
        metadata is None
        # The items of a list have no kind.
        or manifest.get("kind", "ConfigMap") != "ConfigMap"
        or not isinstance(data, dict | None)
        or not isinstance(binary_data, dict | None)
        or not isinstance((data or {}).get(key, ""), str)
    ):
        raise SourceError(f"the answer for {name} is no ConfigMap", outcome="unavailable")
    if data is None or key not in data:
        raise explain_missing_key(key, data or {}, binary_data or {}, f"ConfigMap {name[10:]}")
    version = metadata.resource_version
    return Revision((metadata.uid, version), f"{name}@{version}", Text(data[key]))
