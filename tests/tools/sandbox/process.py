"""Processes that end with us, and leave none of their own behind (see :mod:`sandbox.shim`)."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox import shim


class Process:
    """A command running under a shim; start one with :meth:`start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._shim = process

    @classmethod
    async def start(cls, args: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> "Process":
        """Start a command.

        Args:
            args: The program and its arguments; the program is looked up on the ``PATH`` of `env`.
            env: The whole environment: nothing of ours is added.
            cwd: The working directory.
            log: Where its output goes, appended; readable by us alone.
        """
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", shim.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={},
                # Ctrl-C in a terminal goes to every process of its group: only we decide what it means.
                start_new_session=True,
            )
        finally:
            os.close(output)
        assert process.stdin is not None
        command = {"args": list(args), "env": dict(env), "cwd": str(cwd)}
        process.stdin.write(json.dumps(command).encode() + b"\n")
        return cls(process)

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended."""
        return self._shim.returncode is not None

    async def wait(self) -> int:
        """Wait for the end.

        Returns:
            The exit code; 128 + N after signal N.
        """
        code = await self._shim.wait()
        return code if code >= 0 else 128 - code

    async def stop(self, grace_seconds: float) -> int:
        """Ask the command to end (SIGTERM), wait for `grace_seconds`, then kill what is left.

        Returns:
            The exit code.
        """
        if self._shim.returncode is None and grace_seconds > 0:
            self._shim.terminate()
            try:
                async with asyncio.timeout(grace_seconds):
                    return await self.wait()
            except TimeoutError:
                pass
        self.kill()
        return await self.wait()

    def send(self, signal_number: int) -> None:
        """Send a signal to the command, such as SIGSTOP."""
        for pid in shim.children(self._shim.pid):
            shim.send(signal_number, pid)

    def kill(self) -> None:
        """Kill the command and everything that it has started; :meth:`wait` tells when that is done."""
        assert self._shim.stdin is not None
        self._shim.stdin.close()
