"""Where the document's text lives: a ConfigMap or a file. The only I/O.

A source is read in two steps. `fetch` brings bytes, on the event loop without blocking it; `extract` makes text of
them, which may take long for a large document and so belongs in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import ssl
import stat
from collections.abc import Awaitable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from weakref import WeakKeyDictionary

import aiohttp

from ..document.limits import MAX_SELECTED_CHARACTERS, find_within
from ..errors import SourceError
from .extract import MAX_MANIFEST_BYTES, Text, decode_text, find_document, missing_key
from .threads import Single

__all__ = [
    "ConfigMapSource",
    "Fetching",
    "FileSource",
    "Revision",
    "SelectedConfigMap",
    "SelectedConfigMapsSource",
    "Source",
    "open_file",
]

# An object is at most about 1.5 MiB in etcd; JSON may double that.
_MAX_CONFIGMAP_BYTES = 8 * 2**20
# Of all the ConfigMaps that a selector selects.
_MAX_SELECTED_BYTES = 16 * 2**20

# Names, uids and versions stand in logs, annotations and metrics. None that Kubernetes gives is longer, or of other
# characters.
_IDENTIFIER = re.compile("[!-~]{1,253}")

_VERSION = re.compile(rb'"resourceVersion": ?"[0-9]*"')
_ITEMS = re.compile(r'"items"\s*:\s*\[\s*')
_COMMA = re.compile(r"\s*,\s*")


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of a source.

    Attributes:
        version: What tells it from every other; equal means unchanged.
        name: What people know it by, such as ``configmap/jhub/jupyter-singleuser-profiles@123456``.
        text: The document.
    """

    version: Hashable
    name: str
    text: Text


class Fetching(Protocol):
    """Where bytes are read from."""

    @property
    def name(self) -> str:
        """What people know it by, such as ``configmap/jhub/jupyter-singleuser-profiles``."""

    async def fetch(self) -> bytes:
        """Brings the source's bytes as they are now.

        Raises:
            SourceError: It could not.
        """


class Source(Fetching, Protocol):
    """Where a document is read from. Equal sources are one."""

    @property
    def key(self) -> str:
        """The key of a ConfigMap's ``data`` that holds the document."""

    def extract(self, raw: bytes) -> Revision:
        """Finds the document in what `fetch` brought.

        Raises:
            SourceError: It is not there.
            DocumentError: It is no text.
        """


