"""Telling a person at a terminal what happens: numbered steps, what is being waited for, tables."""

import asyncio
import contextlib
import os
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TextIO

from profiled_spawner.command.terminal import align, choose_style, escape_unencodable, printable

INDENT = "   "
WIDTH = 100
#: How a cell is shown that has nothing to say.
NOTHING = "–"


class Narrator:
    """Writes to a terminal, or plainly to anything else.

    Args:
        stream: Where to write.

    Attributes:
        style: What the stream can show.
    """

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        escape_unencodable(stream)
        self.style = choose_style(stream)
        self._stream = stream
        self._steps = 0

    def say(self, text: str = "") -> None:
        """Write a line; with nobody to read it (a closed pipe or terminal), do nothing from then on."""
        self._write(f"{text}\n")

    def step(self, text: str) -> None:
        """Write the next numbered heading."""
        self._steps += 1
        self.say()
        self.say(self.style.bold(f"{self._steps}. {text}"))

    def tell(self, text: str, style: Callable[[str], str] = str) -> None:
        """Write lines that belong to a step; long ones are wrapped."""
        for line in text.splitlines():
            indent = " " * (len(line) - len(line.lstrip()))
            for piece in textwrap.wrap(
                line, WIDTH, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False
            ):
                self.say(INDENT + style(piece))

    def quote(self, text: str, style: Callable[[str], str] = str) -> None:
        """Write what somebody else says."""
        self.tell(textwrap.indent(text, "  "), style)

    def table(self, heading: Sequence[str], rows: Sequence[Sequence[str]], *, changed: Sequence[int] = ()) -> None:
        """Write a table.

        Args:
            heading: The columns' names.
            rows: The cells; an empty one is shown as a dash.
            changed: Which rows to set off.
        """
        lines = align([heading, *([printable(cell) or NOTHING for cell in row] for row in rows)])
        for number, line in enumerate(lines):
            text = "   ".join(line).rstrip()
            emphasis = self.style.bold if number == 0 else self.style.yellow if number - 1 in changed else str
            self.say(INDENT + emphasis(text))

    @contextlib.asynccontextmanager
    async def waiting(self, doing: str, done: str) -> AsyncIterator[None]:
        """Show what is being done for how long, and then that it is done.

        Args:
            doing: For the time until then; left out where lines cannot be overwritten.
            done: For afterwards.
        """
        began = time.monotonic()
        overwrites = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        moving = asyncio.create_task(self._move(doing, began)) if overwrites else None
        try:
            yield
        finally:
            if moving:
                moving.cancel()
                await asyncio.gather(moving, return_exceptions=True)
                self._write("\r\x1b[K")
        self.say(f"{INDENT}{done} {self.style.dim(f'({time.monotonic() - began:.1f} s)')}")

    async def _move(self, text: str, began: float) -> None:
        while True:
            elapsed = self.style.dim(f"({time.monotonic() - began:.0f} s)")
            self._write(f"\r{INDENT}{text} … {elapsed}\x1b[K")
            await asyncio.sleep(0.25)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # Python itself flushes once more when it ends, and would complain then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
