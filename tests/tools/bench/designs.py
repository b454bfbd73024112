"""Ways to parse a large document without holding the event loop up: the one that was taken, and those that were not."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

import yaml

from bench.documents import make_document
from bench.measuring import StallWatch
from bench.scale import Scale
from profiled_spawner.document.limits import MAX_BYTES
from profiled_spawner.document.model import Document, Profile
from profiled_spawner.document.parser import parse_document
from profiled_spawner.sources.threads import low_latency

_SLICE_SECONDS = 0.005


@dataclass(frozen=True)
class Design:
    """What one way costs, by the median of its runs.

    Attributes:
        name: What it does.
        stall_ms: The longest that the event loop stood still.
        latency_ms: From text to document.
        cpu_ms: CPU time of the hub's process.
    """

    name: str
    stall_ms: float
    latency_ms: float
    cpu_ms: float


async def measure(scale: Scale) -> AsyncIterator[Design]:
    """Parses the largest document in each way, in turn, on a loop that has nothing else to do."""
    text = make_document(scale.profiles[-1])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "in a thread": lambda: asyncio.to_thread(parse_document, text),
            "in a thread, garbage collector paused, switch interval 1 ms (in use)": lambda: asyncio.to_thread(
                _parse_with_low_latency, text
            ),
            "on the event loop, in slices of 5 ms (only the parser's events, no document)": lambda: _parse_sliced(text),
            "in another process that already runs": lambda: _parse_elsewhere(pool, text),
        }
        runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        await _parse_elsewhere(pool, text)
        for _ in range(scale.runs):
            for name, parse in ways.items():
                runs[name].append(await _measure(parse))
    for name, measured in runs.items():
        yield Design(name, *(median(values) * 1e3 for values in zip(*measured, strict=True)))


async def _measure(parse: Callable[[], Awaitable[object]]) -> tuple[float, float, float]:
    async with StallWatch() as watch:
        began, cpu_began = time.perf_counter(), time.process_time()
        kept = await parse()
        latency, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        del kept
    return watch.longest, latency, cpu


def _parse_with_low_latency(text: str) -> Document:
    with low_latency(len(text)):
        return parse_document(text)


async def _parse_sliced(text: str) -> None:
    until = time.perf_counter() + _SLICE_SECONDS
    for _ in yaml.parse(text, Loader=yaml.CSafeLoader):
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + _SLICE_SECONDS


async def _parse_elsewhere(pool: ProcessPoolExecutor, text: str) -> Document:
    rows = await asyncio.get_running_loop().run_in_executor(pool, _parse_to_rows, text)
    return await asyncio.to_thread(_rebuild, rows)


def _parse_to_rows(text: str) -> list[tuple[Any, ...]]:
    """A document as what can be sent to another process."""
    return [
        (
            each.index,
            each.name,
            each.images,
            each.users,
            each.groups,
            *map(dict, (each.env, each.limits, each.requests)),
        )
        for each in parse_document(text).profiles
    ]


@low_latency(MAX_BYTES)
def _rebuild(rows: list[tuple[Any, ...]]) -> Document:
    return Document(tuple(Profile(*row[:5], *map(MappingProxyType, row[5:])) for row in rows))
