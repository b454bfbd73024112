"""docs/faults.md, of what came of all faults. What came of outages is its last part: see `outages_page`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .bench import Cell, Result, Table
from .rows import EXAMPLES, LANES, Lane, Row

__all__ = ["PAGE", "format_row", "render", "split", "without_times"]

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"
_LAST_PART = "\n## On a real API server\n"

_INTRODUCTION = """\
# The fault table

What a hub does when the profiles cannot be read, or are not valid, as it was seen to happen. `make faults` runs a
hub with real users in front of an API server, lets every fault below happen to its ConfigMap under every
`failure_policy`, and writes this page up to [its last part](#on-a-real-api-server). The tests run the same on the
oldest and the newest supported JupyterHub. Each has one half of the invalid examples. A test fails if it sees something
else than this page says. Only the milliseconds may differ.

In every cell of the table:

- A start that fails has created nothing: no pod, no volume claim.
- Meanwhile the hub answers, and somebody else, whose profiles are in another ConfigMap, gets a server with them.
- Once the fault is over, the next start gets the profiles as they are then. Nothing needs a restart.
- The hub does not exit, though it runs with `consecutive_failure_limit = 1`, the strictest there is.

A fault strikes the reading of the ConfigMap and nothing else. While the API server is away altogether, no pod can be
created either, whatever the policy: the last part of this page has such faults.

## What a start comes to

*Read before*: this hub has read a good document since it started; where it has restarted, the one before it has.
*Unread*: neither has. The last column is the longest
time for which the hub's event loop did not come round while a row's people started, all the work of JupyterHub and of
the stand-in for the API server, which share that loop, included. The first row has it for as many people (six, and
one with another ConfigMap) without a fault; in the row where the API server restarts there are 200.
"""

_LEGEND = """\
## What is seen

| the start comes to | the person sees | the log begins with | `spawns_total` counts |
|---|---|---|---|
"""

_FAULTS = """\
## What is told of each fault

The log goes on as below, but for what `…` stands for; the ConfigMap is called as it is by default. What may be
transient is tried again for 30 seconds (`k8s_api_request_retry_timeout`, here KubeSpawner's default), five of which a
hub that has just started keeps for the file of last good documents; the rest is told at once. All series begin with
`profiled_spawner_`; `document_valid` stays as it was where no document was read, and `last_good_read_age_seconds` grows
until a valid one is.

| fault | the log, after *because* | `reads_total` counts | `parses_total` counts | `document_valid` |
|---|---|---|---|---|
"""

_WORDS = {
    "current": "current profiles",
    "last good": "last good profiles",
    "no profiles": "no profiles",
    "no pod": "**no start**",
}


def render(table: Table) -> str:
    """The page without its last part."""
    head = [f"`{lane.policy}`, {'read before' if lane.good_before else 'unread'}" for lane in LANES]
    lines = [_INTRODUCTION, format_row("fault", *head, "stall"), "|---" * (len(LANES) + 2) + "|"]
    groups = _group(table)
    for title, results in groups.items():
        cells = [_WORDS.get(cell.given, cell.given) for cell in results[0].cells.values()]
        stall = max(result.stall_seconds for result in results)
        lines.append(format_row(title, *cells, f"{stall * 1000:.0f} ms"))
    lines += ["", _LEGEND + "\n".join(_legend(table)), "", _FAULTS + "\n".join(_tell(groups)), ""]
    return "\n".join(lines)


def split(page: str) -> tuple[str, str]:
    """A page as its two parts: what `render` writes, and what came of outages."""
    first, heading, last = page.partition(_LAST_PART)
    return first, heading + last


def without_times(page: str) -> str:
    """A page without what differs from run to run."""
    return re.sub(r"\d+ ms", "… ms", page)


def _group(table: Table) -> dict[str, list[Result]]:
    """The results by title; invalid examples of which the same is to be said are one."""
    groups = {row.title: [result] for row, result in table.results.items() if row not in EXAMPLES}
    alike: dict[object, list[Row]] = {}
    for row in (row for row in table.results if row in EXAMPLES):
        said = tuple((cell.given, *_metrics(cell)) for cell in table.results[row].cells.values())
        alike.setdefault(said, []).append(row)
    *exceptions, rest = sorted(alike.values(), key=len)
    for rows in exceptions:
        groups[f"invalid examples {', '.join(row.title for row in rows)}"] = [table.results[row] for row in rows]
    groups["every other invalid example of the tests"] = [table.results[row] for row in rest]
    return groups


def _legend(table: Table) -> Iterable[str]:
    outcomes = {"current": "current", "last good": "last_good", "no profiles": "ignored", "no pod": "failed"}
    seen: dict[str, tuple[str, str]] = {}
    for result in table.results.values():
        for lane, cell in result.cells.items():
            told = _normal(cell.told[0], lane).partition(" because ")[0] if cell.told else ""
            person = "their server" if cell.status == 201 else f"{cell.status}: {cell.message}"
            seen.setdefault(cell.given, (person, told))
    for given, (person, told) in seen.items():
        yield format_row(
            _WORDS.get(given, given),
            person,
            f"`{told}`" if told else "nothing but a line at INFO",
            f"`{outcomes.get(given, given)}`",
        )


def _tell(groups: dict[str, list[Result]]) -> Iterable[str]:
    for title, results in groups.items():
        lane, cell = next(iter(results[0].cells.items()))
        told = {_normal(result.cells[lane].told[0], lane).partition(" because ")[2] for result in results if cell.told}
        if len(told) > 1:
            # Each has its own.
            told = {re.sub(r"has \d+ errors?: .*", "has … errors: line …, column …: …", why) for why in told}
        yield format_row(title, " or ".join(f"`{why}`" for why in sorted(told)), *_metrics(cell))


def _metrics(cell: Cell) -> tuple[str, str, str]:
    """What the metrics say: which outcomes were counted, as how often is a matter of time, and the document's state."""
    outcomes = {
        series: ", ".join(f"`{name.split()[1]}`" for name in sorted(cell.counted) if name.startswith(series))
        for series in ("reads_total", "parses_total")
    }
    return outcomes["reads_total"], outcomes["parses_total"], f"{cell.valid:.0f}" if outcomes["parses_total"] else ""


def _normal(line: str, lane: Lane) -> str:
    """A line of the log as it would be with the default names, without what differs from run to run."""
    line = re.sub(rf"{lane.policy}-(known|unread-\d+)", "jupyter-singleuser-profiles", line)
    line = re.sub(r"(?<=profiles@)\d+", "…", line)
    line = re.sub(r"(?<=read )\d+(?= s ago)", "…", line)
    line = re.sub(r"(?<=127\.0\.0\.1)(:|', )\d+", r"\1…", line)
    line = re.sub(r" \(_ssl\.c:\d+\)", "", line)
    line = re.sub(r"injected fault: \d+", "…", line)
    return re.sub(r"\s+", " ", line).strip()


def format_row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
