"""Gives each target its time under the fuzzer, and makes findings of what a clean process confirms."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.waiting import HANG_SECONDS

from .limits import MAX_CPU_SECONDS, MAX_RSS_BYTES, STATISTICS
from .seeds import DICTIONARY

__all__ = ["Finding", "Tally", "describe", "fuzz_target", "replay"]

# The fuzzer's own instruments slow an input down, so these only catch what would never end. What counts is `replay`.
_HANG_SECONDS = 20
_RUNAWAY_MIB = 1024

_TOOLS = Path(__file__).parents[1]
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that does what none may.

    Attributes:
        fault: What, in a word: an exception's name, ``slow``, ``memory``, ``hang`` or ``crash``.
        file: The input; what there is to say of it stands beside it, in a file of the same name with ``.txt``.
    """

    fault: str
    file: Path


@dataclass(slots=True)
class Tally:
    """What came of fuzzing a target.

    Attributes:
        target: Its name.
        seconds: How long it was fuzzed.
        inputs: How many were tried.
        coverage: How many branches they reached, as libFuzzer counts them.
        slowest_cpu_seconds: The most that one took, which the fuzzer's instruments multiply.
        unconfirmed: Inputs that went past a limit under the fuzzer and in no clean process.
        findings: Those that a clean process confirms.
    """

    target: str
    seconds: float = 0
    inputs: int = 0
    coverage: int = 0
    slowest_cpu_seconds: float = 0
    unconfirmed: int = 0
    findings: list[Finding] = field(default_factory=list)


def fuzz_target(name: str, function: str, *, seconds: float, seeds: Path, folder: Path, tally: Tally) -> None:
    """Fuzzes a target, again and again where an input ends the fuzzer.

    Args:
        name: The target's name.
        function: The target, as ``module:function``.
        seconds: For how long, seeds included, unless they alone take longer.
        seeds: A folder of inputs to begin with.
        folder: Where what was learnt is kept (``corpus``), what was found (``findings``) and the fuzzer's log.
        tally: What came of it, up to date also when this is interrupted.
    """
    corpus, findings, results = (folder / each / name for each in ("corpus", "findings", "results"))
    for each in (corpus, findings, results):
        each.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        while (left := seconds - (time.monotonic() - began)) > 1:
            code = _run_worker(function, int(left), corpus, seeds, results, folder / f"{name}.log", tally)
            for candidate in _candidates(results):
                found = _consider(candidate, name, function, findings)
                if found is None:
                    tally.unconfirmed += 1
                elif found not in tally.findings:
                    tally.findings.append(found)
            if code == 0:
                break
    finally:
        tally.seconds += time.monotonic() - began


def _run_worker(function: str, seconds: int, corpus: Path, seeds: Path, results: Path, log: Path, tally: Tally) -> int:
    (results / STATISTICS).unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "fuzz.worker", function, str(results)),
        f"-max_total_time={seconds}",
        f"-timeout={_HANG_SECONDS}",
        f"-rss_limit_mb={_RUNAWAY_MIB}",
        f"-dict={DICTIONARY}",
        f"-artifact_prefix={results}/",
        "-print_final_stats=1",
        *(str(corpus), str(seeds)),
    ]
    try:
        with log.open("wb") as file:
            return subprocess.run(command, stdout=file, stderr=file, env=_environment(), check=False).returncode
    finally:
        _count(tally, results / STATISTICS, log)


def _count(tally: Tally, statistics: Path, log: Path) -> None:
    own = json.loads(statistics.read_text()) if statistics.exists() else {"inputs": 0, "slowest_cpu_seconds": 0}
    said = log.read_text(errors="replace")
    # The worker's own count is up to half a second old, the fuzzer's is there only if it could say it.
    units = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    tally.inputs += max(own["inputs"], int(units[1]) if units else 0)
    tally.slowest_cpu_seconds = max(tally.slowest_cpu_seconds, own["slowest_cpu_seconds"])
    tally.coverage = max([tally.coverage, *(int(each) for each in re.findall(r" cov: (\d+)", said))])


def _candidates(results: Path) -> Iterator[Path]:
    for path in sorted(results.iterdir()):
        # libFuzzer's own are called crash-…, oom-…, timeout-…; slow-unit-… is none.
        if path.name.startswith(("candidate-", "crash-", "oom-", "timeout-")):
            yield path


def _consider(candidate: Path, name: str, function: str, findings: Path) -> Finding | None:
    said = replay(function, candidate)
    data = candidate.read_bytes()
    candidate.unlink()
    if said["fault"] is None:
        return None
    file = findings / f"{said['fault']}-{hashlib.sha256(data).hexdigest()[:12]}"
    file.write_bytes(data)
    command = f"PYTHONPATH={shlex.quote(str(_TOOLS))} python -m fuzz --target {name} --input {shlex.quote(str(file))}"
    file.with_name(f"{file.name}.txt").write_text(f"{describe(said)}\nTo reproduce it:\n\n    {command}\n")
    return Finding(said["fault"], file)


def replay(function: str, file: Path) -> dict[str, object]:
    """Runs one input in a clean process.

    Returns:
        ``fault`` (None if there is none), ``cpu_seconds``, ``peak_rss_bytes`` and ``traceback``.
    """
    said: dict[str, object] = {"fault": "hang", "cpu_seconds": 0.0, "peak_rss_bytes": 0, "traceback": ""}
    command = [sys.executable, "-m", "fuzz.replay", function, str(file)]
    try:
        done = subprocess.run(
            command, capture_output=True, env=_environment(), timeout=HANG_SECONDS, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return said
    if done.returncode == -signal.SIGXCPU:
        return said
    if done.returncode:
        return said | {"fault": "crash", "traceback": f"exit code {done.returncode}\n{done.stderr}"}
    return said | json.loads(done.stdout)


def describe(said: dict[str, object]) -> str:
    """What `replay` says, for people."""
    return (
        f"{said['fault'] or 'nothing is wrong with it'}: {said['cpu_seconds']:.3f} s of the processor (at most "
        f"{MAX_CPU_SECONDS:g}), {int(str(said['peak_rss_bytes'])) / 2**20:.0f} MiB (at most {MAX_RSS_BYTES // 2**20})\n"
        f"{said['traceback']}"
    )


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(_TOOLS), str(_ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
