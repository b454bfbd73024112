"""The file that keeps the last good documents, so that a hub that restarts still has them.

It holds values of environment variables: only the hub's own user may read it, and nothing of a document is ever logged.
The file is JSON Lines: a header with the format's number and a checksum of the rest, then a line for each document.
All reading and writing happens in threads of its own; a file system that hangs holds up nobody else.
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

from .background import Single, background, run_in_daemon
from .errors import SourceError
from .manifest import Text
from .sources import Revision, open_file

__all__ = ["LastGoodFile", "Recall", "Saved", "find_file"]

_FORMAT = 1
# The selected ConfigMaps are 16 MiB at most, the main one far less, and JSON makes up to three of a byte.
_MAX_BYTES = 64 * 2**20
# How long a start waits for the file, at most.
_PATIENCE_SECONDS = 5.0

T = TypeVar("T")


class Log(Protocol):
    """What is needed of a log."""

    def info(self, msg: str, /, *args: object) -> None: ...
    def warning(self, msg: str, /, *args: object) -> None: ...
    def error(self, msg: str, /, *args: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Saved:
    """A good document, as the file holds it.

    Attributes:
        revision: What people know the revision by, such as ``configmap/jhub/jupyter-singleuser-profiles@123456``.
        text: The document.
        read_at: When the revision was first read, in seconds since 1970.
        configmap: The name of a selected ConfigMap; empty for the main document.
        uid: What tells that one from another of its name; empty for the main document.
    """

    revision: str
    text: Text
    read_at: float = field(compare=False)
    configmap: str = ""
    uid: str = ""

    def to_revision(self) -> Revision:
        """The same as a revision to parse."""
        return Revision(None, self.revision, self.text)

    @property
    def age_seconds(self) -> float:
        """How long ago it was read; never negative, though clocks may be set."""
        return max(0.0, time.time() - self.read_at)


_Content: TypeAlias = dict[str, tuple[Saved, ...]]


class LastGoodFile:
    """One file, which all sources of a process share. Get it with `find_file`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        # By source: what the file holds or will hold, and what of it is still to be written.
        self._known: _Content = {}
        self._pending: _Content = {}
        self._is_writing = False
        self._told = ""

    def save(self, source: str, documents: tuple[Saved, ...], log: Log) -> None:
        """Has the documents of a source written, in place of its earlier ones. Waits for nothing, and raises nothing.

        If they are the ones that it was given last, nothing is done. If they cannot be written, the file is removed,
        since it might bring back what has been withdrawn; then the next call tries again.

        Args:
            source: What tells the source from all others.
            documents: All of its last good documents.
            log: Where to say what is wrong.
        """
        with self._lock:
            if self._known.get(source) == documents:
                return
            self._known[source] = self._pending[source] = documents
            if self._is_writing:
                return
            self._is_writing = True
        writing = run_in_daemon(lambda: self._write_pending(log))
        if writing.done() and writing.exception():
            # There could be no thread: the next start tries again.
            with self._lock:
                self._known.clear()
                self._is_writing = False

    def load(self) -> _Content:
        """Reads the file. For a thread: the file system may hang.

        Returns:
            The documents by source; none if there is no file.

        Raises:
            SourceError: The file must not be used, and why.
        """
        try:
            # Does not follow a link that somebody else may have put there.
            with open_file(self.path, os.O_NOFOLLOW) as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                # Not the group's bits: Kubernetes sets those of each file in a volume where a pod has an fsGroup.
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
        return _parse(raw)

    def _write_pending(self, log: Log) -> None:
        while True:
            with self._lock:
                pending, self._pending = self._pending, {}
                if not pending:
                    self._is_writing = False
                    return
            try:
                self._write(pending)
            except Exception as error:  # noqa: BLE001  whatever it is, no older document may come back
                with self._lock:
                    # So the next start tries again.
                    self._known.clear()
                    self._pending.clear()
                self._remove(_reason(error), log)
            else:
                self._told = ""

    def _write(self, pending: Mapping[str, tuple[Saved, ...]]) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Between hubs that share the file. Where the file system has no locks, the last one to write wins.
            with contextlib.suppress(OSError):
                fcntl.flock(directory, fcntl.LOCK_EX)
                self._remove_leftovers()
            try:
                content = self.load()
            except SourceError:
                content = {}
            self._replace(_format({**content, **pending}))
            try:
                os.fsync(directory)
            except OSError as error:
                # Some file systems have no such thing for directories.
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise
        finally:
            os.close(directory)

    def _replace(self, raw: bytes) -> None:
        """Puts a new file in the place of the old one, at once."""
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
        """What the names of temporary files begin with."""
        return f".{self.path.name}."

    def _remove_leftovers(self) -> None:
        """Removes what hubs left behind that were killed while they wrote."""
        for name in os.listdir(self.path.parent):
            if re.fullmatch(rf"{re.escape(self._prefix)}[0-9a-f]{{16}}", name):
                os.unlink(self.path.with_name(name))

    def _remove(self, why: str, log: Log) -> None:
        """Removes the older file, since the new one could not be written, and says so."""
        fault = None
        try:
            os.unlink(self.path)
            removed = "so the older one was removed"
        except FileNotFoundError:
            removed = "and there is no older one"
        except OSError as error:
            fault = _reason(error)
        if fault:
            # Each time: this is what somebody should do something about at once.
            log.error(
                "Could not write %s, because %s; nor could the older one be removed: %s; remove it before the hub "
                "restarts, or that may bring back profiles that are no more in the document",
                str(self.path),
                why,
                fault,
            )
        elif why != self._told:
            log.warning(
                "Could not write %s, because %s, %s; a hub that restarts now has no last good profiles; make room, or "
                "set last_good_path to a file in a directory that the hub may write to; the next start tries again",
                str(self.path),
                why,
                removed,
            )
        self._told = why


