"""Runs tests on mutants, each time in a process of its own and in a copy of the checkout."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest

from .finding import Change, Mutant, module_path

# The tests' conftest imports these, and they take longest: a process for tests begins with them. Hypothesis is not
# among them: pytest wants to import its plugins itself.
_PRELOADED = ("jupyterhub.app", "kubernetes_asyncio.client", "kubespawner")

_NOT_COPIED = (".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "build", "dist")
_FOLDERS_OF_MODULES = ("", "tests/tools")
_OPTIONS = ("-x", "--quiet", "--tb=short", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m", "not cluster")

# A mutant may go on without end. That is measured by the processor's time, whatever else the machine does.
_TIMES_AS_LONG = 5
_HANG_SECONDS = 1200
_MEMORY = 4 << 30


class Outcome(StrEnum):
    """Whether a test fails on a mutant, goes on for much too long, or neither."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one mutant.

    Attributes:
        change: What the mutant changes.
        outcome: What came of it.
        test: The test that killed it; empty where there is none, or where a module could not be imported.
    """

    change: Change
    outcome: Outcome
    test: str = ""


class RunError(Exception):
    """The tests fail without any mutant, and so tell nothing of one."""


def run_mutants(root: Path, mutants: Iterable[Mutant], jobs: int, cpu_seconds: int) -> Iterator[Result]:
    """Runs tests on each mutant: those of its module, then the others of its package. The checkout stays as it is.

    Gives what came of a mutant as soon as that is known.

    Args:
        root: The checkout.
        mutants: The mutants.
        jobs: How many run at a time.
        cpu_seconds: How much of the processor's time tests may take in any case; many times what they take without a
            mutant they may take too.

    Raises:
        RunError: The tests fail without a mutant.
    """
    if (root / "tests" / "conftest.py").is_file():
        for name in _PRELOADED:
            importlib.import_module(name)
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as folder,
        ProcessPoolExecutor(
            jobs, multiprocessing.get_context("fork"), _Worker.begin, (root, Path(folder), cpu_seconds)
        ) as pool,
    ):
        try:
            for future in as_completed([pool.submit(_try, mutant.change, mutant.source()) for mutant in mutants]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _try(change: Change, source: str) -> Result:
    return _Worker.of_this_process.try_mutant(change, source)


class _Worker:
    """A process with a copy of the checkout, in which it runs tests, one process for each time."""

    of_this_process: _Worker

    def __init__(self, root: Path, folder: Path, cpu_seconds: int) -> None:
        self._root = folder / "checkout"
        self._output = folder / "output"
        self._failed = folder / "failed"
        shutil.copytree(root, self._root, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True)
        self._least = cpu_seconds
        self._cpu_seconds = cache(self._measure)

    @classmethod
    def begin(cls, root: Path, folder: Path, cpu_seconds: int) -> None:
        """Makes this process one."""
        cls.of_this_process = cls(root, folder / str(os.getpid()), cpu_seconds)

    def try_mutant(self, change: Change, source: str) -> Result:
        """Runs the tests with this text for the change's module."""
        path = self._root / module_path(change.module)
        original = path.read_text(encoding="utf-8")
        for tests in self._choose_tests(change.module):
            limit = self._cpu_seconds(tests)
            path.write_text(source, encoding="utf-8")
            Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
            status, _ = self._run(tests, limit)
            path.write_text(original, encoding="utf-8")
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM):
                return Result(change, Outcome.TIMED_OUT)
            if not _passes(status):
                return Result(change, Outcome.KILLED, self._failed.read_text())
        return Result(change, Outcome.SURVIVED)

    def _choose_tests(self, module: str) -> list[tuple[str, ...]]:
        """What to run for a module, one after the other: its own tests, then all others of its package."""
        package, _, name = module.partition(".")
        folder, own = f"tests/{package}", f"tests/{package}/test_{name}.py"
        return [(own,), (folder, f"--ignore={own}")] if (self._root / own).is_file() else [(folder,)]

    def _measure(self, tests: tuple[str, ...]) -> int:
        """How many seconds of the processor's time a mutant may take: many times what the tests take without it."""
        status, seconds = self._run(tests)
        if not _passes(status):
            raise RunError(f"The tests fail without a mutant:\n{self._output.read_text(errors='replace')}")
        return max(self._least, round(_TIMES_AS_LONG * seconds))

    def _run(self, tests: Sequence[str], cpu_seconds: int | None = None) -> tuple[int, float]:
        """Runs tests in a new process, and returns its exit status and what it took of the processor's time."""
        self._failed.write_text("")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = self._run_here(tests, cpu_seconds)
            finally:
                os._exit(code)
        _, status, usage = os.wait4(pid, 0)
        return status, usage.ru_utime + usage.ru_stime

    def _run_here(self, tests: Sequence[str], cpu_seconds: int | None) -> int:
        output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        signal.alarm(_HANG_SECONDS)
        _limit(resource.RLIMIT_AS, _MEMORY)
        if cpu_seconds is not None:
            _limit(resource.RLIMIT_CPU, cpu_seconds)
            # What is compiled of a mutant could pass for the next one: it is known by a second and a size.
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        # The package and the tests' tools come from the copy, here and in processes that tests start.
        there = {str(Path.cwd() / folder) for folder in _FOLDERS_OF_MODULES}
        here = [str(self._root / folder) for folder in _FOLDERS_OF_MODULES]
        os.chdir(self._root)
        sys.path[:] = [*here, *(path for path in sys.path if path not in there)]
        os.environ["PYTHONPATH"] = os.pathsep.join(here)
        return pytest.main([*_OPTIONS, *tests], plugins=[_Plugin(self._failed)])


class _Plugin:
    """Has pytest run quick tests first, and writes down the first that fails."""

    def __init__(self, failed: Path) -> None:
        self._failed = failed

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Puts tests that generate their examples behind all others."""
        items.sort(key=lambda item: item.get_closest_marker("hypothesis") is not None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Writes down a test whose set-up, call or tear-down fails."""
        if report.failed and not self._failed.read_text():
            self._failed.write_text(report.nodeid)


def _passes(status: int) -> bool:
    """Whether no test failed in a process that has ended so; that there is none is no failure."""
    return os.waitstatus_to_exitcode(status) in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def _limit(what: int, to: int) -> None:
    """Sets a limit that tests may still raise, for the processes that they measure."""
    resource.setrlimit(what, (to, resource.getrlimit(what)[1]))
