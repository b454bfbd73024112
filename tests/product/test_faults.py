"""Every fault of reading and of the document, under every policy, on a hub with real users; see `faults`.

``make test`` has some of the invalid examples on the newest hosts, and others on the oldest (``FAULT_EXAMPLES``);
``make test-faults`` has all on both.
"""

from __future__ import annotations

import asyncio
import os
import re

import pytest

from faults.bench import Cell, Table, run
from faults.page import PAGE, render, split, without_times
from faults.rows import EXAMPLES, LANES, Lane, Row, select
from faults.rows import ROWS as EVERY_ROW

ROWS = select(os.environ.get("FAULT_EXAMPLES", "all"))
SENTENCE = (
    "Your server was not started because its settings could not be read; please ask the administrators of this "
    "JupyterHub."
)
LEVELS = {"current": "", "last good": "WARNING", "no profiles": "ERROR", "no pod": "ERROR"}

in_every_cell = pytest.mark.parametrize(
    ("row", "lane"), [pytest.param(row, lane, id=f"{row}-{lane}") for row in ROWS for lane in LANES]
)
in_every_row = pytest.mark.parametrize("row", ROWS, ids=str)


def test_each_part_has_every_fault_and_examples_of_its_own() -> None:
    some, others, every = (set(select(part)) for part in ("some", "others", "all"))
    assert every == set(EVERY_ROW)
    faults = {row for row in EVERY_ROW if row not in EXAMPLES or row.outcome != "invalid"}
    assert some & others == faults
    assert min(len(some - faults), len(others - faults)) >= 5


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return asyncio.run(run(tmp_path_factory.mktemp("faults"), ROWS))


@pytest.fixture
def cell(table: Table, row: Row, lane: Lane) -> Cell:
    return table.results[row].cells[lane]


def given(row: Row, lane: Lane) -> str:
    """What docs/explanation.md says that a start is given."""
    if row.outcome == "ok":
        return "current"
    if lane.policy == "ignore":
        return "no profiles"
    return "last good" if lane.policy == "last-good" and lane.good_before else "no pod"


@in_every_cell
def test_a_start_is_given_what_the_policy_says(row: Row, lane: Lane, cell: Cell) -> None:
    assert cell.given == given(row, lane)


@in_every_cell
def test_a_start_that_fails_says_so_in_one_sentence_and_creates_nothing(row: Row, lane: Lane, cell: Cell) -> None:
    if given(row, lane) == "no pod":
        assert (cell.status, cell.message, cell.created) == (503, SENTENCE, [])
    else:
        assert (cell.status, cell.message) == (201, "")
        assert set(cell.created) == {"pods", "persistentvolumeclaims"}


@in_every_cell
def test_the_log_says_once_what_is_wrong(row: Row, lane: Lane, cell: Cell) -> None:
    level = LEVELS[given(row, lane)]
    assert [line.partition(":")[0] for line in cell.told] == ([level] if level else [])
    assert row.told in "".join(cell.told)


@in_every_cell
def test_the_metrics_say_how_reading_ended(row: Row, lane: Lane, cell: Cell) -> None:
    expected = {f"reads_total {'ok' if row.outcome == 'invalid' else row.outcome}"}
    if row.outcome in ("ok", "invalid"):
        expected.add(f"parses_total {'valid' if row.outcome == 'ok' else 'invalid'}")
    if row.restart:
        expected.add("reads_total unavailable")
    assert set(cell.counted) == expected
    assert cell.valid == {"ok": 1.0, "invalid": 0.0}.get(row.outcome, 1.0 if lane.good_before else None)
    assert cell.has_age == (lane.good_before or row.outcome == "ok")


@in_every_cell
def test_the_next_start_after_the_fault_has_the_current_profiles(row: Row, lane: Lane, cell: Cell) -> None:
    assert (cell.again, cell.valid_again) == ("current", 1.0)


@in_every_row
def test_the_hub_goes_on_serving_others_meanwhile(table: Table, row: Row) -> None:
    assert table.results[row].healthy
    assert table.results[row].bystander == "current"


@in_every_row
def test_a_start_that_is_only_observed_goes_on_as_without_us_whatever_happens(table: Table, row: Row) -> None:
    status, given, said = table.results[row].observed
    assert (status, given) == (201, "no profiles")
    # The start that waits for an API server which is away would have had time; this one has not.
    refused = row.outcome != "ok" or row.restart
    assert said.get("refused") == ("its settings could not be read" if refused else None)
    assert said.get("applied") == (None if refused else ["good"])


def test_what_is_only_observed_is_told_as_what_would_be(table: Table) -> None:
    lines = [line for line in table.log if re.search("observed[-:]", line) and not line.startswith("INFO")]
    assert len(lines) == sum(row.outcome != "ok" or row.restart for row in ROWS)
    # A busy machine may let all the time of an observed start pass before its reading says that it timed out.
    told = re.compile("WARNING: Would (start no server, because |not start observed:.* could not be read within )")
    assert [line for line in lines if not told.match(line)] == []


@in_every_row
def test_every_start_is_counted_by_what_it_was_given(table: Table, row: Row) -> None:
    # Somebody else's is the one that is always current.
    expected = {"current": 1, "last_good": 1, "ignored": 2, "failed": 3} if row.outcome != "ok" else {"current": 7}
    assert table.results[row].spawns == {**({"current": 201} if row.restart else expected), "observed": 1}


def test_an_answer_that_asks_to_wait_is_not_asked_for_sooner(table: Table) -> None:
    (row,) = (row for row in ROWS if row.effect.get("retry_after"))
    assert [cell.counted["reads_total unavailable"] for cell in table.results[row].cells.values()] == [1] * len(LANES)


def test_a_burst_shares_its_requests(table: Table) -> None:
    (row,) = (row for row in ROWS if row.restart)
    assert [cell.counted["reads_total ok"] < 5 for cell in table.results[row].cells.values()] == [True] * len(LANES)


def test_the_hub_never_exits_because_of_us(table: Table) -> None:
    failures = [line for line in table.log if SENTENCE in line]
    assert len(failures) >= 3 * (len(ROWS) - 2)
    assert [line for line in table.log if "Aborting" in line] == []


def test_no_value_is_in_the_log(table: Table) -> None:
    assert [line for line in table.log if "canary" in line] == []


def test_the_page_says_what_was_seen(table: Table) -> None:
    """If it does not, `make faults` writes it anew."""
    page, _ = split(PAGE.read_text(encoding="utf-8"))
    assert without_times(page) == without_times(render(table))
