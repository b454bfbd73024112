"""The file with the profile document that a person edits while the sandbox runs."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from profiled_spawner.errors import ProfiledSpawnerError
from profiled_spawner.sources.extract import decode_text, find_document


class DocumentFileError(Exception):
    """The file has no document that could be put into the ConfigMap."""


class DocumentFile:
    """A file that holds a profile document or a ConfigMap manifest with one.

    Args:
        path: The file.
        key: The ConfigMap's key.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key
        self._last: str | DocumentFileError | None = None

    def read(self) -> str:
        """Return the document, which need not be a valid one.

        Raises:
            DocumentFileError: The file cannot be read, or is a manifest without a document.
        """
        self._last = self._look()
        if isinstance(self._last, DocumentFileError):
            raise self._last
        return self._last

    async def changes(self, interval_seconds: float = 1) -> AsyncIterator[str | DocumentFileError]:
        """Wait for each change of what :meth:`read` has returned or raised, and return that."""
        while True:
            now = self._look()
            # Two errors are the same where they say the same.
            if str(now) != str(self._last):
                self._last = now
                yield now
            await asyncio.sleep(interval_seconds)

    async def validate(self) -> tuple[bool, str]:
        """Ask ``profiled-spawner validate`` about the file.

        Returns:
            Whether the document is valid, and what the command says.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "profiled_spawner", "validate", self.path.name),
            cwd=self.path.parent,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode == 0, output.decode()

    def _look(self) -> str | DocumentFileError:
        try:
            text = decode_text(self.path.read_bytes(), source=str(self.path))
            return find_document(text, self._key, source=str(self.path)).text
        except OSError as exc:
            return DocumentFileError(f"{self.path} cannot be read: {exc.strerror}")
        except ProfiledSpawnerError as exc:
            return DocumentFileError(str(exc))
