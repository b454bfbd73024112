"""Dates and times are instants, to the second, in every zone; what is none is refused, with what to write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiled_spawner.document.times import (
    ALWAYS,
    Period,
    describe_end,
    describe_start,
    load_zone,
    parse_end,
    parse_start,
)
from profiled_spawner.errors import TimeError

ZONES = files("tzdata").joinpath("zones").read_text().split()
EXAMPLES = "a date such as 2026-12-01, or a time such as 2026-12-01T14:00"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def outcome(parse: Callable[[str, tzinfo], int], text: str, zone: tzinfo) -> int | str:
    """The instant, or why there is none."""
    try:
        return parse(text, zone)
    except TimeError as error:
        return str(error)


def wall(instant: int, zone: tzinfo) -> datetime:
    """What a clock shows, as Python's own conversion has it."""
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        pytest.param("2026-12-01", "2026-12-01T00:00Z", id="date"),
        pytest.param("2026-12-01T14:00", "2026-12-01T14:00Z", id="time"),
        pytest.param("2026-12-01T14:00:30", "2026-12-01T14:00:30Z", id="seconds"),
        pytest.param("2026-12-01 14:00", "2026-12-01T14:00Z", id="space"),
        pytest.param("2026-12-01 14:00:30+02:00", "2026-12-01T12:00:30Z", id="space-and-offset"),
        pytest.param("2026-12-01T14:00Z", "2026-12-01T14:00Z", id="utc"),
        pytest.param("2026-12-01T14:00+02:00", "2026-12-01T12:00Z", id="offset"),
        pytest.param("2026-12-01T14:00+0200", "2026-12-01T12:00Z", id="offset-as-date-writes-it"),
        pytest.param("2026-12-01T14:00+02", "2026-12-01T12:00Z", id="offset-in-hours"),
        pytest.param("2026-12-01T14:00-03:30", "2026-12-01T17:30Z", id="offset-to-the-west"),
        pytest.param("2026-12-01T14:00-00:30", "2026-12-01T14:30Z", id="offset-of-less-than-an-hour"),
        pytest.param("1935-01-01T00:00+00:19:32", "1934-12-31T23:40:28Z", id="offset-with-seconds"),
        pytest.param("2026-12-01T14:00+14:00", "2026-12-01T00:00Z", id="easternmost"),
        pytest.param("2026-12-01T15:59-15:59:59", "2026-12-02T07:58:59Z", id="as-far-as-an-offset-may-be"),
        pytest.param("2024-02-29", "2024-02-29T00:00Z", id="leap-day"),
        pytest.param("1969-12-31T23:59:59", "1969-12-31T23:59:59Z", id="before-the-epoch"),
        pytest.param("0001-01-01", "0001-01-01T00:00Z", id="first-day"),
        pytest.param("9999-12-31T23:59:59", "9999-12-31T23:59:59Z", id="last-second"),
    ],
)
def test_what_is_a_time(text: str, instant: str) -> None:
    assert parse_start(text, UTC) == at(instant)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("2026-12-01T24:00", "2026-12-01T24:00 has hour 24; write 00:00 of the next day", id="hour-24"),
        pytest.param(
            "2026-12-01T25:00",
            "2026-12-01T25:00 has no valid time of day; write 00:00 to 23:59, or 23:59:59",
            id="hour-25",
        ),
        pytest.param(
            "2026-12-01T24:00:01",
            "2026-12-01T24:00:01 has no valid time of day; write 00:00 to 23:59, or 23:59:59",
            id="behind-hour-24",
        ),
        pytest.param(
            "2026-12-31T23:59:60Z",
            "2026-12-31T23:59:60Z has no valid time of day; write 00:00 to 23:59, or 23:59:59",
            id="leap-second",
        ),
        pytest.param("2026-02-29", "2026-02-29 is not in the calendar", id="no-leap-year"),
        pytest.param("2026-13-01T14:00", "2026-13-01 is not in the calendar", id="month-13"),
        pytest.param("0000-01-01", "0000-01-01 is not in the calendar", id="year-0"),
        pytest.param(
            "2026-12-01T14:00+16:00",
            "+16:00 is not an offset from UTC; write Z, or one such as +02:00 or -05:30",
            id="offset-too-far",
        ),
        pytest.param(
            "2026-12-01T14:00+02:60",
            "+02:60 is not an offset from UTC; write Z, or one such as +02:00 or -05:30",
            id="offset-with-60-minutes",
        ),
        pytest.param(
            "2026-12-01Z",
            "2026-12-01Z has an offset, and a date has none; write a time too, or leave out the offset",
            id="date-in-utc",
        ),
        pytest.param(
            "2026-12-01+02:00",
            "2026-12-01+02:00 has an offset, and a date has none; write a time too, or leave out the offset",
            id="date-with-an-offset",
        ),
    ],
)
def test_what_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(TimeError) as refusal:
        parse_start(text, UTC)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        pytest.param("2026-12-01t14:00z", "2026-12-01T14:00Z", id="lower-case"),
        pytest.param("2026-12-01T14:00:00.000Z", "2026-12-01T14:00:00Z", id="fraction-as-javascript-writes-it"),
        pytest.param("2026-12-01T14:00:00,5", "2026-12-01T14:00:00", id="fraction-with-a-comma"),
        pytest.param("2026-12-01 14:00:00 +0200", "2026-12-01T14:00:00+0200", id="space-before-the-offset"),
        pytest.param("2026-12-01 14:00 UTC", "2026-12-01T14:00Z", id="utc-as-a-word"),
        pytest.param("2026-12-1", "2026-12-01", id="one-digit"),
        pytest.param("2026-1-9 9:05", "2026-01-09T09:05", id="one-digit-each"),
        pytest.param("2026/12/01", "2026-12-01", id="slashes"),
        pytest.param("20261201", "2026-12-01", id="basic-date"),
        pytest.param("20261201T140030Z", "2026-12-01T14:00:30Z", id="basic-time"),
    ],
)
def test_what_was_likely_meant_is_suggested_and_accepted(text: str, meant: str) -> None:
    with pytest.raises(TimeError) as refusal:
        parse_start(text, UTC)

    assert str(refusal.value) == f"{text} is not {EXAMPLES}; did you mean {meant}?"
    parse_start(meant, UTC)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-W49-2", id="week-date"),
        pytest.param("2026-335", id="ordinal-date"),
        pytest.param("01.12.2026", id="day-first"),
        pytest.param("12/01/2026", id="month-first"),
        pytest.param("2026-12", id="month"),
        pytest.param("2026", id="year"),
        pytest.param("14:00", id="time-without-a-date"),
        pytest.param("1796083200", id="epoch"),
        pytest.param("2026-12-01T14", id="hour-alone"),
        pytest.param("2026-12-01T", id="cut-short"),
        pytest.param("2026-12-01  14:00", id="two-spaces"),
        pytest.param("2026-12-01/2026-12-31", id="interval"),
        pytest.param("26-12-01", id="two-digits-for-a-year"),
        pytest.param("12026-12-01", id="five-digits-for-a-year"),
        pytest.param("2026/12/01T24:00", id="what-is-meant-is-none-either"),
        pytest.param("2026-12-01T14:00+2:0", id="offset-of-single-digits"),
        pytest.param("9" * 40, id="as-long-as-is-quoted"),
    ],
)
def test_what_only_looks_like_a_time_is_quoted(text: str) -> None:
    with pytest.raises(TimeError) as refusal:
        parse_start(text, UTC)

    assert str(refusal.value) == f"{text} is not {EXAMPLES}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("tomorrow", id="word"),
        pytest.param("1 December 2026", id="in-words"),
        pytest.param("2026-12-01T14:00 Europe/Athens", id="zone-behind-it"),
        pytest.param("2026-12-01T14:00[Europe/Athens]", id="zone-in-brackets"),
        pytest.param("P7D", id="duration"),
        pytest.param("-2026-12-01", id="before-our-time"),
        pytest.param(" 2026-12-01", id="leading-space"),
        pytest.param("2026-12-01\n", id="line-end"),
        pytest.param("2026-12-01T14:00\x00", id="nul"),
        pytest.param("٢٠٢٦-١٢-٠١", id="digits-of-another-script"),
        pytest.param("2026-12-01T14:00−02:00", id="minus-of-typesetters"),
        pytest.param("9" * 41, id="longer-than-is-quoted"),
        pytest.param("hunter2", id="password"),
    ],
)
def test_what_is_nothing_like_a_time_is_not_quoted(text: str) -> None:
    with pytest.raises(TimeError) as refusal:
        parse_start(text, UTC)

    assert str(refusal.value) == f"not {EXAMPLES}"


