"""docs/faults.md, of what came of all faults. What came of outages is its last part: see `outages_page`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .bench import Cell, Result, Table
from .rows import EXAMPLES, LANES, Lane, Row

__all__ = ["PAGE", "format_row", "render", "split", "without_times"]

_CONFIGMAP = "jhub/jupyter-singleuser-profiles"
PAGE = Path(__file__).parents[3] / "docs" / "faults.md"
_LAST_PART = "\n## On a real API server\n"

_INTRODUCTION = """\
# The fault table

What a hub does when the [profiles](glossary.md#profile) cannot be read or are not valid. `make faults` causes every
fault for the ConfigMap of a hub with real users, under every [`failure_policy`](explanation.md#when-it-fails), and
writes this page up to [its last part](#on-a-real-api-server). The tests do the same, on the oldest and the newest
supported JupyterHub, and fail if they see something else. Only the milliseconds may differ.

Under every fault and policy:

- A start that fails has created nothing.
- The hub goes on answering. Somebody whose profiles are in another ConfigMap gets a server with them.
- After the fault, the next start gets the current profiles. Nothing needs a restart.
- The hub does not exit, even with `consecutive_failure_limit = 1`.

These faults affect only the reading of the ConfigMap. If the API server is unreachable, no pod can be created.

## What a start gets

*Read before*: this hub, or the one before its restart, has read a valid document: the [last
good](glossary.md#last-good) one. *Unread*: neither has.
"""

_LEGEND = """\
## What people and admins see

| the start gets | the person sees | the log begins with | `spawns_total` counts |
|---|---|---|---|
"""

_FAULTS = """\
## What the log and the metrics say

`…` stands for the parts that vary. *Retried*: the hub repeats the request for 30 seconds
(`k8s_api_request_retry_timeout`). Then the log says `no answer for configmap/… within 30 s, retries included; the last
was:`. The names of the [metrics](reference.md#metrics) begin with `profiled_spawner_`. If no document was read,
`document_valid` keeps its value. *Stall* is the longest time for which the hub's event loop was busy, with six people,
or with 200 where the API server restarts. It includes the work of JupyterHub and of the simulated API server.

| fault | the log, after *because* | `reads_total` counts | `parses_total` counts | `document_valid` | stall |
|---|---|---|---|---|---|
"""

_RETRIED = re.compile(r"no answer for \S+ within \d+ s, retries included(; the last was: )?")

_WORDS = {
    "current": "current profiles",
    "last good": "last good profiles",
    "no profiles": "no profiles",
    "no pod": "**no start**",
}


def render(table: Table) -> str:
    """The page without its last part."""
    head = [f"`{lane.policy}`, {'read before' if lane.good_before else 'unread'}" for lane in LANES]
    groups = _group(table)
    lines = [_INTRODUCTION, format_row("fault", *head), "|---" * (len(LANES) + 1) + "|", *_outcomes(groups)]
    lines += ["", _LEGEND + "\n".join(_legend(table)), "", _FAULTS + "\n".join(_tell(groups)), ""]
    return "\n".join(lines)


def _outcomes(groups: dict[str, list[Result]]) -> Iterable[str]:
    """What starts get, a row for all faults for which that is the same."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for title, results in groups.items():
        cells = tuple(_WORDS.get(cell.given, cell.given) for cell in results[0].cells.values())
        alike.setdefault(cells, []).append(title)
    *exceptions, (most, _) = sorted(alike.items(), key=lambda item: len(item[1]))
    for cells, titles in exceptions:
        yield format_row("; ".join(titles), *cells)
    yield format_row("every other fault below", *most)


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
            f"`{told}`" if told else "only a line at INFO",
            f"`{outcomes.get(given, given)}`",
        )


def _tell(groups: dict[str, list[Result]]) -> Iterable[str]:
    for title, results in groups.items():
        lane, cell = next(iter(results[0].cells.items()))
        told = {_normal(result.cells[lane].told[0], lane).partition(" because ")[2] for result in results if cell.told}
        if len(told) > 1:
            # Each has its own.
            told = {re.sub(r"has \d+ errors?: .*", "has … errors: line …, column …: …", why) for why in told}
        stall = max(result.stall_seconds for result in results)
        yield format_row(title, " or ".join(map(_quote, sorted(told))), *_metrics(cell), f"{stall * 1000:.0f} ms")


def _quote(why: str) -> str:
    """Why the log says that something happened, with what is the same in many rows left out."""
    retried = _RETRIED.match(why)
    why = why[retried.end() :] if retried else why
    words = ["retried"] * bool(retried) + [f"`{why.replace(f'configmap/{_CONFIGMAP}', 'configmap/…')}`"] * bool(why)
    return ": ".join(words)


def _metrics(cell: Cell) -> tuple[str, str, str]:
    """What the metrics say: which outcomes were counted, as how often is a matter of time, and the document's state."""
    outcomes = {
        series: ", ".join(f"`{name.split()[1]}`" for name in sorted(cell.counted) if name.startswith(series))
        for series in ("reads_total", "parses_total")
    }
    return outcomes["reads_total"], outcomes["parses_total"], f"{cell.valid:.0f}" if outcomes["parses_total"] else ""


def _normal(line: str, lane: Lane) -> str:
    """A line of the log as it would be with the default names, without what differs from run to run."""
    line = re.sub(rf"{lane.policy}-(known|unread-\d+)", _CONFIGMAP.partition("/")[2], line)
    line = re.sub(r"(?<=profiles@)\d+", "…", line)
    line = re.sub(r"(?<=read )\d+(?= s ago)", "…", line)
    line = re.sub(r"(?<=127\.0\.0\.1)(:|', )\d+", r"\1…", line)
    line = re.sub(r" \(_ssl\.c:\d+\)", "", line)
    line = re.sub(r"injected fault: \d+", "…", line)
    return re.sub(r"\s+", " ", line).strip()


def format_row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
