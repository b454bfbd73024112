"""Runs one command, lives no longer than whoever started it, and leaves nothing of the command behind.

This is what a container runtime's shim and control group do together. The process is a *subreaper*: whatever
its command starts, daemons and sessions of their own included, becomes its child when orphaned, and so can
be found and ended when the command ends. And it holds the read end of a pipe: when the writer closes it, or
dies, however it dies, everything is ended at once.

Run as ``python -I -S shim.py``, for a start in some 20 ms. Standard input is the pipe; its first line is a
JSON object with ``args``, ``env`` and ``cwd``. SIGTERM is passed on to the command. The exit code is the
command's, 128 + N if signal N ended it, and 126 if it could not be started. Linux only.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    command = start(json.loads(read_line()))
    signal.signal(signal.SIGTERM, lambda *_: send(signal.SIGTERM, command))

    exit_code = 128 + signal.SIGKILL
    while True:
        lifeline, signals = 0, read_end
        ready, _, _ = select.select([lifeline, signals], [], [])
        if signals in ready:
            os.read(signals, 4096)
            ended = reap()
            if command in ended:
                exit_code = ended[command]
                break
        if lifeline in ready:
            break
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kill_descendants()
    return exit_code


def prctl(option: int, argument: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def read_line() -> bytes:
    """Read standard input up to the first line's end, byte for byte what belongs to it."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            sys.exit(128 + signal.SIGKILL)
        line += piece
    return line


def start(command: dict[str, Any]) -> int:
    """Start the command.

    Returns:
        Its process id.
    """
    shim = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != shim:
            os._exit(126)
        # An ignored signal stays ignored through exec; Python ignores SIGPIPE, and this process SIGINT.
        for name in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(command["cwd"])
        os.execvpe(command["args"][0], command["args"], command["env"])
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        os.write(2, f"{command['args'][0]} could not be started: {reason}\n".encode())
    finally:
        os._exit(126)


def send(signal_number: int, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def reap() -> dict[int, int]:
    """Collect the children that have ended.

    Returns:
        Their exit codes, by process id.
    """
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        ended[pid] = code if code >= 0 else 128 - code


def kill_descendants() -> None:
    """Kill every child, and their children as they become ours, until there is none."""
    while True:
        for pid in children(os.getpid()):
            send(signal.SIGKILL, pid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def children(parent: int) -> list[int]:
    """Return the process ids of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            # The second field is the program's name in parentheses, and may hold anything.
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