@given(
    st.text(max_size=60)
    | st.from_regex(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}([Tt ][0-9:.,]{1,12}([Zz]|[+-][0-9:]{1,9})?)?", fullmatch=True),
    st.sampled_from(ZONES),
)
@settings(deadline=None)
def test_any_text_is_an_instant_or_a_time_error(text: str, name: str) -> None:
    for parse in (parse_start, parse_end):
        found = outcome(parse, text, ZoneInfo(name))
        if isinstance(found, str):
            assert found.isprintable()
            assert len(found) < 250
        else:
            # Of the years 1 to 9999, with offsets of less than a day.
            assert abs(found) < 260_000_000_000


# Zone, day, and its first instant, by the rules that each government has published for 2026.
DAYS = [
    pytest.param("Europe/Athens", "2026-03-29", "2026-03-28T22:00:00Z", id="athens-on-the-day-in-spring"),
    pytest.param("Europe/Athens", "2026-03-30", "2026-03-29T21:00:00Z", id="athens-after-it"),
    pytest.param("Europe/Athens", "2026-10-25", "2026-10-24T21:00:00Z", id="athens-on-the-day-in-autumn"),
    pytest.param("Europe/Athens", "2026-10-26", "2026-10-25T22:00:00Z", id="athens-after-that"),
    pytest.param("America/New_York", "2026-03-08", "2026-03-08T05:00:00Z", id="new-york-on-the-day-in-spring"),
    pytest.param("America/New_York", "2026-03-09", "2026-03-09T04:00:00Z", id="new-york-after-it"),
    pytest.param("America/New_York", "2026-11-01", "2026-11-01T04:00:00Z", id="new-york-on-the-day-in-autumn"),
    pytest.param("America/New_York", "2026-11-02", "2026-11-02T05:00:00Z", id="new-york-after-that"),
    pytest.param("Asia/Kolkata", "2026-03-29", "2026-03-28T18:30:00Z", id="kolkata-in-spring"),
    pytest.param("Asia/Kolkata", "2026-10-25", "2026-10-24T18:30:00Z", id="kolkata-in-autumn"),
    pytest.param("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00Z", id="lord-howe-on-the-day-in-autumn"),
    pytest.param("Australia/Lord_Howe", "2026-04-06", "2026-04-05T13:30:00Z", id="lord-howe-after-it"),
    pytest.param("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30:00Z", id="lord-howe-on-the-day-in-spring"),
    pytest.param("Australia/Lord_Howe", "2026-10-05", "2026-10-04T13:00:00Z", id="lord-howe-after-that"),
    pytest.param("America/Santiago", "2026-04-04", "2026-04-04T03:00:00Z", id="santiago-with-25-hours"),
    pytest.param("America/Santiago", "2026-04-05", "2026-04-05T04:00:00Z", id="santiago-after-it"),
    pytest.param("America/Santiago", "2026-09-06", "2026-09-06T04:00:00Z", id="santiago-without-a-midnight"),
    pytest.param("America/Santiago", "2026-09-07", "2026-09-07T03:00:00Z", id="santiago-after-that"),
    pytest.param("Africa/Cairo", "2026-04-24", "2026-04-23T22:00:00Z", id="cairo-without-a-midnight"),
    pytest.param("Africa/Cairo", "2026-04-25", "2026-04-24T21:00:00Z", id="cairo-after-it"),
    pytest.param("Africa/Cairo", "2026-10-29", "2026-10-28T21:00:00Z", id="cairo-with-25-hours"),
    pytest.param("Africa/Cairo", "2026-10-30", "2026-10-29T22:00:00Z", id="cairo-after-that"),
    pytest.param("America/Havana", "2026-11-01", "2026-11-01T04:00:00Z", id="havana-with-two-midnights"),
    pytest.param("Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00Z", id="samoa-before-the-day-it-skipped"),
    pytest.param("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z", id="samoa-after-the-day-it-skipped"),
    pytest.param("Pacific/Kwajalein", "1993-08-20", "1993-08-20T12:00:00Z", id="kwajalein-before-the-day-it-skipped"),
    pytest.param("Pacific/Kwajalein", "1993-08-22", "1993-08-21T12:00:00Z", id="kwajalein-after-the-day-it-skipped"),
]