@dataclass(frozen=True, slots=True)
class ConfigMapSource:
    """A key of a ConfigMap.

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
        """Sends one GET. Without a resourceVersion, the API server answers with the newest state there is."""
        response = await _request(
            self.api.read_namespaced_config_map(
                self.configmap,
                self.namespace,
                _preload_content=False,
                _request_timeout=self.timeout_seconds,
            ),
            self.name,
            self.timeout_seconds,
            max_bytes=_MAX_CONFIGMAP_BYTES,
            too_large=f"the answer for {self.name} is larger than any ConfigMap",
        )
        if response.status == 200:
            return response.body
        if response.status == 403:
            raise SourceError(
                f"the hub may not read {self.name} (403{response.message}); add this rule to its Role in namespace "
                f'{self.namespace}: {{apiGroups: [""], resources: ["configmaps"], '
                f'resourceNames: ["{self.configmap}"], verbs: ["get"]}}',
                outcome="refused",
            )
        if response.status == 404:
            raise SourceError(
                f"there is no ConfigMap {self.configmap!r} in namespace {self.namespace!r} (404); create it with the "
                f"document under the key {self.key!r}, or name another with configmap_name and configmap_namespace",
                outcome="missing",
            )
        raise _refusal(response, self.name)

    def extract(self, raw: bytes) -> Revision:
        return _find_revision(_read_json(raw), self.name, self.key)


@dataclass(frozen=True, slots=True)
class SelectedConfigMap:
    """One of the ConfigMaps that a selector selects.

    Attributes:
        name: Its name.
        uid: What tells it from one of the same name before or after it.
        source: What people know it by, such as ``configmap/jhub/forecasting``.
        manifest: The object.
        key: The key of its ``data`` that holds the document.
        counts: Whether it is not among the largest of those that have more than `MAX_SELECTED_CHARACTERS` together.
    """

    name: str
    uid: str
    source: str
    manifest: Any = field(repr=False)
    key: str
    counts: bool = True

    @property
    def text(self) -> str:
        """The document as it stands there; empty where there is none."""
        data = self.manifest.get("data")
        text = data.get(self.key) if isinstance(data, dict) else None
        return text if isinstance(text, str) else ""

    def extract(self) -> Revision:
        """Finds the document.

        Raises:
            SourceError: It is not there, or does not count.
        """
        if not self.counts:
            raise SourceError(
                f"the selected ConfigMaps have more than {MAX_SELECTED_CHARACTERS >> 20} MiB of documents together, "
                "and it is one of the largest",
                outcome="unavailable",
            )
        return _find_revision(self.manifest, self.source, self.key)


@dataclass(frozen=True, slots=True)
class SelectedConfigMapsSource:
    """A key of each ConfigMap that a label selector selects.

    Attributes:
        namespace: The ConfigMaps' namespace.
        label_selector: Which they are.
        key: The key of their ``data``.
        excluded: The name of one that does not count as selected, since it is read by itself; None for no such.
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
        """Sends one LIST. Without a resourceVersion, the API server answers with the newest state there is."""
        response = await _request(
            self.api.list_namespaced_config_map(
                self.namespace,
                label_selector=self.label_selector,
                _preload_content=False,
                _request_timeout=self.timeout_seconds,
            ),
            self.name,
            self.timeout_seconds,
            max_bytes=_MAX_SELECTED_BYTES,
            too_large=f"the ConfigMaps of {self.name} are larger than {_MAX_SELECTED_BYTES >> 20} MiB together",
        )
        if response.status == 200:
            return response.body
        if response.status == 400:
            raise SourceError(
                f"the API server cannot answer for {self.name} (400{response.message}); check the label selector",
                outcome="unavailable",
            )
        if response.status == 403:
            raise SourceError(
                f"the hub may not list {self.name} (403{response.message}); add this rule to its Role in namespace "
                f'{self.namespace}: {{apiGroups: [""], resources: ["configmaps"], verbs: ["list"]}}, '
                "without resourceNames, which cannot be given for a list with a label selector",
                outcome="refused",
            )
        raise _refusal(response, self.name)

    @staticmethod
    def digest(raw: bytes) -> bytes:
        """What tells the ConfigMaps in what `fetch` brought from others.

        It does not take in the list's own version, which every edit in the cluster changes.
        """
        begin = max(raw.find(b'"items"'), 0)
        digest = hashlib.sha256(_VERSION.sub(b"", raw[:begin], count=1))
        digest.update(memoryview(raw)[begin:])
        return digest.digest()

    def extract(self, raw: bytes) -> tuple[SelectedConfigMap, ...]:
        """Finds the ConfigMaps in what `fetch` brought, in order of name.

        Raises:
            SourceError: It is no list of them, or not all of it.
        """
        items = _find_items(_read_list(raw))
        found = {}
        for manifest in items or ():
            metadata = _find_metadata(manifest)
            if metadata is not None:
                source = f"configmap/{self.namespace}/{metadata.name}"
                found[metadata.name] = SelectedConfigMap(metadata.name, metadata.uid, source, manifest, self.key)
        # Fewer are found where one is no ConfigMap, or where two have one name.
        if items is None or len(found) < len(items):
            raise SourceError(f"the answer for {self.name} is no list of ConfigMaps", outcome="unavailable")
        selected = [found[name] for name in sorted(found) if name != self.excluded]
        within = find_within([len(configmap.text) for configmap in selected], MAX_SELECTED_CHARACTERS)
        return tuple(replace(configmap, counts=position in within) for position, configmap in enumerate(selected))


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that holds a bare document or a ConfigMap manifest.

    Attributes:
        path: The file.
        key: The key of the manifest's ``data``.
    """

    path: Path
    key: str

    @property
    def name(self) -> str:
        return f"file/{self.path}"

    async def fetch(self) -> bytes:
        """Reads the file in a thread of its own: its file system may hang.

        Until that ends, no other thread reads the same file; then it is read anew, so that nobody is given an older
        state than that of this call.
        """
        readers = _readers.setdefault(asyncio.get_running_loop(), {})
        return await readers.setdefault(self.path, Single(keeps=False)).run(object(), self._read)

    def _read(self) -> bytes:
        try:
            with open_file(self.path) as file:
                # One more than is allowed, to see that there is more.
                return file.read(MAX_MANIFEST_BYTES + 1)
        except FileNotFoundError:
            raise SourceError(f"there is no file {self.path}", outcome="missing") from None
        except PermissionError:
            raise SourceError(f"{self.path} may not be read: permission denied", outcome="refused") from None
        except OSError as error:
            what = f"{self.path} could not be read: {error.strerror}; name a file that can be, with profiles_file"
            raise SourceError(what, outcome="unavailable") from None

    def extract(self, raw: bytes) -> Revision:
        digest = hashlib.sha256(raw).hexdigest()
        text = find_document(decode_text(raw, source=str(self.path)), self.key, source=str(self.path))
        return Revision(digest, f"{self.name}@sha256:{digest[:12]}", text)


# One that is idle does not refer to its loop, so it goes with that.
_readers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, Single[object, bytes]]] = WeakKeyDictionary()

_KINDS = {
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


@contextmanager
def open_file(path: Path, flags: int = 0) -> Iterator[BinaryIO]:
    """Opens a regular file to read it, and waits for nobody: neither for who writes to a FIFO, nor for a device.

    Args:
        path: The file.
        flags: Further flags for opening it.

    Raises:
        OSError: It cannot be opened, or it is something else, which the error names.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, f"it is {_KINDS[stat.S_IFSOCK]}, not a regular file") from None
        raise
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind != stat.S_IFREG:
            raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes = field(repr=False)
    retry_after: str

    @property
    def message(self) -> str:
        """What the API server's Status says, as ``: text``; nothing if it is none."""
        try:
            message = json.loads(self.body[:65536])["message"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return ""
        return f": {message[:500]}" if isinstance(message, str) and message else ""


async def _request(
    # Without preloading, the client neither deserializes the body nor logs it at DEBUG.
    answering: Awaitable[aiohttp.ClientResponse],
    name: str,
    timeout_seconds: float,
    *,
    max_bytes: int,
    too_large: str,
) -> _Response:
    """Waits for the answer to a request of the client, whatever its status.

    Args:
        answering: The request.
        name: What it asks for.
        timeout_seconds: How long it may take.
        max_bytes: How much of an answer is read.
        too_large: What is wrong where there is more.

    Raises:
        SourceError: There is no answer.
    """
    try:
        async with await answering as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise SourceError(too_large, outcome="unavailable")
    except TimeoutError:
        raise SourceError(
            f"the API server gave no answer for {name} within {timeout_seconds:g} s",
            outcome="unavailable",
            transient=True,
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        # What is no OSError is the parser's, who quotes the answer that it stumbled over.
        why = (isinstance(error, OSError) and str(error)) or type(error).__name__
        raise SourceError(
            f"the API server could not be asked for {name}: {why}",
            outcome="unavailable",
            # A certificate does not become valid by asking again.
            transient=not isinstance(error, aiohttp.ClientSSLError | ssl.SSLError),
        ) from None
    return _Response(response.status, bytes(body), response.headers.get("Retry-After", ""))


def _refusal(response: _Response, name: str) -> SourceError:
    """Why there is nothing in an answer, where that does not depend on what was asked for."""
    status, retry_after = response.status, response.retry_after
    if status == 401:
        return SourceError(
            f"the API server did not accept the hub's credentials when asked for {name} (401{response.message}); "
            "check the hub's service account and its token",
            outcome="refused",
        )
    return SourceError(
        f"the API server answered {status} when asked for {name}{response.message}",
        outcome="unavailable",
        transient=status == 429 or status >= 500,
        retry_after_seconds=float(retry_after) if retry_after.isdecimal() else 0,
    )


def _read_json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _read_list(raw: bytes) -> Any:
    """Decodes a list, its items one by one: no other thread runs while the decoder is at work."""
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
    # Something else where the items were in a member of the list, or where there is another member of that name.
    if not isinstance(answer, dict) or answer.get("items") != []:
        return None
    return {**answer, "items": items}


@dataclass(frozen=True, slots=True)
class _Metadata:
    name: str
    uid: str
    resource_version: str


def _find_metadata(manifest: Any) -> _Metadata | None:
    """What an object is known by; None if it is no object, or known by anything that Kubernetes does not give it."""
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    if not isinstance(metadata, dict):
        return None
    found = [metadata.get(name) for name in ("name", "uid", "resourceVersion")]
    texts = [text for text in found if isinstance(text, str) and _IDENTIFIER.fullmatch(text)]
    return _Metadata(*texts) if len(texts) == len(found) else None


def _find_items(answer: Any) -> list[Any] | None:
    """The objects of a list; None if it is no list of ConfigMaps, or not all of it."""
    if not isinstance(answer, dict) or answer.get("kind") != "ConfigMapList":
        return None
    metadata, items = answer.get("metadata"), answer.get("items", "")
    # A token means that there is more, though nothing was said of pages when it was asked for.
    if not isinstance(metadata, dict) or metadata.get("continue"):
        return None
    return [] if items is None else items if isinstance(items, list) else None


def _find_revision(manifest: Any, name: str, key: str) -> Revision:
    """Finds the document in a ConfigMap as the API server gives it."""
    metadata = _find_metadata(manifest)
    data, binary_data = (manifest.get("data"), manifest.get("binaryData")) if metadata else (None, None)
    if (
        metadata is None
        # The objects of a list do not say it.
        or manifest.get("kind", "ConfigMap") != "ConfigMap"
        or not isinstance(data, dict | None)
        or not isinstance(binary_data, dict | None)
        or not isinstance((data or {}).get(key, ""), str)
    ):
        raise SourceError(f"the answer for {name} is no ConfigMap", outcome="unavailable")
    if data is None or key not in data:
        raise missing_key(key, data or {}, binary_data or {}, f"ConfigMap {name[10:]}")
    version = metadata.resource_version
    return Revision((metadata.uid, version), f"{name}@{version}", Text(data[key]))
