"""The file that keeps the last good documents over a restart of the hub.

It holds values of environment variables. So only the hub's own user may read it, and its content is never logged.
The file is JSON Lines: a header with the format's number and a checksum of the rest, then one line per document.
It is read and written in threads of their own, so a file system that hangs blocks nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from ..errors import SourceError
from .extract import Text
from .file import open_file
from .source import Revision
from .threads import SMALL_JSON, SingleFlight, low_latency, run_in_daemon

__all__ = [
    "LastGoodFile",
    "LastGoodLookup",
    "Saved",
    "all_files",
    "format_content",
    "get_last_good_file",
    "parse_content",
]

_FORMAT = 1
# The selected ConfigMaps have at most 16 MiB, the main one far less, and JSON escapes may triple that.
_MAX_BYTES = 64 * 2**20
# How long a start waits for the file, at most.
_LOOKUP_SECONDS = 5.0

T = TypeVar("T")


class Log(Protocol):
    """The methods of a log that this module calls."""

    def info(self, msg: str, /, *args: object) -> None: ...
    def warning(self, msg: str, /, *args: object) -> None: ...
    def error(self, msg: str, /, *args: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Saved:
    """A good document, as the file holds it.

    Attributes:
        revision: The revision's name, such as ``configmap/jhub/jupyter-singleuser-profiles@123456``.
        text: The document.
        read_at: When the revision was first read, in seconds since 1970.
        configmap: The name of a selected ConfigMap; empty for the main document.
        uid: The uid of that ConfigMap; empty for the main document.
    """

    revision: str
    text: Text
    read_at: float = field(compare=False)
    configmap: str = ""
    uid: str = ""

    def to_revision(self) -> Revision:
        """Returns it as a revision that can be parsed."""
        return Revision(None, self.revision, self.text)

    @property
    def age_seconds(self) -> float:
        """How long ago it was read; never negative, even if the clock was set back."""
        return max(0.0, time.time() - self.read_at)


_Content: TypeAlias = dict[str, tuple[Saved, ...]]


class LastGoodFile:
    """The file. All sources of the process share it. Get it with `get_last_good_file`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        # By source: what the file contains or will contain, and the part that is not written yet.
        self._content: _Content = {}
        self._pending: _Content = {}
        self.is_writing = False
        self._last_logged = ""

    def save(self, source: str, documents: tuple[Saved, ...], log: Log) -> None:
        """Replaces the documents of a source, in a thread. Returns at once, and never raises.

        Does nothing if the documents are the same as last time. If writing fails, the file is removed, because it might
        bring back documents that were withdrawn. Then the next call tries again.

        Args:
            source: The source's unique name.
            documents: All of its last good documents.
            log: Where to log what is wrong.
        """
        with self._lock:
            if self._content.get(source) == documents:
                return
            self._content[source] = self._pending[source] = documents
            if self.is_writing:
                return
            self.is_writing = True
        writing = run_in_daemon(lambda: self._write_pending(log))
        if writing.done() and writing.exception():
            # No thread could be started. The next start tries again.
            with self._lock:
                self._content.clear()
                self.is_writing = False

    def load(self) -> _Content:
        """Reads the file. Call it in a thread, because the file system may hang.

        Returns:
            The documents by source; empty if there is no file.

        Raises:
            SourceError: The file must not be used; the message says why.
        """
        try:
            # Does not follow a symbolic link, which somebody else may have put there.
            with open_file(self.path, os.O_NOFOLLOW) as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                # The group's bits are not checked: Kubernetes sets them on every file of a volume if the pod has an
                # fsGroup.
                if mode & 0o007:
                    raise _unusable(f"others may use it (mode {mode:04o}), and it holds secrets; run chmod 600 on it")
                raw = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else f"it cannot be read: {error.strerror}"
            raise _unusable(why) from None
        if len(raw) > _MAX_BYTES:
            raise _unusable(f"it is larger than {_MAX_BYTES >> 20} MiB")
        return parse_content(raw)

    def _write_pending(self, log: Log) -> None:
        while True:
            with self._lock:
                pending, self._pending = self._pending, {}
                if not pending:
                    self.is_writing = False
                    return
            try:
                self.write(pending)
            except Exception as error:  # noqa: BLE001  whatever it is, no older document may come back
                with self._lock:
                    # Makes the next start try again.
                    self._content.clear()
                    self._pending.clear()
                self._remove(_explain(error), log)
            else:
                self._last_logged = ""

    def write(self, pending: Mapping[str, tuple[Saved, ...]]) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Other hubs may share the file. If the file system has no locks, the last writer wins.
            with contextlib.suppress(OSError):
                fcntl.flock(directory, fcntl.LOCK_EX)
                self._remove_leftovers()
            try:
                content = self.load()
            except SourceError:
                content = {}
            self._replace(format_content({**content, **pending}))
            try:
                os.fsync(directory)
            except OSError as error:
                # Some file systems cannot sync directories.
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise
        finally:
            os.close(directory)

    def _replace(self, raw: bytes) -> None:
        """Replaces the file atomically."""
        temporary = self.path.with_name(f"{self._prefix}{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                rest = memoryview(raw)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    @property
    def _prefix(self) -> str:
        """The prefix of temporary files."""
        return f".{self.path.name}."

    def _remove_leftovers(self) -> None:
        """Removes the temporary files of hubs that were killed while writing."""
        for name in os.listdir(self.path.parent):
            if re.fullmatch(rf"{re.escape(self._prefix)}[0-9a-f]{{16}}", name):
                os.unlink(self.path.with_name(name))

    def _remove(self, why: str, log: Log) -> None:
        """Removes the older file because the new one could not be written, and logs that."""
        fault = None
        try:
            os.unlink(self.path)
            removed = "so the older one was removed"
        except FileNotFoundError:
            removed = "and there is no older one"
        except OSError as error:
            fault = _explain(error)
        if fault:
            # Logged every time, because somebody must act at once.
            log.error(
                "Could not write %s, because %s; nor could the older one be removed: %s; remove it before the hub "
                "restarts, or that may bring back profiles that are no longer in the document",
                str(self.path),
                why,
                fault,
            )
        elif why != self._last_logged:
            log.warning(
                "Could not write %s, because %s, %s; a hub that restarts now has no last good profiles; make room, or "
                "set last_good_path to a file in a directory that the hub may write to; the next start tries again",
                str(self.path),
                why,
                removed,
            )
        self._last_logged = why


class LastGoodLookup(Generic[T]):
    """Looks up the documents of one source in the file, until the file could be read once."""

    def __init__(self, source: str, parse: Callable[[Saved], T]) -> None:
        """Creates a lookup that has not looked yet.

        Args:
            source: The source's unique name.
            parse: Converts a saved document. It is called in a thread, and must not raise.
        """
        self._source = source
        self._parse = parse
        # None once the file was read.
        self._looking: SingleFlight[LastGoodFile, tuple[Sequence[tuple[Saved, T]], Sequence[str]]] | None = (
            SingleFlight()
        )
        self._last_logged = ""

    def reserve_seconds(self, file: LastGoodFile | None, timeout_seconds: float) -> float:
        """Returns how much of a caller's time to reserve for `find`; 0 if there is nothing to look up."""
        return 0 if file is None or self._looking is None else min(_LOOKUP_SECONDS, timeout_seconds / 4)

    async def find(self, file: LastGoodFile | None, timeout_seconds: float, log: Log) -> Sequence[tuple[Saved, T]]:
        """Returns the source's documents in the file, each with what `parse` made of it.

        Returns nothing after the file was read once, or if reading takes too long. A file that must not be used is read
        again by the next call, so fixing it needs no restart.

        Args:
            file: The file; None for no file.
            timeout_seconds: How long to wait, from `reserve_seconds`. If the file system hangs, the next call waits for
                the same thread.
            log: Where to log why a file is not used.
        """
        if file is None or self._looking is None:
            return ()
        try:
            async with asyncio.timeout(timeout_seconds):
                found, others = await self._looking.run(file, lambda: self._look(file))
        except TimeoutError:
            why = "reading it takes longer than a start waits; check whether its file system hangs"
            self._log_unused(file, why, log)
            return ()
        except Exception as error:  # noqa: BLE001  whatever it is, a start must get an answer
            self._log_unused(file, _explain(error), log)
            return ()
        self._looking = None
        if others and not found:
            # This is no fault: a new hub shares the directory, or configmap_name was changed.
            shown = ", ".join([*others[:3], *(["…"] if others[3:] else [])])
            log.info("%s has no last good profiles of %s, only of %s", str(file.path), self._source, shown)
        return found

    def _look(self, file: LastGoodFile) -> tuple[Sequence[tuple[Saved, T]], Sequence[str]]:
        """Returns the source's documents, and the names of all other sources in the file."""
        content = file.load()
        found = [(saved, self._parse(saved)) for saved in content.pop(self._source, ())]
        return found, sorted(content)

    def _log_unused(self, file: LastGoodFile, why: str, log: Log) -> None:
        if why != self._last_logged:
            log.warning("Not using the last good profiles in %s, because %s", str(file.path), why)
        self._last_logged = why


def _unusable(why: str) -> SourceError:
    return SourceError(why, outcome="unavailable")


def _explain(error: Exception) -> str:
    """Returns an error as text that quotes nothing of a document."""
    if isinstance(error, SourceError):
        return str(error)
    return (isinstance(error, OSError) and error.strerror) or f"of a defect ({type(error).__name__}); please report it"


def format_content(content: _Content) -> bytes:
    """Returns the file's bytes.

    Raises:
        SourceError: The file would be too large.
    """
    items = [(source, saved) for source, documents in content.items() for saved in documents]
    with low_latency(sum(len(saved.text.text) for _, saved in items), SMALL_JSON):
        body = b"".join(_dump(source, saved) for source, saved in items)
    header = {"format": _FORMAT, "sha256": hashlib.sha256(body).hexdigest()}
    raw = json.dumps(header).encode() + b"\n" + body
    if len(raw) > _MAX_BYTES:
        raise _unusable(f"it would be larger than {_MAX_BYTES >> 20} MiB")
    return raw


def _dump(source: str, saved: Saved) -> bytes:
    text = saved.text
    fields = {
        "source": source,
        "configmap": saved.configmap,
        "uid": saved.uid,
        "revision": saved.revision,
        "read_at": saved.read_at,
        "line_offset": text.line_offset,
        "column_offset": text.column_offset,
        "text": text.text,
    }
    return json.dumps(fields).encode() + b"\n"


def parse_content(raw: bytes) -> _Content:
    """Returns the content of a file.

    Raises:
        SourceError: The file is damaged, or was written by another version.
    """
    head, _, body = raw.partition(b"\n")
    try:
        header = json.loads(head)
        if header["format"] != _FORMAT:
            raise _unusable("another version of this package wrote it")
        if header["sha256"] != hashlib.sha256(body).hexdigest():
            raise _unusable("it is damaged")
        content: _Content = {}
        with low_latency(len(body), SMALL_JSON):
            for line in body.splitlines():
                fields = json.loads(line)
                content[fields["source"]] = (*content.get(fields["source"], ()), _load(fields))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _unusable("it is damaged") from None
    return content


def _load(fields: Mapping[str, Any]) -> Saved:
    text = Text(fields["text"], fields["line_offset"], fields["column_offset"])
    return Saved(fields["revision"], text, fields["read_at"], fields["configmap"], fields["uid"])


all_files: dict[str, LastGoodFile] = {}


def get_last_good_file(path: str) -> LastGoodFile | None:
    """Returns the file of a path, one per process; None for an empty path. Does not touch the disk."""
    if path and path not in all_files:
        all_files[path] = LastGoodFile(Path(path))
    return all_files.get(path)