@pytest.mark.parametrize(("zone", "day", "first"), DAYS)
def test_from_a_day_is_its_first_second_and_until_the_day_before_ends_with_it(zone: str, day: str, first: str) -> None:
    clock = load_zone(zone)
    start = Period(start=parse_start(day, clock))
    assert [start.covers(at(first) + second) for second in (-1, 0)] == [False, True]

    last_day = wall(at(first) - 1, clock).date()
    assert last_day < date.fromisoformat(day)
    end = Period(end=parse_end(last_day.isoformat(), clock))
    assert [end.covers(at(first) + second) for second in (-1, 0)] == [True, False]


# Zone, what clocks show, and the instant: the last second before clocks change, and the first one after it.
SECONDS = [
    pytest.param("Europe/Athens", "2026-03-29T02:59:59", "2026-03-29T00:59:59Z", id="athens-before-the-gap"),
    pytest.param("Europe/Athens", "2026-03-29T04:00:00", "2026-03-29T01:00:00Z", id="athens-behind-the-gap"),
    pytest.param("Europe/Athens", "2026-10-25T02:59:59", "2026-10-24T23:59:59Z", id="athens-before-the-hour-twice"),
    pytest.param("Europe/Athens", "2026-10-25T04:00:00", "2026-10-25T02:00:00Z", id="athens-behind-the-hour-twice"),
    pytest.param("America/New_York", "2026-03-08T01:59:59", "2026-03-08T06:59:59Z", id="new-york-before-the-gap"),
    pytest.param("America/New_York", "2026-03-08T03:00:00", "2026-03-08T07:00:00Z", id="new-york-behind-the-gap"),
    pytest.param("America/New_York", "2026-11-01T00:59:59", "2026-11-01T04:59:59Z", id="new-york-before-the-hour"),
    pytest.param("America/New_York", "2026-11-01T02:00:00", "2026-11-01T07:00:00Z", id="new-york-behind-the-hour"),
    pytest.param("Asia/Kolkata", "2026-03-29T03:30:00", "2026-03-28T22:00:00Z", id="kolkata-in-spring"),
    pytest.param("Asia/Kolkata", "2026-10-25T03:30:00", "2026-10-24T22:00:00Z", id="kolkata-in-autumn"),
    pytest.param("Australia/Lord_Howe", "2026-10-04T01:59:59", "2026-10-03T15:29:59Z", id="lord-howe-before-the-gap"),
    pytest.param("Australia/Lord_Howe", "2026-10-04T02:30:00", "2026-10-03T15:30:00Z", id="lord-howe-behind-the-gap"),
    pytest.param("Australia/Lord_Howe", "2026-04-05T01:29:59", "2026-04-04T14:29:59Z", id="lord-howe-before-the-half"),
    pytest.param("Australia/Lord_Howe", "2026-04-05T02:00:00", "2026-04-04T15:30:00Z", id="lord-howe-behind-the-half"),
    pytest.param("America/Santiago", "2026-09-05T23:59:59", "2026-09-06T03:59:59Z", id="santiago-before-the-gap"),
    pytest.param("America/Santiago", "2026-09-06T01:00:00", "2026-09-06T04:00:00Z", id="santiago-behind-the-gap"),
    pytest.param("America/Santiago", "2026-04-04T22:59:59", "2026-04-05T01:59:59Z", id="santiago-before-the-hour"),
    pytest.param("America/Santiago", "2026-04-05T00:00:00", "2026-04-05T04:00:00Z", id="santiago-behind-the-hour"),
    pytest.param("Africa/Cairo", "2026-04-23T23:59:59", "2026-04-23T21:59:59Z", id="cairo-before-the-gap"),
    pytest.param("Africa/Cairo", "2026-04-24T01:00:00", "2026-04-23T22:00:00Z", id="cairo-behind-the-gap"),
    pytest.param("Africa/Cairo", "2026-10-29T22:59:59", "2026-10-29T19:59:59Z", id="cairo-before-the-hour"),
    pytest.param("Africa/Cairo", "2026-10-30T00:00:00", "2026-10-29T22:00:00Z", id="cairo-behind-the-hour"),
]