class Recall(Generic[T]):
    """What a source finds in the file when it has no good document of its own: looked for until it was found out."""

    def __init__(self, source: str, parse: Callable[[Saved], T]) -> None:
        """Makes one that has not looked yet.

        Args:
            source: What tells the source from all others.
            parse: Makes of a document what is wanted; it is called in a thread, and raises nothing.
        """
        self._source = source
        self._parse = parse
        # None when there is nothing to look for any more.
        self._looking: Single[LastGoodFile, tuple[Sequence[tuple[Saved, T]], Sequence[str]]] | None = Single()
        self._told = ""

    def find_patience(self, file: LastGoodFile | None, timeout_seconds: float) -> float:
        """How long to wait for `find`, of the time that a caller has altogether; 0 if it has found out."""
        return 0 if file is None or self._looking is None else min(_PATIENCE_SECONDS, timeout_seconds / 4)

    async def find(self, file: LastGoodFile | None, patience_seconds: float, log: Log) -> Sequence[tuple[Saved, T]]:
        """Gives what the file holds of the source, each with what it was made into.

        It gives nothing once the file could be read, and nothing if that takes too long. A file that must not be used
        is looked at again by the next call, so that mending it needs no restart.

        Args:
            file: Where to look; None for nowhere.
            patience_seconds: How long to wait, as `find_patience` has it. If the file system hangs, one thread waits
                for it, and the next call for that.
            log: Where to say why a file is not used.
        """
        if file is None or self._looking is None:
            return ()
        try:
            async with asyncio.timeout(patience_seconds):
                found, others = await self._looking.run(file, lambda: self._look(file))
        except TimeoutError:
            self._tell(file, "to read it takes longer than a start waits; see whether its file system hangs", log)
            return ()
        except Exception as error:  # noqa: BLE001  whatever it is, a start must get an answer
            self._tell(file, _reason(error), log)
            return ()
        self._looking = None
        if others and not found:
            # Nothing is wrong with it: a new hub that shares its directory, or another configmap_name.
            shown = ", ".join([*others[:3], *(["…"] if others[3:] else [])])
            log.info("%s has no last good profiles of %s, only of %s", str(file.path), self._source, shown)
        return found

    def _look(self, file: LastGoodFile) -> tuple[Sequence[tuple[Saved, T]], Sequence[str]]:
        """What the file holds of the source, and of which other sources it holds something."""
        content = file.load()
        found = [(saved, self._parse(saved)) for saved in content.pop(self._source, ())]
        return found, sorted(content)

    def _tell(self, file: LastGoodFile, why: str, log: Log) -> None:
        if why != self._told:
            log.warning("Not using the last good profiles in %s, because %s", str(file.path), why)
        self._told = why


def _unusable(why: str) -> SourceError:
    return SourceError(why, outcome="unavailable")


def _reason(error: Exception) -> str:
    """What to say of an error: nothing that quotes a document."""
    if isinstance(error, SourceError):
        return str(error)
    return (isinstance(error, OSError) and error.strerror) or f"of a defect ({type(error).__name__}); please report it"


@background()
def _format(content: _Content) -> bytes:
    """What the file is to hold.

    Raises:
        SourceError: It would be too large.
    """
    lines = [_dump(source, saved) for source, documents in content.items() for saved in documents]
    body = b"".join(lines)
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


@background()
def _parse(raw: bytes) -> _Content:
    """What a file holds.

    Raises:
        SourceError: It is damaged, or of another version.
    """
    head, _, body = raw.partition(b"\n")
    try:
        header = json.loads(head)
        if header["format"] != _FORMAT:
            raise _unusable("another version of this package wrote it")
        if header["sha256"] != hashlib.sha256(body).hexdigest():
            raise _unusable("it is damaged")
        content: _Content = {}
        for line in body.splitlines():
            fields = json.loads(line)
            content[fields["source"]] = (*content.get(fields["source"], ()), _restore(fields))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _unusable("it is damaged") from None
    return content


def _restore(fields: Mapping[str, Any]) -> Saved:
    text = Text(fields["text"], fields["line_offset"], fields["column_offset"])
    return Saved(fields["revision"], text, fields["read_at"], fields["configmap"], fields["uid"])


_files: dict[str, LastGoodFile] = {}


def find_file(path: str) -> LastGoodFile | None:
    """The file of a path, one for the process; None for an empty path. Does not touch the disk."""
    return _files.setdefault(path, LastGoodFile(Path(path))) if path else None
