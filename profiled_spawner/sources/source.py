"""What every source has in common: it fetches bytes, and finds the document's text in them.

Reading takes two steps. `fetch` gets the bytes on the event loop, without blocking it. `extract` turns them into text.
That may take long for a large document, so it belongs in a thread.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from .extract import Text

__all__ = ["ByteSource", "Revision", "Source"]


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of a source.

    Attributes:
        version: Two revisions of a source with equal versions have the same content.
        name: The revision's name in messages, such as ``configmap/jhub/jupyter-singleuser-profiles@123456``.
        text: The document.
    """

    version: Hashable
    name: str
    text: Text


class ByteSource(Protocol):
    """Something that bytes are fetched from."""

    @property
    def name(self) -> str:
        """The name in messages, such as ``configmap/jhub/jupyter-singleuser-profiles``."""

    async def fetch(self) -> bytes:
        """Returns the current content.

        Raises:
            SourceError: It could not be fetched.
        """


class Source(ByteSource, Protocol):
    """Something that holds one document. Equal sources share a store."""

    @property
    def key(self) -> str:
        """The key of a ConfigMap's ``data`` that holds the document."""

    def extract(self, raw: bytes) -> Revision:
        """Returns the document in the bytes that `fetch` returned.

        Raises:
            SourceError: The bytes do not hold it.
            DocumentError: The document is not UTF-8 text.
        """