@pytest.mark.parametrize(("zone", "text", "instant"), SECONDS)
def test_a_time_is_exact_to_the_second_and_excluded_from_until(zone: str, text: str, instant: str) -> None:
    clock = load_zone(zone)
    assert parse_start(text, clock) == parse_end(text, clock) == at(instant)


# Zone, a time that clocks skip or show twice, and the two offsets, the earlier first.
UNCLEAR = [
    pytest.param("Europe/Athens", "2026-03-29T03:00", "does not exist", "+02:00", "+03:00", id="athens-first"),
    pytest.param("Europe/Athens", "2026-03-29T03:59:59", "does not exist", "+02:00", "+03:00", id="athens-last"),
    pytest.param("Europe/Athens", "2026-10-25 03:00", "exists twice", "+03:00", "+02:00", id="athens-twice"),
    pytest.param("Europe/Athens", "2026-10-25T03:59:59", "exists twice", "+03:00", "+02:00", id="athens-last-twice"),
    pytest.param("America/New_York", "2026-03-08T02:00", "does not exist", "-05:00", "-04:00", id="new-york-first"),
    pytest.param("America/New_York", "2026-03-08T02:59:59", "does not exist", "-05:00", "-04:00", id="new-york-last"),
    pytest.param("America/New_York", "2026-11-01T01:00", "exists twice", "-04:00", "-05:00", id="new-york-twice"),
    pytest.param("America/New_York", "2026-11-01T01:59:59", "exists twice", "-04:00", "-05:00", id="new-york-last-2"),
    pytest.param("Australia/Lord_Howe", "2026-10-04T02:00", "does not exist", "+10:30", "+11:00", id="lord-howe"),
    pytest.param("Australia/Lord_Howe", "2026-10-04T02:29:59", "does not exist", "+10:30", "+11:00", id="lord-howe-l"),
    pytest.param("Australia/Lord_Howe", "2026-04-05T01:30", "exists twice", "+11:00", "+10:30", id="lord-howe-twice"),
    pytest.param("Australia/Lord_Howe", "2026-04-05T01:59:59", "exists twice", "+11:00", "+10:30", id="lord-howe-2"),
    pytest.param("America/Santiago", "2026-09-06T00:00", "does not exist", "-04:00", "-03:00", id="santiago-midnight"),
    pytest.param("America/Santiago", "2026-09-06T00:59:59", "does not exist", "-04:00", "-03:00", id="santiago-last"),
    pytest.param("America/Santiago", "2026-04-04T23:00", "exists twice", "-03:00", "-04:00", id="santiago-twice"),
    pytest.param("America/Santiago", "2026-04-04T23:59:59", "exists twice", "-03:00", "-04:00", id="santiago-last-2"),
    pytest.param("Africa/Cairo", "2026-04-24T00:00", "does not exist", "+02:00", "+03:00", id="cairo-midnight"),
    pytest.param("Africa/Cairo", "2026-04-24T00:59:59", "does not exist", "+02:00", "+03:00", id="cairo-last"),
    pytest.param("Africa/Cairo", "2026-10-29T23:00", "exists twice", "+03:00", "+02:00", id="cairo-twice"),
    pytest.param("Africa/Cairo", "2026-10-29T23:59:59", "exists twice", "+03:00", "+02:00", id="cairo-last-twice"),
    # Liberia's old offset was not of whole minutes.
    pytest.param("Africa/Monrovia", "1972-01-07T00:00", "does not exist", "-00:44:30", "+00:00", id="odd-offset"),
]


