"""A document in a file, and how the hub opens files that may hang."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from weakref import WeakKeyDictionary

from ..errors import SourceError
from .extract import MAX_MANIFEST_BYTES, decode_text, find_document
from .source import Revision
from .threads import SingleFlight, low_latency

__all__ = ["FileSource", "open_file"]

_KINDS = {
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


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
        """Reads the file in a thread of its own, because its file system may hang.

        Only one thread at a time reads the same file. A call that comes meanwhile waits for that thread and then reads
        the file again, so it never returns content that is older than the call.

        Raises:
            SourceError: The file cannot be read.
        """
        readers = _readers.setdefault(asyncio.get_running_loop(), {})
        return await readers.setdefault(self.path, SingleFlight(caches=False)).run(object(), self._read)

    def _read(self) -> bytes:
        try:
            with open_file(self.path) as file:
                # One byte over the limit, which shows that the file is too large.
                return file.read(MAX_MANIFEST_BYTES + 1)
        except FileNotFoundError:
            raise SourceError(f"there is no file {self.path}", outcome="missing") from None
        except PermissionError:
            raise SourceError(f"{self.path} may not be read: permission denied", outcome="refused") from None
        except OSError as error:
            what = f"{self.path} could not be read: {error.strerror}; name a readable file in profiles_file"
            raise SourceError(what, outcome="unavailable") from None

    def extract(self, raw: bytes) -> Revision:
        """Returns the document in the file's bytes. Its version is their checksum."""
        digest = hashlib.sha256(raw).hexdigest()
        with low_latency(len(raw)):
            text = find_document(decode_text(raw, source=str(self.path)), self.key, source=str(self.path))
        return Revision(digest, f"{self.name}@sha256:{digest[:12]}", text)


# An idle reader does not refer to its event loop, so both go together.
_readers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, SingleFlight[object, bytes]]] = WeakKeyDictionary()


@contextmanager
def open_file(path: Path, flags: int = 0) -> Iterator[BinaryIO]:
    """Opens a regular file for reading. Never blocks on a FIFO without a writer, or on a device.

    Args:
        path: The file.
        flags: Further flags for ``os.open``.

    Raises:
        OSError: The file cannot be opened, or it is not a regular file; the error says what it is.
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
