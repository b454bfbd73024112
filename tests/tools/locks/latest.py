"""``python -m locks.latest``: runs the tests on what is installed, and says what fails and what the lock has instead.

`make test-latest` has installed the newest of everything by then. Arguments are pytest's.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from locks import LOCKS, installed_by

# Nothing is locked of these: one comes with the interpreter, one is the project.
UNLOCKED = {"pip", "jupyterhub-profiled-spawner"}


class Failures:
    """A plugin of pytest, which notes what fails."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes a test whose set-up, call or tear-down fails."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Notes a module that cannot be imported."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and report.nodeid not in self.names:
            self.names.append(report.nodeid)


def main() -> int:
    """Returns pytest's exit code."""
    failures = Failures()
    code = pytest.main(["-m", "not cluster", *sys.argv[1:]], plugins=[failures])
    installed = {canonicalize_name(each.metadata["Name"]): Version(each.version) for each in distributions()}
    print("\n" + describe(failures.names, code, installed, installed_by(LOCKS / "test.txt")))
    return code


def describe(failed: Sequence[str], code: int, installed: Mapping[str, Version], locked: Mapping[str, Version]) -> str:
    """The report.

    Args:
        failed: The names of the tests that failed.
        code: Pytest's exit code, which tells more: that it was interrupted, say.
        installed: The version of each package that the tests ran on.
        locked: The version of each package in the lock file.
    """
    lines = [f"The newest of everything, on Python {platform.python_version()}"]
    if failed:
        lines += [f"Failed: {len(failed)}", *(f"  {name}" for name in failed)]
    else:
        lines += ["Failed: nothing" if code == pytest.ExitCode.OK else f"No test failed, but pytest ended with {code}"]
    names = sorted((installed.keys() | locked.keys()) - UNLOCKED)
    changes = [
        f"  {name}  {locked.get(name, 'not locked')} -> {installed.get(name, 'not installed')}"
        for name in names
        if installed.get(name) != locked.get(name)
    ]
    return "\n".join([*lines, f"Other than in tests/tools/locks/test.txt: {len(changes) or 'nothing'}", *changes])


if __name__ == "__main__":
    sys.exit(main())