@pytest.mark.parametrize(("zone", "text", "what", "before", "after"), UNCLEAR)
def test_a_time_that_clocks_skip_or_show_twice_wants_an_offset(
    zone: str, text: str, what: str, before: str, after: str
) -> None:
    clock = load_zone(zone)
    for parse in (parse_start, parse_end):
        with pytest.raises(TimeError) as refusal:
            parse(text, clock)

        either = f"{text}{before} or {text}{after}"
        assert str(refusal.value) == f"{text} {what} in {zone}, since clocks change; add an offset: {either}"
        assert [parse(each, clock) for each in either.split(" or ")] == [at(each) for each in either.split(" or ")]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        pytest.param("Pacific/Apia", "2011-12-30", id="samoa"),
        pytest.param("Pacific/Kwajalein", "1993-08-21", id="kwajalein"),
    ],
)
def test_a_day_that_a_zone_skips_is_refused(zone: str, day: str) -> None:
    for parse in (parse_start, parse_end):
        with pytest.raises(TimeError) as refusal:
            parse(day, load_zone(zone))

        what = f"{day} does not exist in {zone}, since clocks skip it"
        assert str(refusal.value) == f"{what}; write the day before or after"


@pytest.mark.parametrize("zone", ["Africa/Cairo", "America/Santiago", "Asia/Kolkata", "Australia/Lord_Howe"])
@pytest.mark.parametrize("text", ["0001-01-01", "0001-01-01T00:00", "9999-12-31", "9999-12-31T23:59:59"])
def test_the_first_and_the_last_day_have_a_beginning_and_an_end_everywhere(zone: str, text: str) -> None:
    clock = load_zone(zone)
    local = datetime.fromisoformat(text).replace(tzinfo=clock)
    start = (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert parse_start(text, clock) == start
    assert parse_end(text, clock) == start + (0 if "T" in text else 86_400)


# Zone, and a day within a day of which clocks change.
CHANGES = [
    ("Europe/Athens", "2026-03-29"),
    ("Europe/Athens", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Asia/Kolkata", "2026-10-25"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Santiago", "2026-04-05"),
    ("America/Santiago", "2026-09-06"),
    ("Africa/Cairo", "2026-04-24"),
    ("Africa/Cairo", "2026-10-30"),
    ("America/Havana", "2026-11-01"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Kwajalein", "1993-08-21"),
]


@pytest.mark.parametrize(("zone", "day"), CHANGES, ids=[f"{zone}-{day}" for zone, day in CHANGES])
def test_every_minute_around_a_change_is_what_clocks_show(zone: str, day: str) -> None:
    clock, noon = load_zone(zone), int(datetime.fromisoformat(f"{day}T12:00Z").timestamp())
    shown: dict[datetime, list[int]] = defaultdict(list)
    for instant in range(noon - 3 * 86_400, noon + 3 * 86_400, 60):
        shown[wall(instant, clock)].append(instant)

    # Where clocks are at most a day from UTC, these are in the middle of what was looked at.
    first = datetime.fromisoformat(day) - timedelta(days=1)
    for minute in (first + timedelta(minutes=number) for number in range(3 * 1440)):
        text, instants = minute.isoformat(timespec="minutes"), shown.get(minute, [])
        found = outcome(parse_start, text, clock)
        if len(instants) == 1:
            assert found == instants[0]
        else:
            assert ("exists twice" if instants else "does not exist") in str(found)

    begins = {}
    for minute, instants in sorted(shown.items(), key=lambda item: item[1]):
        begins.setdefault(minute.date(), instants[0])
    for begun in list(begins)[1:]:
        assert parse_start(begun.isoformat(), clock) == begins[begun]


@given(st.sampled_from(ZONES), st.dates(date(1840, 1, 1), date(2200, 1, 1)) | st.dates(date(2, 1, 1), date(9998, 1, 1)))
@settings(deadline=None, max_examples=500)
def test_in_every_zone_a_day_begins_with_the_first_instant_that_has_its_date(name: str, day: date) -> None:
    zone = load_zone(name)
    first = outcome(parse_start, day.isoformat(), zone)
    if isinstance(first, str):
        noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
        assert day not in {wall(instant, zone).date() for instant in range(noon - 129_600, noon + 129_600, 60)}
    else:
        assert wall(first, zone).date() == day
        assert wall(first - 1, zone).date() < day
        assert parse_end(wall(first - 1, zone).date().isoformat(), zone) == first


def test_a_period_has_its_start_and_not_its_end() -> None:
    period = Period(100, 200)
    assert [period.covers(moment) for moment in (99.999, 100, 199.999, 200)] == [False, True, True, False]
    assert [period.has_ended(moment) for moment in (99, 199.999, 200)] == [False, False, True]
    assert [period.ends_within(50, moment) for moment in (149.999, 150, 199.999, 200)] == [False, True, True, False]


@pytest.mark.parametrize("moment", [-1e18, 0, 1e18])
def test_a_period_without_bounds_covers_every_moment(moment: float) -> None:
    assert ALWAYS.covers(moment)
    assert not ALWAYS.has_ended(moment)
    assert not ALWAYS.ends_within(1e9, moment)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        pytest.param("2026-12-02", "2026-12-01", id="day-before"),
        pytest.param("2026-12-01T14:00", "2026-12-01T13:59:59", id="second-before"),
        pytest.param("2026-12-01T14:00", "2026-12-01T14:00", id="same-time"),
    ],
)
def test_an_empty_period_is_refused(start: str, end: str) -> None:
    with pytest.raises(TimeError, match="must be after 'from', or this never applies"):
        Period(parse_start(start, UTC), parse_end(end, UTC))


