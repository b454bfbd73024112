"""How a figure is measured: in turn with what it is compared with, several times, and by medians.

A machine has other work and grows warm, so a run is only ever compared with the one beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from types import TracebackType
from typing import Any, Literal, Self

#: A value for each variant and run.
Runs = dict[str, list[float]]


@dataclass(frozen=True)
class Figure:
    """What was measured of one thing, beside its baseline.

    Attributes:
        name: What it is.
        unit: Of the values.
        values: One for each run.
        baseline_name: What it is compared with.
        baseline: That one's values, run by run.
        compared: How: the `ratio` of the two, the `difference`, or the `gain` (the baseline's over ours).
        target: What must be reached; None for what is only told.
    """

    name: str
    unit: str
    values: list[float]
    baseline_name: str = ""
    baseline: list[float] = field(default_factory=list)
    compared: Literal["value", "ratio", "difference", "gain"] = "value"
    target: float | None = None

    @property
    def result(self) -> float:
        """What the target is about: the median of what each run gives."""
        pairs = list(zip(self.values, self.baseline, strict=True)) if self.baseline else []
        if self.compared == "ratio":
            return median(value / base for value, base in pairs)
        if self.compared == "difference":
            return median(value - base for value, base in pairs)
        if self.compared == "gain":
            return median(base / value for value, base in pairs)
        return median(self.values)

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.result >= self.target if self.compared == "gain" else self.result <= self.target

    def to_json(self) -> dict[str, Any]:
        """As it is written to the results."""
        return {**vars(self), "result": self.result, "reached": self.is_reached}


@dataclass(frozen=True)
class Curve:
    """How something grows.

    Attributes:
        name: What is drawn.
        x_name: What it grows with.
        y_name: What is measured, and its unit.
        x: Along the first axis.
        series: The values along the second, by what was measured.
        is_logarithmic: Whether the first axis is.
    """

    name: str
    x_name: str
    y_name: str
    x: list[float]
    series: Mapping[str, list[float]]
    is_logarithmic: bool = False


def in_turn(runs: int, variants: Mapping[str, Callable[[], float]]) -> Runs:
    """Calls each variant once per run, there and back, and gives what they return."""
    measured: Runs = {name: [] for name in variants}
    for name in turns(runs, variants):
        measured[name].append(variants[name]())
    return measured


async def in_turn_async(runs: int, variants: Mapping[str, Callable[[], Awaitable[float]]]) -> Runs:
    """The same, for variants that are awaited."""
    measured: Runs = {name: [] for name in variants}
    for name in turns(runs, variants):
        measured[name].append(await variants[name]())
    return measured


def turns(runs: int, names: Iterable[str]) -> Iterator[str]:
    """Whose turn it is: each once per run, in one order and then in the other."""
    order = list(names)
    for _ in range(runs):
        yield from order
        order.reverse()


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time that a call takes, which other processes do not add to. What it returns is let go of afterwards."""
    began = time.process_time()
    kept = work()
    took = time.process_time() - began
    del kept
    return took


class StallWatch:
    """Looks a thousand times a second whether the event loop still runs, as long as its context lasts.

    Attributes:
        longest: The longest that it did not, in seconds.
    """

    longest = 0.0

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        await asyncio.sleep(0.01)
        self.longest = 0.0
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.sleep(0.01)
        self._watching.cancel()

    async def _watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last - 0.001)
            last = now
