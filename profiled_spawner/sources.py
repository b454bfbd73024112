"""Where the document's text lives: a ConfigMap or a file. The only I/O.

A source is read in two steps. `fetch` brings bytes, on the event loop without blocking it; `extract` makes text of
them, which may take long for a large document and so belongs in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from .errors import SourceError
from .manifest import MAX_MANIFEST_BYTES, Text, decode_text, find_document, missing_key

__all__ = ["ConfigMapSource", "FileSource", "Revision", "Source"]

# An object is at most about 1.5 MiB in etcd; JSON may double that.
_MAX_RESPONSE_BYTES = 8 * 2**20


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


class Source(Protocol):
    """Where a document is read from. Equal sources are one."""

    @property
    def name(self) -> str:
        """What people know it by, such as ``configmap/jhub/jupyter-singleuser-profiles``."""

    @property
    def key(self) -> str:
        """The key of a ConfigMap's ``data`` that holds the document."""

    async def fetch(self) -> bytes:
        """Brings the source's bytes as they are now.

        Raises:
            SourceError: It could not.
        """

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
        try:
            # Without preloading, the client neither deserializes the body nor logs it at DEBUG.
            response = await self.api.read_namespaced_config_map(
                self.configmap,
                self.namespace,
                _preload_content=False,
                _request_timeout=self.timeout_seconds,
            )
            async with response:
                body = await self._read(response.content)
        except TimeoutError:
            raise SourceError(
                f"the API server gave no answer for {self.name} within {self.timeout_seconds:g} s",
                outcome="unavailable",
                transient=True,
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            # What is no OSError is the parser's, who quotes the answer that it stumbled over.
            why = (isinstance(error, OSError) and str(error)) or type(error).__name__
            raise SourceError(
                f"the API server could not be asked for {self.name}: {why}",
                outcome="unavailable",
                # A certificate does not become valid by asking again.
                transient=not isinstance(error, aiohttp.ClientSSLError | ssl.SSLError),
            ) from None
        if response.status == 200:
            return body
        raise self._refusal(response.status, body, response.headers.get("Retry-After", ""))

    async def _read(self, content: aiohttp.StreamReader) -> bytes:
        body = bytearray()
        async for chunk in content.iter_any():
            body += chunk
            if len(body) > _MAX_RESPONSE_BYTES:
                raise SourceError(f"the answer for {self.name} is larger than any ConfigMap", outcome="unavailable")
        return bytes(body)

    def _refusal(self, status: int, body: bytes, retry_after: str) -> SourceError:
        said = _status_message(body)
        if status == 401:
            return SourceError(
                f"the API server did not accept the hub's credentials when asked for {self.name} (401{said}); "
                "check the hub's service account and its token",
                outcome="refused",
            )
        if status == 403:
            return SourceError(
                f"the hub may not read {self.name} (403{said}); add this rule to its Role in namespace "
                f'{self.namespace}: {{apiGroups: [""], resources: ["configmaps"], '
                f'resourceNames: ["{self.configmap}"], verbs: ["get"]}}',
                outcome="refused",
            )
        if status == 404:
            return SourceError(
                f"there is no ConfigMap {self.configmap!r} in namespace {self.namespace!r} (404); create it with the "
                f"document under the key {self.key!r}, or name another with configmap_name and configmap_namespace",
                outcome="missing",
            )
        return SourceError(
            f"the API server answered {status} when asked for {self.name}{said}",
            outcome="unavailable",
            transient=status == 429 or status >= 500,
            retry_after_seconds=float(retry_after) if retry_after.isdecimal() else 0,
        )

    def extract(self, raw: bytes) -> Revision:
        try:
            manifest = json.loads(raw)
            metadata = manifest["metadata"]
            version = (metadata["uid"], metadata["resourceVersion"])
            data = manifest.get("data") or {}
            text = data.get(self.key)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            manifest = text = None
        if manifest is None or not isinstance(text, str | None):
            raise SourceError(f"the answer for {self.name} is no ConfigMap", outcome="unavailable")
        if text is None:
            raise missing_key(self.key, data, manifest.get("binaryData") or {}, f"ConfigMap {self.name[10:]}")
        return Revision(version, f"{self.name}@{metadata['resourceVersion']}", Text(text))


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
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                # One more than is allowed, to see that there is more.
                return file.read(MAX_MANIFEST_BYTES + 1)
        except FileNotFoundError:
            raise SourceError(f"there is no file {self.path}", outcome="missing") from None
        except PermissionError:
            raise SourceError(f"{self.path} may not be read: permission denied", outcome="refused") from None
        except OSError as error:
            raise SourceError(f"{self.path} could not be read: {error.strerror}", outcome="unavailable") from None

    def extract(self, raw: bytes) -> Revision:
        digest = hashlib.sha256(raw).hexdigest()
        text = find_document(decode_text(raw, source=str(self.path)), self.key, source=str(self.path))
        return Revision(digest, f"{self.name}@sha256:{digest[:12]}", text)


def _status_message(body: bytes) -> str:
    """What the API server's Status says, as ``: text``; nothing if it is none."""
    try:
        message = json.loads(body[:65536])["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return f": {message[:500]}" if isinstance(message, str) and message else ""