def test_a_period_may_be_of_one_day() -> None:
    assert Period(parse_start("2026-12-01", UTC), parse_end("2026-12-01", UTC)).covers(at("2026-12-01T23:59:59Z"))


@pytest.mark.parametrize(
    ("zone", "text", "shown"),
    [
        pytest.param("UTC", "2026-12-01", "from 1 December", id="day"),
        pytest.param("UTC", "2027-01-31", "from 31 January 2027", id="day-of-another-year"),
        pytest.param("UTC", "2026-12-01T00:00", "from 1 December", id="midnight"),
        pytest.param("UTC", "2026-12-01T00:00:01", "from 1 December, 00:00:01 UTC", id="second-behind-midnight"),
        pytest.param("Europe/Athens", "2026-12-01T14:00", "from 1 December, 14:00 Europe/Athens", id="time"),
        pytest.param("Europe/Athens", "2026-12-01T14:00Z", "from 1 December, 16:00 Europe/Athens", id="other-offset"),
        pytest.param("Europe/Athens", "2026-12-31T22:00Z", "from 1 January 2027", id="new-year-by-its-own-clocks"),
        pytest.param(
            "Europe/Athens", "2026-10-25T03:30+03:00", "from 25 October, 03:30+03:00 Europe/Athens", id="first"
        ),
        pytest.param("Europe/Athens", "2026-10-25T03:30+02:00", "from 25 October, 03:30+02:00 Europe/Athens", id="2nd"),
        pytest.param("America/Santiago", "2026-09-06", "from 6 September", id="no-midnight"),
        pytest.param(
            "America/Havana", "2026-11-01T00:00-05:00", "from 1 November, 00:00-05:00 America/Havana", id="2nd-0"
        ),
        pytest.param("Europe/Athens", "0001-01-01", "from 1 January 1", id="first-day"),
        pytest.param("UTC", "0001-01-01T00:00+14:00", "from 1 January 1, 00:00 UTC", id="before-the-first-day"),
    ],
)
def test_a_start_is_told_to_people(zone: str, text: str, shown: str) -> None:
    clock = load_zone(zone)
    assert describe_start(parse_start(text, clock), clock, at("2026-06-01T00:00Z") + 0.5) == shown


