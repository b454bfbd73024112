"""Whatever a process of the sandbox starts ends with it, and it ends with the sandbox."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from sandbox.process import Process
from sandbox.waiting import HANG_SECONDS, until

PATH = os.environ["PATH"]
#: Starts a daemon (a session of its own, its parent gone), tells its process id, and waits.
DAEMON = "setsid sleep 3600 & echo $! > daemon; exec sleep 3600"
#: Does not end on SIGTERM.
STUBBORN = "trap '' TERM; setsid sleep 3600 & echo $! > daemon; while true; do sleep 1; done"


async def start(script: str, directory: Path, **env: str) -> Process:
    return await Process.start(["sh", "-c", script], env={"PATH": PATH, **env}, cwd=directory, log=directory / "log")


async def daemon_of(directory: Path) -> int:
    """Wait until the script has told its daemon's process id."""
    told = directory / "daemon"
    await until(lambda: told.exists() and told.read_text().endswith("\n"))
    return int(told.read_text())


async def gone(pid: int) -> None:
    """Wait until a process does not exist any more."""
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def test_the_environment_is_exactly_what_is_given(tmp_path: Path) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    given = {"A": "ä $(B) {b}", "EMPTY": ""}
    process = await Process.start(
        [sys.executable, "-I", "-X", "utf8", "-c", code], env=given, cwd=tmp_path, log=tmp_path / "log"
    )

    assert await process.wait() == 0
    # LC_CTYPE is what Python itself sets where no locale is: https://peps.python.org/pep-0538/
    assert json.loads((tmp_path / "log").read_text()) | {"LC_CTYPE": ""} == given | {"LC_CTYPE": ""}


async def test_output_goes_to_a_log_that_only_we_can_read(tmp_path: Path) -> None:
    process = await start("echo out; echo err >&2", tmp_path)
    await process.wait()

    assert (tmp_path / "log").read_text() == "out\nerr\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("script", "exit_code"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 3", 3, id="failure"),
        pytest.param("kill -KILL $$", 128 + signal.SIGKILL, id="signal"),
    ],
)
async def test_the_exit_code_is_the_commands(tmp_path: Path, script: str, exit_code: int) -> None:
    process = await start(script, tmp_path)

    assert await process.wait() == exit_code


async def test_a_command_that_does_not_exist_is_said_in_the_log(tmp_path: Path) -> None:
    process = await Process.start(["no-such-command"], env={}, cwd=tmp_path, log=tmp_path / "log")

    assert await process.wait() == 126
    assert (tmp_path / "log").read_text() == ("no-such-command could not be started: No such file or directory\n")


async def test_an_environment_that_no_process_can_have_is_said_without_its_values(tmp_path: Path) -> None:
    process = await start("true", tmp_path, LONG="x" * 200_000)

    assert await process.wait() == 126
    assert (tmp_path / "log").read_text() == "sh could not be started: Argument list too long\n"


async def test_daemons_end_with_the_command(tmp_path: Path) -> None:
    process = await start(DAEMON, tmp_path)
    daemon = await daemon_of(tmp_path)

    assert await process.stop(grace_seconds=HANG_SECONDS) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{daemon}").exists()


async def test_a_command_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    process = await start(STUBBORN, tmp_path)
    daemon = await daemon_of(tmp_path)

    assert await process.stop(grace_seconds=0.1) == 128 + signal.SIGKILL
    assert not Path(f"/proc/{daemon}").exists()


async def test_everything_ends_when_the_sandbox_is_killed(tmp_path: Path) -> None:
    code = f"""
import asyncio, pathlib
from sandbox.process import Process
async def main():
    path = pathlib.Path({str(tmp_path)!r})
    process = await Process.start(
        ["sh", "-c", {STUBBORN!r}], env={{"PATH": {PATH!r}}}, cwd=path, log=path / "log"
    )
    await process.wait()
asyncio.run(main())
"""
    sandbox = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "tools")}
    )
    daemon = await daemon_of(tmp_path)
    sandbox.kill()
    await sandbox.wait()

    await gone(daemon)