@pytest.mark.parametrize(
    ("zone", "text", "shown"),
    [
        pytest.param("UTC", "2026-12-31", "until the end of 31 December", id="day"),
        pytest.param("UTC", "2027-01-31", "until the end of 31 January 2027", id="day-of-another-year"),
        pytest.param("UTC", "2027-01-01T00:00", "until the end of 31 December", id="midnight"),
        pytest.param(
            "Europe/Athens", "2027-01-31T23:59", "until 31 January 2027, 23:59 Europe/Athens", id="time-of-another-year"
        ),
        pytest.param("Africa/Cairo", "2026-04-23", "until the end of 23 April", id="no-midnight"),
        pytest.param("Africa/Cairo", "2026-10-29", "until the end of 29 October", id="25-hours"),
        pytest.param(
            "Pacific/Apia", "2011-12-29", "until the end of 29 December 2011", id="before-a-day-that-is-skipped"
        ),
        pytest.param("Europe/Athens", "9999-12-31", "until the end of 31 December 9999", id="for-ever"),
        pytest.param("America/New_York", "9999-12-31", "until the end of 31 December 9999", id="for-ever-in-the-west"),
        pytest.param("UTC", "9999-12-31T23:00-14:00", "until 31 December 9999, 23:59:59 UTC", id="behind-the-last-day"),
    ],
)
def test_an_end_is_told_to_people(zone: str, text: str, shown: str) -> None:
    clock = load_zone(zone)
    assert describe_end(parse_end(text, clock), clock, at("2026-06-01T00:00Z") + 0.5) == shown


@pytest.mark.parametrize("name", ["UTC", "Etc/UTC", "Europe/Athens", "America/Argentina/Ushuaia", "EST", "Etc/GMT+2"])
def test_a_zone_has_its_name(name: str) -> None:
    assert str(load_zone(name)) == name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        pytest.param("Europe/Athen", "Europe/Athens", id="cut-short"),
        pytest.param("europe/athens", "Europe/Athens", id="lower-case"),
        pytest.param("Athens", "Europe/Athens", id="city"),
        pytest.param("New York", "America/New_York", id="city-in-two-words"),
        pytest.param("America/New York", "America/New_York", id="space"),
        pytest.param("Asia/Calcuta", "Asia/Calcutta", id="misspelled"),
        pytest.param("utc", "UTC", id="utc-in-lower-case"),
    ],
)
def test_a_zone_that_was_likely_meant_is_suggested(name: str, meant: str) -> None:
    with pytest.raises(TimeError) as refusal:
        load_zone(name)

    assert str(refusal.value) == f"'{name}' is not an IANA time zone; did you mean '{meant}'?"


@pytest.mark.parametrize("name", ["CEST", "PDT", "+02:00", "UTC+2", "GMT-3", "utc+02:00"])
def test_an_abbreviation_or_an_offset_is_no_zone(name: str) -> None:
    with pytest.raises(TimeError) as refusal:
        load_zone(name)

    hint = "an abbreviation or an offset does not say where"
    assert str(refusal.value) == f"not an IANA time zone, such as Europe/Athens; {hint}"


NO_ZONES = [
    pytest.param("", id="empty"),
    pytest.param(" ", id="space"),
    pytest.param(".", id="dot"),
    pytest.param("../etc/passwd", id="above"),
    pytest.param("Europe/../../../../etc/passwd", id="above-from-within"),
    pytest.param("/etc/localtime", id="absolute"),
    pytest.param("/usr/share/zoneinfo/Europe/Athens", id="absolute-and-a-zone"),
    pytest.param("localtime", id="of-the-machine"),
    pytest.param("posixrules", id="of-the-system"),
    pytest.param("right/Europe/Athens", id="with-leap-seconds"),
    pytest.param("posix/Europe/Athens", id="without-leap-seconds"),
    pytest.param("zone.tab", id="file-that-is-no-zone"),
    pytest.param("zones", id="list-of-names"),
    pytest.param("__init__.py", id="file-of-the-package"),
    pytest.param("Europe", id="directory"),
    pytest.param("Europe/", id="directory-with-a-slash"),
    pytest.param("Europe/Athens\x00", id="nul"),
    pytest.param("Europe\\Athens", id="backslash"),
    pytest.param("Europe/\udc80", id="surrogate"),
    pytest.param("Ευρώπη/Αθήνα", id="greek"),
    pytest.param("A" * 100_000, id="very-long"),
    pytest.param("a/" * 50_000, id="very-deep"),
    pytest.param("hunter2", id="password"),
]


@pytest.mark.parametrize("name", NO_ZONES)
def test_what_is_no_zone_is_an_error_and_opens_no_file(name: str) -> None:
    load_zone("Europe/Athens")
    opened: list[object] = []
    # Hooks cannot be taken away: this one ends to listen.
    sys.addaudithook(lambda event, arguments: opened.append(arguments) if event == "open" and listening else None)
    listening = True
    with pytest.raises(TimeError) as refusal:
        load_zone(name)
    listening = False

    assert opened == []
    assert "not an IANA time zone" in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 150


@given(st.text(max_size=30) | st.sampled_from(ZONES).map(lambda name: name[1:] + name[:1]))
@settings(deadline=None)
def test_any_name_is_a_zone_or_a_time_error(name: str) -> None:
    if name in ZONES:
        assert str(load_zone(name)) == name
    else:
        with pytest.raises(TimeError) as refusal:
            load_zone(name)
        assert str(refusal.value).isprintable()


def run(script: str, **environment: str) -> str:
    """What a Python of its own prints, since `zoneinfo` looks at its environment once."""
    script = f"from profiled_spawner.document.times import *\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=os.environ | environment
    )
    return done.stdout.strip()


PARSE = "print(parse_start('2026-12-01', load_zone('Europe/Athens')))"


def test_every_zone_is_there_in_an_image_that_has_none() -> None:
    script = f"import zoneinfo; print(zoneinfo.TZPATH)\n{PARSE}\nfor name in {ZONES}: load_zone(name)"
    assert run(script, PYTHONTZPATH="").split("\n") == ["()", str(at("2026-11-30T22:00Z"))]


def test_the_systems_rules_win(tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    other = files("tzdata.zoneinfo").joinpath("Asia", "Kolkata").read_bytes()
    (tmp_path / "Europe" / "Athens").write_bytes(other)
    assert run(PARSE, PYTHONTZPATH=str(tmp_path)) == str(at("2026-11-30T18:30Z"))


@pytest.mark.parametrize("content", [b"", b"no zone", b"TZif2"], ids=["empty", "text", "cut-short"])
def test_a_damaged_file_of_the_system_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Athens").write_bytes(content)
    script = f"from profiled_spawner.errors import TimeError\ntry: {PARSE}\nexcept TimeError as error: print(error)"
    shown = run(script, PYTHONTZPATH=str(tmp_path))
    assert shown.startswith("the rules of Europe/Athens cannot be read here (")
    assert shown.endswith("); repair the system's time zones, or reinstall the package tzdata")


def test_a_document_without_a_zone_does_not_pay_for_the_rules() -> None:
    assert run("import sys; load_zone('UTC'); print('zoneinfo' in sys.modules)") == "False"
